"""What a client is told whose request a budget does not let in."""

from __future__ import annotations

import math
import time
import zoneinfo

from gateway.budgets.accounts import Account
from gateway.contract import Budget, BudgetPeriod, BudgetUnit, from_units
from gateway.errors import ApiError

_FINAL = {"x-should-retry": "false"}
_EACH = {BudgetPeriod.DAY: "day", BudgetPeriod.WEEK: "week", BudgetPeriod.MONTH: "month"}


def exceeded(account: Account, amount: int) -> ApiError:
    """The limit leaves no room for the request until the window ends (429)."""
    purse, budget = account.purse, account.purse.budget
    settled = account.settled + account.elsewhere
    held = account.held + account.elsewhere_held
    silent = ""
    if account.silent:
        silent = f" {_amount(account.silent, budget)} more is with gateways that do not answer and counts as spent."
    return ApiError(
        status=429,
        message=(
            f"The budget {budget.name!r} of {budget.owner} {purse.owner_name} is"
            f" {_amount(purse.limit, budget)} each {_EACH[budget.period]}: {_amount(settled, budget)} is spent,"
            f" {_amount(held, budget)} is held by requests in progress, and this request may need"
            f" {_amount(amount, budget)}.{silent} It resets at {_reset(account)}."
        ),
        type="insufficient_quota",
        code="budget_exceeded",
        retry_after_s=max(1, math.ceil(account.end_s - time.time())),
        more_headers=_FINAL,
    )


def lease_spent(account: Account, amount: int) -> ApiError:
    """The gateway's lease does not cover the request, and the ledger does not say whether the budget does (429)."""
    budget = account.purse.budget
    return ApiError(
        status=429,
        message=(
            f"This gateway has {_amount(account.spare, budget)} left of its lease on the budget {budget.name!r} of"
            f" {budget.owner} {account.purse.owner_name}, this request may need {_amount(amount, budget)}, and the"
            " control plane does not answer for more. The limit itself may not be reached; try again later."
        ),
        type="insufficient_quota",
        code="budget_lease_spent",
        retry_after_s=5,
    )


def not_priced(budget: Budget, endpoint: str) -> ApiError:
    """A budget in money stands before an endpoint whose tokens have no price (503)."""
    return ApiError(
        status=503,
        message=(
            f"The budget {budget.name!r} is in {budget.currency} and endpoint {endpoint} has no usable price per"
            " token, so that nobody can say what this request costs. The platform's operators set prices."
        ),
        type="service_unavailable",
        code="budget_not_priced",
        more_headers=_FINAL,
    )


def other_currency(budget: Budget, endpoint: str, currency: str) -> ApiError:
    """A budget is in another currency than the endpoint's prices (503)."""
    return ApiError(
        status=503,
        message=(
            f"The budget {budget.name!r} is in {budget.currency} and endpoint {endpoint} is priced in {currency}."
            f" Make a budget in {currency} in its place."
        ),
        type="service_unavailable",
        code="budget_currency_differs",
        more_headers=_FINAL,
    )


def _amount(units: int, budget: Budget) -> str:
    if budget.unit is BudgetUnit.TOKENS:
        return f"{units:,} tokens"
    return f"{from_units(units, budget.unit)} {budget.currency}"


def _reset(account: Account) -> str:
    zone = zoneinfo.ZoneInfo(account.purse.budget.time_zone)
    return account.end.astimezone(zone).isoformat(timespec="seconds")
