"""What the running month has cost so far, and would cost if it went on like that."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Final

from billing.costs.series import Costs, cost_series
from billing.costs.sums import PLACES
from billing.rating.periods import Period, month_containing
from tenants import scope
from tenants.models import Tenant

#: Less of a month than this says nothing about the rest.
FIRST_SAID: Final = dt.timedelta(days=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MonthSoFar:
    """``charged`` until ``now`` in a month of the tenant's zone, before commitments and credits.

    ``by_its_end`` is that, straight on until the month ends; None on the month's first day.
    """

    period: Period
    now: dt.datetime
    currency: str
    charged: Decimal
    by_its_end: Decimal | None


def month_so_far(*, now: dt.datetime, known: Costs | None = None) -> MonthSoFar:
    """Sum what the open tenant is charged of the month that runs.

    ``known`` saves the counting where it is of the same time and of everything.
    """
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    period = month_containing(now, tenant.time_zone)
    if known is None or (known.start, known.end) != (period.start, now):
        known = cost_series(start=period.start, end=now, now=now) if period.start < now else None
    charged = known.total.charged if known else Decimal(0)
    passed = now - period.start
    whole = Decimal((period.end - period.start) / dt.timedelta(microseconds=1))
    part = Decimal(passed / dt.timedelta(microseconds=1))
    return MonthSoFar(
        period=period,
        now=now,
        currency=tenant.currency,
        charged=charged,
        by_its_end=round(charged * whole / part, PLACES) if passed >= FIRST_SAID else None,
    )
