"""Which statements a run is about: each tenant's month, from which moment to which, and what stands before it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final

from django.conf import settings
from django.db.models import Q

from billing.models import Statement
from billing.rating.periods import Period, month_containing, month_of
from billing.statements.windows import Window
from tenants.models import Tenant

State = Statement.State
_COLUMNS: Final = (
    "id", "tenant_id", "month", "state", "currency", "period_start", "period_end", "computed_at",
    "document_sha256", "tenant_name", "time_zone",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A stored statement, without its lines and inputs."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    month: dt.date
    state: str
    currency: str
    period_start: dt.datetime
    period_end: dt.datetime
    computed_at: dt.datetime
    document_sha256: str
    tenant_name: str
    time_zone: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One tenant's statement of one month, to be computed.

    ``first_open``: no earlier month of the tenant is open, so that corrections go onto this one and it may be closed.
    """

    tenant: Tenant
    window: Window
    currency: str
    kept: Kept | None
    first_open: bool

    @property
    def over(self) -> bool:
        """Say whether the month is over."""
        return self.window.until >= self.window.end

    def due(self, now: dt.datetime) -> bool:
        """Say whether its grace is over."""
        return now >= self.window.end + dt.timedelta(days=settings.STATEMENT_GRACE_DAYS)


def kept_statements(condition: Q) -> list[Kept]:
    """Read statements that meet ``condition``, in order of months."""
    rows = Statement.objects.filter(condition).order_by("month").values_list(*_COLUMNS)
    return [Kept(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def cases(*, month: dt.date, now: dt.datetime, tenant_ids: Collection[uuid.UUID] | None = None) -> list[Case]:
    """Give the statements of ``month`` that are not final, in an order in which those of one window are together.

    A month begins where the tenant's statement of the month before ends, so that a tenant that moves to another zone is
    charged for each hour once; it ends with the month in the tenant's zone, and where it ended once it stays. A month
    without a statement after which one was closed has none any more: what happened in it is charged by corrections.
    For the platform's scope.
    """
    month = month.replace(day=1)
    whose = Q(tenant__in=tenant_ids) if tenant_ids is not None else Q()
    before = (month - dt.timedelta(days=1)).replace(day=1)
    kept: defaultdict[uuid.UUID, dict[dt.date, Kept]] = defaultdict(dict)
    for each in kept_statements(whose & (Q(month__in=(before, month)) | ~Q(state=State.FINAL))):
        kept[each.tenant_id][each.month] = each
    passed = set(
        Statement.objects.filter(whose, month__gt=month, state=State.FINAL).values_list(
            "tenant_id", flat=True
        )
    )
    found = []
    tenants = Tenant.objects.filter(id__in=tenant_ids) if tenant_ids is not None else Tenant.objects.all()
    for tenant in tenants.order_by("time_zone", "currency", "id"):
        own = kept.get(tenant.id, {})
        statement = own.get(month)
        if statement.state == State.FINAL if statement else tenant.id in passed:
            continue
        window = _window(
            tenant, month_of(month.year, month.month, tenant.time_zone), own.get(before), statement, now
        )
        if window.start >= window.until:
            continue
        found.append(
            Case(
                tenant=tenant,
                window=window,
                currency=statement.currency if statement else tenant.currency,
                kept=statement,
                first_open=not any(each.month < month and each.state != State.FINAL for each in own.values()),
            )
        )
    return sorted(found, key=lambda case: (case.window.start, case.window.end, case.currency))


def _window(
    tenant: Tenant, period: Period, before: Kept | None, statement: Kept | None, now: dt.datetime
) -> Window:
    start = before.period_end if before else period.start
    end = statement.period_end if statement and statement.period_end <= now else period.end
    return Window(month=dt.date(period.year, period.month, 1), start=start, end=end, until=min(now, end))


def late_windows(
    case: Case, marks: Collection[tuple[dt.datetime, dt.datetime]], finals: Collection[Kept]
) -> Iterator[tuple[Window, str]]:
    """Give the closed months that changes reach, with the currency they were charged in.

    A month in which nothing had happened has no statement; one after which a later month was closed counts as closed.
    """
    finals = sorted(finals, key=lambda each: each.month)
    by_month = {each.month: each for each in finals}
    found: dict[dt.date, tuple[Window, str]] = {}
    for since, marked in marks:
        until = min(marked, case.window.start)
        for each in finals:
            if each.period_start < until and each.period_end > since:
                found[each.month] = (_closed(each.month, each.period_start, each.period_end), each.currency)
        period = month_containing(since, case.tenant.time_zone)
        while period.start < until:
            month = dt.date(period.year, period.month, 1)
            if month not in by_month and month < case.window.month:
                earlier = [each.period_end for each in finals if each.month < month]
                later = [each.period_start for each in finals if each.month > month]
                start = max([period.start, *earlier])
                end = min([period.end, case.window.start, *later])
                if start < min(end, until) and end > since:
                    found[month] = (_closed(month, start, end), case.currency)
            period = month_containing(period.end, case.tenant.time_zone)
    for month in sorted(found):
        yield found[month]


def _closed(month: dt.date, start: dt.datetime, end: dt.datetime) -> Window:
    return Window(month=month, start=start, end=end, until=end)
