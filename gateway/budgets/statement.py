"""What a gateway tells the ledger of one account: how much it gives back, and how much it asks for."""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.budgets.accounts import Account
from gateway.contract import LeaseLine, from_units

#: Seconds of spending that a slice is to last.
_SLICE_S: Final = 2.0
_LEAST_RATED_S: Final = 0.5


class Statement(NamedTuple):
    """One line of a report, in smallest units."""

    account: Account
    granted: int
    settled: int
    held: int
    wanted: int
    needed: int
    recall: int
    is_news: bool

    @property
    def says_anything(self) -> bool:
        """Whether the ledger does not know it yet, or is asked for something."""
        return self.is_news or bool(self.wanted or self.needed)

    def line(self) -> LeaseLine:
        """Give it as the contract has it."""
        unit = self.account.purse.unit
        return LeaseLine(
            budget_id=self.account.purse.budget.budget_id,
            window_start=self.account.start,
            granted=from_units(self.granted, unit),
            settled=from_units(self.settled, unit),
            held=from_units(self.held, unit),
            wanted=from_units(self.wanted, unit),
            needed=from_units(self.needed, unit),
            recall=self.recall,
        )


def state(account: Account, *, now: float, clock: float) -> Statement:
    """Make the statement of an account, and let go at once of what it gives back.

    A slice covers what was let in within the last seconds, or the first slice; twice as much is too much.
    """
    used = account.settled + account.held
    target = _target(account, clock)
    over = now >= account.end_s or account.purse.gone
    recalled = clock < account.frozen_until
    wanted = needed = 0
    if account.queue:
        account.granted = used
        needed = account.waiting
        wanted = needed + target
    elif over or recalled:
        account.granted = used
    elif account.spare > 2 * target:
        account.granted = used + target
    elif account.spare < account.low and clock >= account.pause_until:
        wanted = target - account.spare
        account.asked = True
    elif account.spare < account.low:
        account.asked = False
    return Statement(
        account=account,
        granted=account.granted,
        settled=account.settled,
        held=account.held,
        wanted=wanted,
        needed=needed,
        recall=account.recall,
        is_news=account.told != (account.granted, account.settled, account.held) or recalled,
    )


def _target(account: Account, clock: float) -> int:
    if account.rated_at is None:
        account.rated_at = clock
    elapsed = clock - account.rated_at
    if elapsed >= _LEAST_RATED_S:
        account.rate = (account.rate + account.entered / elapsed) / 2
        account.entered, account.rated_at = 0, clock
        if account.rate * _SLICE_S < account.purse.first / 4:
            account.rate = 0.0
    target = max(account.purse.first, int(account.rate * _SLICE_S))
    account.low = max(1, target // 2)
    return target
