"""Budgets, and the leases by which gateways spend them without asking.

The control plane's ledger holds one budget per owner; what is left of it is granted to gateways in slices. A slice
is cumulative: ``granted`` is all that a gateway may ever spend of one window, ``settled`` what it has spent of it,
``held`` what its open requests may still cost. The sum of what is granted never exceeds the budget, and a gateway
gives back by reporting a smaller ``granted``.

Where what is free does not cover a gateway's ``needed``, the ledger recalls: every gateway gives back what it does
not hold, twice in a row, and lets nobody in beside the ledger meanwhile. Only then is a request refused.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import zoneinfo
from typing import Final

from gateway.contract.base import Message
from gateway.contract.owners import Owner

LEASES_PATH: Final = "/api/gateway/v1/leases"
MOST_LINES: Final = 1_000  # in one report
#: Longest wait, in seconds, that a gateway may ask of the ledger for news (query parameter ``wait``).
MOST_LEASE_WAIT_S: Final = 25.0
#: How long after a recall a gateway lets nobody in without asking.
RECALL_S: Final = 2.0


class BudgetUnit(enum.StrEnum):
    """What a budget counts."""

    MONEY = "money"
    TOKENS = "tokens"  # input and output together


class BudgetPeriod(enum.StrEnum):
    """How long a window of a budget is: by the calendar of its time zone; weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


#: Decimal places of the smallest unit. Prices have at most 10 places per million tokens, so that tokens times price
#: is a whole number of 1e-16.
PLACES: Final = {BudgetUnit.MONEY: 16, BudgetUnit.TOKENS: 0}
_EXACT: Final = decimal.Context(prec=80, traps=[decimal.InvalidOperation, decimal.Inexact])


class Budget(Message, frozen=True):
    """How much ``owner_id`` may spend in each window. ``limit`` is a decimal string, of ``currency`` or tokens.

    ``alert_percents`` are the shares of the limit from which clients are warned.
    """

    budget_id: str
    tenant_id: str
    owner: Owner
    owner_id: str
    name: str
    unit: BudgetUnit
    limit: str
    period: BudgetPeriod
    time_zone: str
    currency: str = ""
    alert_percents: tuple[int, ...] = ()


class LeaseLine(Message, frozen=True):
    """One gateway's account of one window. ``wanted`` is how much more it would like, "0" for nothing.

    ``needed`` is how much more waiting requests need; a line that needs has ``granted`` = ``settled`` + ``held``.
    The ledger says so once it is granted or surely not there. ``recall`` is the number of the newest recall that the
    gateway had heard of when it made the line.
    """

    budget_id: str
    window_start: dt.datetime
    granted: str
    settled: str
    held: str
    wanted: str = "0"
    needed: str = "0"
    recall: int = 0


class LeaseReport(Message, frozen=True):
    """Lines that changed. ``sequence`` grows with every report of a gateway; an older one is not heard.

    ``gateway`` is the gateway's name, a slash, and the instance of its data folder. The first report of a process
    ``begins``: nothing of an earlier process is open any more, and what it does not name is only settled.
    """

    gateway: str
    sequence: int
    lines: tuple[LeaseLine, ...]
    begins: bool = False


class Grant(Message, frozen=True):
    """What the ledger says of one line. ``left`` is what nobody was granted of the window.

    ``settled`` and ``held`` sum all gateways as far as is known; ``silent`` is the unspent part of what gateways
    hold that do not answer. ``recall`` is the number of a recall that the gateway has not answered, 0 for none.
    ``sure`` is the sequence of the report whose need is hereby decided, 0 for none: what is not granted of it is
    not there.
    """

    budget_id: str
    window_start: dt.datetime
    granted: str
    left: str
    settled: str = "0"
    held: str = "0"
    silent: str = "0"
    recall: int = 0
    sure: int = 0


class LeaseAnswer(Message, frozen=True):
    """The answer to a report."""

    grants: tuple[Grant, ...]


def to_units(amount: str, unit: BudgetUnit) -> int:
    """Turn a decimal string into whole smallest units.

    Raises:
        ValueError: it is no finite number, or finer than the smallest unit.
    """
    try:
        scaled = decimal.Decimal(amount).scaleb(PLACES[unit], _EXACT)
        return int(scaled.to_integral_exact(context=_EXACT))
    except (decimal.DecimalException, ValueError, OverflowError) as error:
        raise ValueError(f"{amount!r} is no amount of {unit}") from error


def from_units(units: int, unit: BudgetUnit) -> str:
    """Turn smallest units into a decimal string, exactly and without needless zeros."""
    places = PLACES[unit]
    if not places:
        return str(units)
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), 10**places)
    return f"{sign}{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")


def budget_window(
    period: BudgetPeriod, time_zone: str, moment: dt.datetime
) -> tuple[dt.datetime, dt.datetime]:
    """Give begin and end, in UTC, of the window that holds ``moment``.

    Windows follow each other without gaps. Where midnight comes twice, the first one counts.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: no such time zone.
    """
    zone = zoneinfo.ZoneInfo(time_zone)
    day = moment.astimezone(zone).date()
    if period is BudgetPeriod.WEEK:
        day -= dt.timedelta(days=day.weekday())
    elif period is BudgetPeriod.MONTH:
        day = day.replace(day=1)
    following = _following(period, day)
    begin, end = _midnight(day, zone), _midnight(following, zone)
    if moment >= end:  # clocks were put back over midnight: the day before goes on after its end
        begin, end = end, _midnight(_following(period, following), zone)
    return begin, end


def _following(period: BudgetPeriod, day: dt.date) -> dt.date:
    if period is BudgetPeriod.DAY:
        return day + dt.timedelta(days=1)
    if period is BudgetPeriod.WEEK:
        return day + dt.timedelta(days=7)
    return (day + dt.timedelta(days=32)).replace(day=1)


def _midnight(day: dt.date, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)
