"""Budgets, and the leases by which gateways spend them without asking.

The control plane's ledger holds one budget per owner; what is left of it is granted to gateways in slices. A slice
is cumulative: ``granted`` is all that a gateway may ever spend of one window, ``settled`` what it has spent of it,
``held`` what its open requests may still cost. The sum of what is granted never exceeds the budget, and a gateway
gives back by reporting a smaller ``granted``.
"""

from __future__ import annotations

import datetime as dt
import enum
import zoneinfo
from typing import Final

from gateway.contract.base import Message
from gateway.contract.owners import Owner

LEASES_PATH: Final = "/api/gateway/v1/leases"


class BudgetUnit(enum.StrEnum):
    """What a budget counts."""

    MONEY = "money"
    TOKENS = "tokens"  # input and output together


class BudgetPeriod(enum.StrEnum):
    """How long a window of a budget is: by the calendar of its time zone; weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Budget(Message, frozen=True):
    """How much ``owner_id`` may spend in each window. ``limit`` is a decimal string, of ``currency`` or tokens."""

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


class LeaseLine(Message, frozen=True):
    """One gateway's account of one window. ``wanted`` is how much more it asks for, "0" for nothing.

    ``needed`` is how much of that a waiting request needs: the answer waits until it is granted or surely not there.
    """

    budget_id: str
    window_start: dt.datetime
    granted: str
    settled: str
    held: str
    wanted: str = "0"
    needed: str = "0"


class LeaseReport(Message, frozen=True):
    """All lines that changed. ``sequence`` grows with every report of a gateway; an older one is not heard."""

    gateway: str
    sequence: int
    lines: tuple[LeaseLine, ...]


class Grant(Message, frozen=True):
    """The answer to a line. ``left`` is what nobody has spent or holds of the window, as far as is known.

    ``recall`` asks the gateway to give back what it does not hold.
    """

    budget_id: str
    window_start: dt.datetime
    granted: str
    left: str
    recall: bool = False


class LeaseAnswer(Message, frozen=True):
    """The answer to a report."""

    grants: tuple[Grant, ...]


def budget_window(
    period: BudgetPeriod, time_zone: str, moment: dt.datetime
) -> tuple[dt.datetime, dt.datetime]:
    """Give begin and end, in UTC, of the window that holds ``moment``.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: no such time zone.
    """
    zone = zoneinfo.ZoneInfo(time_zone)
    day = moment.astimezone(zone).date()
    if period is BudgetPeriod.DAY:
        first, last = day, day + dt.timedelta(days=1)
    elif period is BudgetPeriod.WEEK:
        first = day - dt.timedelta(days=day.weekday())
        last = first + dt.timedelta(days=7)
    else:
        first = day.replace(day=1)
        last = (first + dt.timedelta(days=32)).replace(day=1)
    begin, end = (dt.datetime.combine(date, dt.time(), zone).astimezone(dt.UTC) for date in (first, last))
    return begin, end
