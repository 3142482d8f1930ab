"""One budget at this gateway, its windows, and who waits for them. All amounts are whole smallest units."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import NamedTuple

from gateway.contract import Budget, BudgetUnit, budget_window, to_units
from gateway.errors import ApiError

#: The first slice is this part of a budget.
_FIRST_PART = 256


class Purse:
    """One budget: what it says now, and the account of its present window. ``owner_name`` is for refusals."""

    __slots__ = (
        "account",
        "alert_from",
        "alert_name",
        "budget",
        "first",
        "gone",
        "limit",
        "owner_name",
        "unit",
    )

    def __init__(self, budget: Budget, owner_name: str) -> None:
        self.account: Account | None = None
        self.unit: BudgetUnit = budget.unit
        self.define(budget, owner_name)

    def define(self, budget: Budget, owner_name: str) -> None:
        """Take over what a new snapshot says."""
        self.budget = budget
        self.owner_name = owner_name
        self.gone = False
        self.limit = to_units(budget.limit, budget.unit)
        self.first = max(1, self.limit // _FIRST_PART)
        percents = budget.alert_percents
        # Rounded up, so that what is shown is never below the threshold.
        self.alert_from = -(-self.limit * min(percents) // 100) if percents else None
        self.alert_name = "".join(letter if " " <= letter <= "~" else "?" for letter in budget.name)

    def window(self, now: float) -> tuple[dt.datetime, dt.datetime]:
        """Give the window that holds ``now`` (seconds since the epoch)."""
        budget = self.budget
        return budget_window(budget.period, budget.time_zone, dt.datetime.fromtimestamp(now, dt.UTC))


class Account:
    """What this gateway may spend, has spent and may still have to spend of one window.

    ``granted`` >= ``settled`` + ``held`` always. ``told`` is what the ledger was told last of the three, ``elsewhere``
    and ``elsewhere_held`` what other gateways have of the window as far as is known. ``recall`` is the newest recall
    that was heard; until ``frozen_until`` (monotonic) nobody gets in beside the ledger.
    """

    __slots__ = (
        "asked", "elsewhere", "elsewhere_held", "end", "end_s", "entered", "frozen_until", "granted", "held", "key",
        "low", "open", "pause_until", "purse", "queue", "rate", "rated_at", "recall", "settled", "silent", "start",
        "told", "waiting",
    )  # fmt: skip

    def __init__(self, purse: Purse, start: dt.datetime, end: dt.datetime, *, settled: int = 0) -> None:
        self.purse = purse
        self.start = start
        self.end = end
        self.end_s = end.timestamp()
        self.key = charge_key(purse.budget.budget_id, start, end)
        # Nothing unspent outlives a process: what it held is released, what it was granted goes back.
        self.granted = self.settled = settled
        self.held = 0
        self.told: tuple[int, int, int] | None = None
        self.elsewhere = self.elsewhere_held = self.silent = 0
        self.queue: dict[int, Waiter] = {}
        self.waiting = 0
        self.recall = 0
        self.frozen_until = 0.0
        self.open = True  # neither a queue nor frozen
        self.low = 0
        self.asked = False
        self.pause_until = 0.0
        self.entered = 0
        self.rate = 0.0  # let in per second
        self.rated_at: float | None = None

    @property
    def spare(self) -> int:
        """What may still be held."""
        return self.granted - self.settled - self.held

    def never_fits(self, amount: int) -> bool:
        """Say whether what is settled alone, which never shrinks, leaves no room for ``amount``."""
        return self.settled + self.elsewhere + amount > self.purse.limit


class Hold(NamedTuple):
    """What one request may cost of one window."""

    account: Account
    amount: int


class Waiter:
    """A request that no lease covers yet. ``tell`` is called once: with None when it is let in, else its refusal.

    ``asked`` is the sequence of the first report that told of it, 0 before. ``taken`` says that it holds.
    """

    __slots__ = ("asked", "done", "holds", "number", "taken", "tell")

    def __init__(self, number: int, holds: tuple[Hold, ...], tell: Callable[[ApiError | None], None]) -> None:
        self.number = number
        self.holds = holds
        self.tell = tell
        self.asked = 0
        self.done = self.taken = False


def charge_key(budget_id: str, start: dt.datetime, end: dt.datetime) -> str:
    """Give the name of a window in the ``charges`` of usage records: its budget, begin and end."""
    return f"{budget_id}/{start.isoformat()}/{end.isoformat()}"


def read_charge_key(key: str) -> tuple[str, dt.datetime, dt.datetime]:
    """Take the name of a window apart."""
    budget_id, start, end = key.split("/")
    return budget_id, dt.datetime.fromisoformat(start), dt.datetime.fromisoformat(end)
