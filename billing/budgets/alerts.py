"""Telling people and programs of a window: a share of the limit is spent, all of it, or will be.

Each is told once a window, in the transaction in which it became so: a row, the tenant's webhooks, and e-mail.
"""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo
from decimal import Decimal
from typing import Any, Final

from billing.budgets.forecast import Forecast
from billing.budgets.words import amount_text, budget_url, owner_text
from billing.models import Budget, BudgetAlert, BudgetWindow
from tenants import webhooks
from tenants.models import Tenant

_MOST_PERCENT: Final = 1_000_000_000
_EVENTS: Final = {
    BudgetAlert.Kind.THRESHOLD: "budget.threshold_reached",
    BudgetAlert.Kind.SPENT: "budget.spent",
    BudgetAlert.Kind.FORECAST: "budget.forecast_exceeded",
}


def tell(window: BudgetWindow, *, now: dt.datetime) -> None:
    """Tell what of a window's limit was reached and not told yet. Callers hold the window and save it."""
    if not window.settled or not window.budget.active:
        return
    reached = [
        percent
        for percent in sorted(window.budget.alert_percents)
        if percent > window.alerted and window.settled * 100 >= window.limit * percent
    ]
    spent = window.spent_at is None and window.settled >= window.limit
    if reached:
        window.alerted = max(reached)
        _rows(window, BudgetAlert.Kind.THRESHOLD, reached, now)
        _publish(window, BudgetAlert.Kind.THRESHOLD, max(reached), now, by_mail=not spent)
    if spent:
        window.spent_at = now
        _rows(window, BudgetAlert.Kind.SPENT, [100], now)
        _publish(window, BudgetAlert.Kind.SPENT, 100, now)


def tell_forecast(window: BudgetWindow, forecast: Forecast, *, now: dt.datetime) -> None:
    """Tell that a window is expected to pass its limit, unless it was told or is spent. Callers save the window."""
    if window.forecast_at is not None or window.spent_at is not None or not window.budget.active:
        return
    if forecast.expected is None or forecast.expected <= window.limit:
        return
    window.forecast_at = now
    percent = percent_of(forecast.expected, window.limit)
    _rows(window, BudgetAlert.Kind.FORECAST, [percent], now)
    _publish(window, BudgetAlert.Kind.FORECAST, percent, now, forecast=forecast)


def percent_of(amount: Decimal, limit: Decimal) -> int:
    """Give the whole percents that ``amount`` is of ``limit``; 100 of a limit of nothing."""
    return min(_MOST_PERCENT, int(amount * 100 / limit)) if limit else 100


def _rows(window: BudgetWindow, kind: str, percents: list[int], now: dt.datetime) -> None:
    BudgetAlert.objects.bulk_create(
        [
            BudgetAlert(tenant_id=window.tenant_id, window=window, kind=kind, percent=percent, reached_at=now)
            for percent in percents
        ],
        ignore_conflicts=True,
    )


def _publish(
    window: BudgetWindow,
    kind: BudgetAlert.Kind,
    percent: int,
    now: dt.datetime,
    *,
    forecast: Forecast | None = None,
    by_mail: bool = True,
) -> None:
    budget = window.budget
    tenant = Tenant.objects.get(id=window.tenant_id)
    owner = owner_text(budget)
    data = _document(window, tenant, owner, percent)
    if forecast is not None:
        data["forecast"] = {
            "expected": _plain(forecast.expected),
            "low": _plain(forecast.low),
            "high": _plain(forecast.high),
            "reached_at": forecast.reached_at,
        }
    # The same for one fact, whoever finds it: telling it again writes nothing.
    event_id = uuid.uuid5(window.id, f"{kind.value} {percent} of {_plain(window.limit)}")
    webhooks.publish(_EVENTS[kind], data, tenant_id=tenant.id, event_id=event_id, now=now)
    if by_mail and budget.mail_alerts:
        subject, text = _letter(window, tenant, owner, kind, percent, forecast)
        webhooks.mail(
            tenant_id=tenant.id,
            event_type=_EVENTS[kind],
            subject=subject,
            text=text,
            recipients=budget.recipients,
            event_id=event_id,
            now=now,
        )


def _document(window: BudgetWindow, tenant: Tenant, owner: str, percent: int) -> dict[str, Any]:
    budget = window.budget
    return {
        "tenant": tenant.slug,
        "budget": {
            "id": budget.id,
            "name": budget.name,
            "owner_kind": budget.owner_kind,
            "owner_id": budget.owner_id,
            "owner": owner,
            "basis": budget.basis,
            "unit": budget.unit,
            "currency": budget.currency,
            "policy": budget.policy,
            "url": budget_url(tenant.slug, budget.id),
        },
        "window": {"start": window.start, "resets_at": window.end},
        "percent": percent,
        "limit": _plain(window.limit),
        "settled": _plain(window.settled),
        "held": _plain(window.held),
    }


def _letter(
    window: BudgetWindow,
    tenant: Tenant,
    owner: str,
    kind: BudgetAlert.Kind,
    percent: int,
    forecast: Forecast | None,
) -> tuple[str, str]:
    budget = window.budget
    resets = f"{_local(window.end, tenant)} ({tenant.time_zone})"
    headline = {
        BudgetAlert.Kind.THRESHOLD: f"{percent} % of the budget {budget.name} is spent",
        BudgetAlert.Kind.SPENT: f"The budget {budget.name} is spent",
        BudgetAlert.Kind.FORECAST: f"The budget {budget.name} is expected to pass its limit",
    }[kind]
    lines = [
        f"{headline}.",
        "",
        f"Tenant:    {tenant.name}",
        f"Owner:     {owner}",
        f"Spent:     {amount_text(budget, window.settled)} of {amount_text(budget, window.limit)}",
        f"Reserved:  {amount_text(budget, window.held)}",
    ]
    if forecast is not None and forecast.expected is not None:
        lines.append(f"Expected:  {amount_text(budget, forecast.expected)} when the window ends")
        if forecast.reached_at is not None:
            lines.append(f"Limit:     reached about {_local(forecast.reached_at, tenant)}")
    lines += [f"Resets at: {resets}", "", _consequence(budget, kind)]
    if url := budget_url(tenant.slug, budget.id):
        lines += ["", url]
    return f"[{tenant.name}] {headline}", "\n".join(lines) + "\n"


def _consequence(budget: Budget, kind: BudgetAlert.Kind) -> str:
    when = "From now on" if kind == BudgetAlert.Kind.SPENT else "Once it is spent"
    if budget.policy == Budget.Policy.WARN:
        return f"{when}, nothing is refused: this budget only warns."
    refused = (
        "orders and changes that need more GPUs are refused"
        if budget.basis == Budget.Basis.GPU_TIME
        else "requests are refused"
    )
    stopped = (
        ", and its owner's endpoints are paused; people resume them"
        if budget.policy == Budget.Policy.STOP
        else ""
    )
    return f"{when}, {refused}{stopped}, until the window begins anew or the limit is raised."


def _local(moment: dt.datetime, tenant: Tenant) -> str:
    return f"{moment.astimezone(zoneinfo.ZoneInfo(tenant.time_zone)):%Y-%m-%d %H:%M}"


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.normalize():f}"
