"""The gate of budgets: holds what a request may cost, and settles what it did cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from gateway.budgets import costs, refusals
from gateway.budgets.accounts import Account, Hold, Purse
from gateway.budgets.book import LeaseBook
from gateway.contract import BudgetUnit
from gateway.demand import Demand
from gateway.errors import ApiError
from gateway.gates import Permit
from gateway.replies import Usage

#: How long a request that no lease covers waits for the ledger's word.
PATIENCE_S: Final = 3.0
ALERT_HEADER: Final = "x-berth-budget-alert"
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class BudgetGate:
    """Lets in what the leases of ``book`` cover. ``is_away`` says whether the ledger cannot be asked now.

    ``refused`` is told the code of every refusal.
    """

    def __init__(
        self,
        book: LeaseBook,
        *,
        is_away: Callable[[], bool],
        refused: Callable[[str], None] = lambda code: None,
    ) -> None:
        self._book = book
        self._is_away = is_away
        self._refused = refused

    async def enter(self, demand: Demand) -> Permit:
        """Hold what ``demand`` may cost of every budget of its key, project and tenant.

        Raises:
            ApiError: a limit is reached or the ledger cannot be asked (429), or nobody can say what it costs (503).
        """
        purses = self._book.purses(demand.key)
        if not purses:
            return _FREE
        try:
            holds, tariff = self._holds(purses, demand)
            if not self._book.take(holds):
                await self._wait(holds)
        except ApiError as error:
            self._refused(error.code or "")
            raise
        return _Held(self._book, holds, tariff)

    def _holds(
        self, purses: tuple[Purse, ...], demand: Demand
    ) -> tuple[tuple[Hold, ...], costs.Tariff | None]:
        tariff = None
        holds = []
        for purse in purses:
            if purse.unit is BudgetUnit.TOKENS:
                amount = demand.most_tokens
            else:
                tariff = tariff or _tariff(purse, demand)
                if tariff.currency != purse.budget.currency:
                    raise refusals.other_currency(purse.budget, demand.endpoint.name, tariff.currency)
                amount = costs.most_money(demand, tariff)
            account = self._book.account(purse)
            if account.never_fits(amount):
                raise refusals.exceeded(account, amount)
            holds.append(Hold(account, amount))
        return tuple(holds), tariff

    async def _wait(self, holds: tuple[Hold, ...]) -> None:
        if self._is_away():
            raise refusals.lease_spent(*_uncovered(holds))
        outcome: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()
        waiter = self._book.wait(holds, lambda refusal: outcome.done() or outcome.set_result(refusal))
        try:
            async with asyncio.timeout(PATIENCE_S):
                refusal = await outcome
        except TimeoutError as error:
            # Both may come in the same moment: what was let in stays in.
            if not waiter.taken:
                raise refusals.lease_spent(*_uncovered(holds)) from error
            return
        except BaseException:
            if waiter.taken:
                for hold in holds:
                    self._book.settle(hold, 0)
            raise
        finally:
            self._book.leave(waiter)
        if refusal is not None:
            raise refusal


def _tariff(purse: Purse, demand: Demand) -> costs.Tariff:
    prices = demand.prices
    if prices is None:
        raise refusals.not_priced(purse.budget, demand.endpoint.name)
    try:
        return costs.tariff(prices)
    except ValueError as error:
        raise refusals.not_priced(purse.budget, demand.endpoint.name) from error


def _uncovered(holds: tuple[Hold, ...]) -> Hold:
    return next((hold for hold in holds if hold.account.spare < hold.amount), holds[0])


class _Free:
    """The permit of a request that no budget pays for."""

    headers: Mapping[str, str] = _NOTHING

    def settle(self, usage: Usage) -> Mapping[str, str]:
        return _NOTHING

    def withdraw(self) -> None:
        return


_FREE: Final = _Free()


class _Held:
    """The permit of a request that holds something."""

    __slots__ = ("_book", "_holds", "_tariff")

    def __init__(self, book: LeaseBook, holds: tuple[Hold, ...], tariff: costs.Tariff | None) -> None:
        self._book = book
        self._holds = holds
        self._tariff = tariff

    @property
    def headers(self) -> Mapping[str, str]:
        alerts = [alert for account, _ in self._holds if (alert := _alert(account))]
        return {ALERT_HEADER: ", ".join(alerts)} if alerts else _NOTHING

    def settle(self, usage: Usage) -> Mapping[str, str]:
        charges = {}
        for hold in self._holds:
            if hold.account.purse.unit is BudgetUnit.TOKENS:
                actual = usage.input_tokens + usage.output_tokens
            else:
                assert self._tariff is not None
                actual = costs.money(usage, self._tariff)
            self._book.settle(hold, actual)
            if actual:
                charges[hold.account.key] = str(actual)
        return charges

    def withdraw(self) -> None:
        for hold in self._holds:
            self._book.settle(hold, 0)


def _alert(account: Account) -> str:
    purse, spent = account.purse, account.settled + account.elsewhere
    if purse.alert_from is None or spent < purse.alert_from:
        return ""
    percent = spent * 100 // purse.limit if purse.limit else 100
    return f"{purse.alert_name} {percent}%"
