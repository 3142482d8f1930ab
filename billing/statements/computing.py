"""From cases to composed statements: gathers what a chunk of tenants needs at once, and composes each."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec
from django.db import connection
from django.db.models import F, Q, Sum

from billing.models import Commitment, Credit, StatementLine
from billing.prices import price_books
from billing.rating.prices import PriceBook
from billing.statements.cases import Case, Kept, State, kept_statements, late_windows
from billing.statements.compose import Composed, compose
from billing.statements.gather import Names, months, names_of
from billing.statements.inputs import Charged, CreditLeft, Inputs, Listed, Month
from billing.statements.lines import Kind, identity
from billing.statements.shared import Shares
from billing.statements.tariffs import Rates, Tariff, kept, listed
from billing.statements.windows import Window

_FIRST_MISSED: Final = """
WITH gap AS (SELECT * FROM unnest(%(tenants)s::uuid[], %(since)s::timestamptz[]) AS gap (tenant_id, since))
SELECT tenant_id, min(first) FROM (
    SELECT gap.tenant_id, min(bucket) AS first FROM gap JOIN billing_usageday AS day
        ON day.tenant_id = gap.tenant_id AND bucket > since - interval '1 day'
        AND bucket <= %(until)s::timestamptz - interval '1 day' GROUP BY 1
    UNION ALL
    SELECT gap.tenant_id, min(bucket) AS first FROM gap JOIN billing_usagehour AS hour
        ON hour.tenant_id = gap.tenant_id AND bucket >= greatest(since, date_trunc('day', %(until)s, 'UTC'))
        AND bucket < %(until)s GROUP BY 1
    UNION ALL
    SELECT gap.tenant_id, min(started_at) FROM gap JOIN billing_allocation AS held
        ON held.tenant_id = gap.tenant_id AND started_at < %(until)s AND (ended_at IS NULL OR ended_at > since)
        GROUP BY 1
    UNION ALL
    SELECT gap.tenant_id, min(starts_at) FROM gap JOIN billing_commitment AS committed
        ON committed.tenant_id = gap.tenant_id AND starts_at < %(until)s AND ends_at > since GROUP BY 1
) AS happened GROUP BY tenant_id
"""

Marks = Mapping[uuid.UUID, Sequence[tuple[dt.datetime, dt.datetime]]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """A statement as it comes to now. ``problems`` stand against closing it."""

    case: Case
    inputs: Inputs
    composed: Composed
    problems: tuple[str, ...]


def compute(cases: Sequence[Case], shares: Shares, marks: Marks, *, look_back: bool = True) -> list[Computed]:
    """Compute cases of one window and currency; those in which nothing happened are left out.

    ``marks`` say when changes were noted that closed months do not hold yet. With ``look_back`` a month that is over
    takes up earlier ones in which no run came by. For the platform's scope.
    """
    window, currency = cases[0].window, cases[0].currency
    ids = [case.tenant.id for case in cases]
    books = price_books(currency, ids)
    names = names_of(ids, shares)
    own = months(
        window=window, currencies=dict.fromkeys(ids, currency), books=books, names=names, shares=shares
    )
    late, foreign = _late(cases, books, names, shares, marks, look_back=look_back)
    for tenant_id, problem in _foreign_commitments(ids, currency, window):
        foreign.setdefault(tenant_id, []).append(problem)
    credits = _credits(ids, currency, window)
    carried = _carried(ids, currency, window)
    prices = listed(currency, ids)
    # Tenants without prices of their own share a book, and so what was looked up in it.
    rates = {id(book): Rates(book) for book in books.values()}
    computed = []
    for case in cases:
        tenant = case.tenant
        inputs = _inputs(
            case,
            own[tenant.id],
            tuple(late.get(tenant.id, ())),
            names,
            credits=tuple(credits.get(tenant.id, ())),
            carried=carried.get(tenant.id, Decimal(0)),
        )
        if inputs.is_empty and case.kept is None:
            continue
        composed = compose(inputs, Tariff(own=rates[id(books[tenant.id])], listed=rates[id(books[None])]))
        computed.append(
            Computed(
                case=case,
                inputs=_with_prices(inputs, composed, [*prices.get(None, ()), *prices.get(tenant.id, ())]),
                composed=composed,
                problems=(*composed.problems, *_currency_problems(case), *foreign.get(tenant.id, ())),
            )
        )
    return computed


def _inputs(
    case: Case,
    month: Month,
    late: tuple[Month, ...],
    names: Names,
    *,
    credits: tuple[CreditLeft, ...],
    carried: Decimal,
) -> Inputs:
    tenant = case.tenant
    rows = [row for each in (month, *late) for row in (*each.held, *each.used, *each.shares, *each.attained)]
    projects, endpoints = names.projects.get(tenant.id, {}), names.endpoints.get(tenant.id, {})
    return Inputs(
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        tenant_slug=tenant.slug,
        time_zone=tenant.time_zone,
        currency=case.currency,
        month=month,
        late=late,
        projects=tuple(
            projects[each] for each in sorted({row.project_id for row in rows}) if each in projects
        ),
        endpoints=tuple(
            endpoints[each] for each in sorted({row.endpoint_id for row in rows}) if each in endpoints
        ),
        credits=credits,
        carried=carried,
    )


def _with_prices(inputs: Inputs, composed: Composed, prices: Iterable[Listed]) -> Inputs:
    classes = {row.slo_class for each in (inputs.month, *inputs.late) for row in each.used}
    return msgspec.structs.replace(inputs, prices=kept(prices, composed.price_ids, classes))


def _late(
    cases: Sequence[Case],
    books: Mapping[uuid.UUID | None, PriceBook],
    names: Names,
    shares: Shares,
    marks: Marks,
    *,
    look_back: bool,
) -> tuple[dict[uuid.UUID, list[Month]], dict[uuid.UUID, list[str]]]:
    """Gather the closed months that changed since, and say which cannot go onto a statement in another currency."""
    first_open = [case for case in cases if case.first_open]
    finals: defaultdict[uuid.UUID, list[Kept]] = defaultdict(list)
    for each in kept_statements(Q(tenant__in=[case.tenant.id for case in first_open], state=State.FINAL)):
        finals[each.tenant_id].append(each)
    missed = _missed([case for case in first_open if case.over and look_back], finals)
    all_marks = {
        case.tenant.id: [*marks.get(case.tenant.id, ()), *missed.get(case.tenant.id, ())]
        for case in first_open
    }
    marked = [case for case in first_open if all_marks[case.tenant.id]]
    by_window: defaultdict[Window, list[Case]] = defaultdict(list)
    foreign: defaultdict[uuid.UUID, list[str]] = defaultdict(list)
    for case in marked:
        for window, currency in late_windows(case, all_marks[case.tenant.id], finals[case.tenant.id]):
            if currency == case.currency:
                by_window[window].append(case)
            else:
                foreign[case.tenant.id].append(
                    f"what changed of {window.month:%Y-%m}, charged in {currency}, cannot go onto a statement in "
                    f"{case.currency}: settle it by hand, then unpark"
                )
    found: defaultdict[uuid.UUID, list[Month]] = defaultdict(list)
    for window in sorted(by_window, key=lambda window: (window.month, window.start)):
        of_window = [case.tenant.id for case in by_window[window]]
        charged = _charged(of_window, window.month)
        again = months(
            window=window,
            currencies=dict.fromkeys(of_window, cases[0].currency),
            books=books,
            names=names,
            shares=shares,
            split=False,  # the shares of a closed month stay as they were
        )
        for tenant_id in of_window:
            month = msgspec.structs.replace(again[tenant_id], charged=tuple(charged.get(tenant_id, ())))
            if not month.is_empty:
                found[tenant_id].append(month)
    return found, foreign


def _missed(
    cases: Sequence[Case], finals: Mapping[uuid.UUID, Sequence[Kept]]
) -> dict[uuid.UUID, list[tuple[dt.datetime, dt.datetime]]]:
    """Give the time between a tenant's last closed statement, or its beginning, and this one, if it was used.

    Such are months in which no run came by: they are as late as what came after their close.
    """
    beginning = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    since = {
        case.tenant.id: max((each.period_end for each in finals.get(case.tenant.id, ())), default=beginning)
        for case in cases
    }
    gaps = {
        case.tenant.id: since[case.tenant.id] for case in cases if since[case.tenant.id] < case.window.start
    }
    if not gaps:
        return {}
    until = cases[0].window.start
    with connection.cursor() as cursor:
        cursor.execute(_FIRST_MISSED, {"tenants": list(gaps), "since": list(gaps.values()), "until": until})
        return {tenant_id: [(max(first, gaps[tenant_id]), until)] for tenant_id, first in cursor.fetchall()}


def _charged(tenant_ids: Collection[uuid.UUID], month: dt.date) -> dict[uuid.UUID, list[Charged]]:
    """Sum what final statements hold of a service month, line by line."""
    rows = (
        StatementLine.objects.filter(tenant__in=tenant_ids, service_month=month, statement__state=State.FINAL)
        .exclude(kind__in=(Kind.CREDIT, Kind.SHARED_GPU_TIME))
        .order_by("tenant_id", "statement__month", "position")
    )
    sums: defaultdict[uuid.UUID, dict[tuple, Charged]] = defaultdict(dict)
    facts = Charged.__struct_fields__
    for row in rows:
        charged = Charged(**{name: getattr(row, name) for name in facts})
        key = identity(charged)
        before = sums[row.tenant_id].get(key)
        if before is not None:
            charged = msgspec.structs.replace(
                before,
                **{
                    name: getattr(before, name) + getattr(charged, name)
                    for name in ("quantity", "amount", "list_amount", "effective_amount")
                },
            )
        sums[row.tenant_id][key] = charged
    return {tenant_id: list(found.values()) for tenant_id, found in sums.items()}


def _credits(
    tenant_ids: Collection[uuid.UUID], currency: str, window: Window
) -> dict[uuid.UUID, list[CreditLeft]]:
    """Give what is left of the credits that hold in the window, those that expire first before the others."""
    rows = list(
        Credit.objects.filter(
            Q(expires_at=None) | Q(expires_at__gt=window.start),
            tenant__in=tenant_ids,
            currency=currency,
            available_from__lt=window.end,
        )
    )
    used = (
        dict(
            StatementLine.objects.filter(
                kind=Kind.CREDIT,
                tenant__in={row.tenant_id for row in rows},
                credit_id__in=[row.id for row in rows],
                statement__month__lt=window.month,
            )
            .order_by()
            .values_list("credit_id")
            .annotate(Sum("amount"))
        )
        if rows
        else {}
    )
    found: defaultdict[uuid.UUID, list[CreditLeft]] = defaultdict(list)
    far = dt.datetime.max.replace(tzinfo=dt.UTC)
    for row in sorted(rows, key=lambda row: (row.expires_at or far, row.available_from, str(row.id))):
        left = row.amount + used.get(row.id, Decimal(0))
        if left > 0:
            found[row.tenant_id].append(
                CreditLeft(
                    id=row.id,
                    reason=row.reason,
                    available_from=row.available_from,
                    expires_at=row.expires_at,
                    left=left,
                )
            )
    return found


def _carried(tenant_ids: Collection[uuid.UUID], currency: str, window: Window) -> dict[uuid.UUID, Decimal]:
    """Give what earlier statements carried forward in the tenants' favour and later ones did not take yet."""
    rows = StatementLine.objects.filter(
        kind=Kind.CREDIT,
        credit_id=None,
        tenant__in=tenant_ids,
        statement__month__lt=window.month,
        statement__currency=currency,
    )
    return dict(rows.order_by().values_list("tenant_id").annotate(Sum("amount")))


def _foreign_commitments(
    tenant_ids: Collection[uuid.UUID], currency: str, window: Window
) -> Iterator[tuple[uuid.UUID, str]]:
    """Say which commitments of the window are not on the statements, being in another currency."""
    rows = Commitment.objects.filter(
        tenant__in=tenant_ids, starts_at__lt=window.until, ends_at__gt=window.start
    ).exclude(currency=currency)
    for row in rows.exclude(ends_at=F("starts_at")).order_by("starts_at", "id"):
        yield (
            row.tenant_id,
            f"the commitment {row.name} is in {row.currency}, the statement of {window.month:%Y-%m} in {currency}: "
            "settle it by hand, then unpark",
        )


def _currency_problems(case: Case) -> tuple[str, ...]:
    if case.kept is None or case.kept.state != State.DRAFT or case.currency == case.tenant.currency:
        return ()
    return (
        f"the currency changed from {case.currency} to {case.tenant.currency} within {case.window.month:%Y-%m}: set it "
        f"back until the month is closed, or unpark to bill the whole month in {case.tenant.currency}",
    )
