"""How a window of a budget is lent to gateways, and when a gateway is told that nothing is left. Plain Python.

The sum of what is granted stays within the limit, so that nothing is ever spent twice. That nobody is refused while
there is room is the harder half: what one gateway needs may lie unspent at another. A question that the free part
does not answer recalls it in rounds. Once all have heard a round, none has anything unspent, and none lets requests
in beside the ledger for :data:`gateway.contract.RECALL_S`; what they hold only shrinks from then on. What they report
in one more round was therefore all held at once, at the moment of the first of those reports. If that and the need
exceed the limit, the refusal was true at that moment, which lies between the question and its answer.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import ROUND_DOWN, Context, Decimal
from typing import Final, Protocol

from gateway.contract import PLACES, RECALL_S, BudgetUnit, LeaseLine

#: How long a gateway may take to answer a recall before it counts as silent, its whole lease as spent.
PATIENCE: Final = dt.timedelta(seconds=1)
_RECALL: Final = dt.timedelta(seconds=RECALL_S)
#: A gateway that heard of a recall so lately lets nobody in for long enough to finish a question.
_FROZEN: Final = _RECALL - PATIENCE
#: What nobody needs yet is lent in parts of what is free, so that it never gathers at one gateway.
_PART: Final = 8
_ZERO: Final = Decimal(0)
_EXACT: Final = Context(prec=60)


class Lease(Protocol):
    """What one gateway was granted of a window, and what it asks.

    ``heard`` is the recall that its last report had heard of. While a question is open, ``asked_at`` is when it was
    first put, ``asked_sequence`` by which report, ``awaits`` the recall that the others must answer (0: none begun),
    ``round_at`` when that began. ``news`` says that it was not told yet of what is decided since its last report:
    ``offered`` is how much it was granted thereby, ``sure`` the question whose rest is not there.
    """

    lessee: str
    granted: Decimal
    settled: Decimal
    held: Decimal
    sequence: int
    reported_at: dt.datetime
    heard: int
    silent: bool
    needed: Decimal
    asked_at: dt.datetime | None
    asked_sequence: int
    awaits: int
    round_at: dt.datetime | None
    last_round: bool
    news: bool
    offered: Decimal
    sure: int


class Window(Protocol):
    """One window of a budget; sums are over its leases. ``excess`` is what lies beyond the limit.

    ``recalls`` counts the rounds of recalling, ``questions`` what is open.
    """

    limit: Decimal
    granted: Decimal
    settled: Decimal
    held: Decimal
    excess: Decimal
    recalls: int
    recalled_at: dt.datetime | None
    questions: int


def hear(window: Window, lease: Lease, line: LeaseLine, *, sequence: int, now: dt.datetime) -> bool:
    """Take over what a gateway says of its lease. Says False, and changes nothing, if it said something later."""
    if sequence <= lease.sequence:
        return False
    settled, held, needed = Decimal(line.settled), Decimal(line.held), Decimal(line.needed)
    # What was granted meanwhile and not told is no part of what it says.
    granted = max(Decimal(line.granted), settled + held) + lease.offered
    window.granted += granted - lease.granted
    window.settled += settled - lease.settled
    window.held += held - lease.held
    # What is spent is spent: by an engine that gave more than was asked, or before the limit was lowered.
    window.excess = max(_ZERO, window.granted - window.limit)
    lease.granted, lease.settled, lease.held = granted, settled, held
    lease.sequence, lease.reported_at, lease.heard = sequence, now, max(lease.heard, line.recall)
    lease.silent = False
    if lease.news:
        return True  # it asks again for what it does not know to be decided
    if needed > 0:
        lease.needed = needed
        if lease.asked_at is None:
            lease.asked_at, lease.asked_sequence = now, sequence
            window.questions += 1
    elif lease.asked_at is not None:
        _close(window, lease)
    return True


def told(lease: Lease) -> None:
    """Note that a gateway is being told of all that is decided."""
    lease.news, lease.offered, lease.sure = False, _ZERO, 0


def release(window: Window, lease: Lease) -> None:
    """Take back what a gateway that is gone has not settled; if it comes back, its own account counts again."""
    window.granted -= lease.granted - lease.settled
    window.held -= lease.held
    window.excess = max(_ZERO, window.granted - window.limit)
    lease.granted, lease.held = lease.settled, _ZERO
    told(lease)
    if lease.asked_at is not None:
        _close(window, lease)


def decide(window: Window, leases: Sequence[Lease], *, now: dt.datetime) -> set[str]:
    """Answer what gateways asked, first come first served. Gives the lessees that must be told or asked."""
    called: set[str] = set()
    for asker in sorted(
        (lease for lease in leases if lease.asked_at is not None),
        key=lambda lease: (lease.asked_at, lease.lessee),
    ):
        free = window.limit - window.granted
        if asker.needed <= free:
            asker.offered += asker.needed
            _grant(window, asker, asker.needed)
        elif window.settled >= window.limit or _all_is_in(window, asker, leases, now):
            asker.offered += max(_ZERO, free)
            _grant(window, asker, max(_ZERO, free))
            asker.sure = asker.asked_sequence
        else:
            # Those who ask later wait, so that nothing is taken from who came first.
            called |= {lease.lessee for lease in _holders(asker, leases) if lease.heard < asker.awaits}
            break
        called.add(asker.lessee)
        asker.news = True
        _close(window, asker)
    return called


def _all_is_in(window: Window, asker: Lease, leases: Sequence[Lease], now: dt.datetime) -> bool:
    """Say whether what others hold is surely held; begin the round of recalls that is missing."""
    holders = _holders(asker, leases)
    if not holders:
        return True
    dry = all(lease.granted == lease.settled + lease.held for lease in holders)
    if not asker.awaits:
        frozen = (
            dry
            and window.recalled_at is not None
            and now - window.recalled_at < _FROZEN
            and all(lease.heard == window.recalls for lease in holders)
        )
        _begin_round(window, asker, now, last=frozen)
        return False
    late = [lease for lease in holders if lease.heard < asker.awaits]
    if late:
        assert asker.round_at is not None
        if now - asker.round_at < PATIENCE:
            return False
        for lease in late:
            lease.silent = True
        return _all_is_in(window, asker, leases, now)
    if asker.last_round and dry:
        return True
    _begin_round(window, asker, now, last=dry)
    return False


def _holders(asker: Lease, leases: Iterable[Lease]) -> list[Lease]:
    """Give those from whom something may still come."""
    return [
        lease for lease in leases if lease is not asker and not lease.silent and lease.granted > lease.settled
    ]


def _begin_round(window: Window, asker: Lease, now: dt.datetime, *, last: bool) -> None:
    window.recalls += 1
    window.recalled_at = asker.round_at = now
    asker.awaits, asker.last_round = window.recalls, last


def top_up(window: Window, lease: Lease, wanted: Decimal, *, unit: BudgetUnit, now: dt.datetime) -> None:
    """Grant of what a gateway would like, unless others wait or have just waited for the same."""
    if window.questions or (window.recalled_at is not None and now - window.recalled_at < _RECALL):
        return
    free = window.limit - window.granted
    part = (free / _PART).quantize(Decimal(1).scaleb(-PLACES[unit]), rounding=ROUND_DOWN, context=_EXACT)
    if part > 0:
        _grant(window, lease, min(wanted, part))


def _grant(window: Window, lease: Lease, amount: Decimal) -> None:
    window.granted += amount
    lease.granted += amount


def _close(window: Window, lease: Lease) -> None:
    window.questions -= 1
    lease.needed, lease.asked_at, lease.asked_sequence = _ZERO, None, 0
    lease.awaits, lease.round_at, lease.last_round = 0, None, False


def keep(window: Window, lease: Lease, *, settled: Decimal, held: Decimal) -> None:
    """Take over what the control plane itself counts as spent and as reserved, whether or not it fits.

    Whoever must not pass the limit compares ``window.granted`` with it before anything is saved.
    """
    window.granted += settled + held - lease.granted
    window.settled += settled - lease.settled
    window.held += held - lease.held
    window.excess = max(_ZERO, window.granted - window.limit)
    lease.granted, lease.settled, lease.held = settled + held, settled, held


def limit_to(window: Window, limit: Decimal, *, now: dt.datetime) -> None:
    """Give a window another limit; what gateways hold beyond it without need is recalled."""
    window.limit = limit
    window.excess = max(_ZERO, window.granted - limit)
    if window.excess:
        window.recalls += 1
        window.recalled_at = now


def is_recalled(window: Window, lease: Lease) -> bool:
    """Say whether the gateway must be asked to give back; not for its own question's sake."""
    if lease.heard >= window.recalls or lease.granted <= lease.settled:
        return False
    if not (window.questions or window.excess):
        return False
    return lease.asked_at is None or lease.awaits != window.recalls
