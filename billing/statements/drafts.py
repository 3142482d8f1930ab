"""Monthly statements: drafts recomputed from allocations and usage, line by line."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Final

from django.db import transaction

from billing import quantities
from billing.charging import Rated, rate_held, rate_used
from billing.costs import GPU_PRICES, Names, token_cuts
from billing.errors import StatementIsFinal
from billing.models import Statement, StatementLine
from billing.prices import PriceBook, price_book
from billing.rating.charges import shown
from billing.rating.periods import Period, month_of
from billing.rating.prices import PriceKind
from billing.rating.rounding import places_of, round_amount, round_lines
from tenants import scope
from tenants.errors import Invalid
from tenants.models import Tenant

#: Lines that are shown beside and not charged keep parts of a cent.
SHOWN_PLACES: Final = 4
#: Decimal places of quantities, as the database keeps them.
QUANTITY_PLACES: Final = 10

_UNITS: Final = {PriceKind.GPU_HOUR: "GPU-hour"}
_WORDS: Final = {
    PriceKind.GPU_HOUR: "GPU-hours",
    PriceKind.INPUT_TOKENS: "Input tokens",
    PriceKind.OUTPUT_TOKENS: "Output tokens",
    PriceKind.CACHED_TOKENS: "Cached input tokens",
}
_LINE_FIELDS: Final = (
    "position", "project_id", "endpoint_id", "endpoint_name", "sku", "description", "basis", "charged",
    "quantity", "unit", "unit_price", "amount", "how",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, order=True, kw_only=True)
class _LineKey:
    """What makes a line: its place in the statement's order, and one price."""

    project: str
    endpoint: str
    project_id: uuid.UUID
    endpoint_id: uuid.UUID
    basis: str
    sku: str
    price_id: str
    factor: Decimal


@transaction.atomic
def statement_draft(*, month: dt.date, now: dt.datetime) -> Statement:
    """Recompute the open tenant's draft for the month of its own zone that holds the day ``month``.

    What is still held is counted until ``now``. Dedicated endpoints are charged for GPU time; the
    tokens they served stand beside it at the price book, not charged. The charged amounts sum to
    the total. Lines are written only if they differ from those that are there.

    Raises:
        Invalid: the month has not begun.
        StatementIsFinal: it is closed.
    """
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    period = month_of(month.year, month.month, tenant.time_zone)
    if period.start > now:
        raise Invalid(
            f"The month {period} has not begun.", errors={"month": ["Choose a month that has begun."]}
        )
    statement = _locked(tenant, period, now)
    book = price_book(tenant.currency)
    lines = _lines(book, period, now, places_of(tenant.currency))
    kept = [_facts(line) for line in statement.lines.all()]
    if [_facts(line) for line in lines] != kept:
        statement.lines.all().delete()
        for line in lines:
            line.statement, line.tenant = statement, tenant
        StatementLine.objects.bulk_create(lines)
    statement.currency = tenant.currency
    statement.period_start, statement.period_end = period.start, period.end
    statement.total = sum((line.amount for line in lines if line.charged), Decimal(0))
    statement.computed_at = now
    statement.save(update_fields=["currency", "period_start", "period_end", "total", "computed_at"])
    return statement


def _locked(tenant: Tenant, period: Period, now: dt.datetime) -> Statement:
    # Whoever comes second waits here for the first and then finds its lines.
    statement, _ = Statement.objects.select_for_update().get_or_create(
        tenant_id=tenant.id,
        month=dt.date(period.year, period.month, 1),
        defaults={
            "currency": tenant.currency,
            "period_start": period.start,
            "period_end": period.end,
            "total": Decimal(0),
            "computed_at": now,
        },
    )
    if statement.state == Statement.State.FINAL:
        raise StatementIsFinal(f"The statement of {period} is final; later usage goes into the next one.")
    return statement


def _lines(book: PriceBook, period: Period, now: dt.datetime, places: int) -> list[StatementLine]:
    groups = _rated_groups(book, period, now)
    exact = {key: sum((rated.exact for rated in found), Fraction(0)) for key, found in groups.items()}
    order = {key: f"{position:09d}" for position, key in enumerate(sorted(groups))}
    charged = [key for key in groups if key.basis == StatementLine.Basis.ALLOCATION]
    rounded = round_lines({order[key]: exact[key] for key in charged}, places)
    return [
        _line(
            key,
            groups[key],
            position=position,
            period=period,
            amount=rounded[order[key]] if order[key] in rounded else round_amount(exact[key], SHOWN_PLACES),
        )
        for position, key in enumerate(sorted(groups), start=1)
    ]


def _rated_groups(book: PriceBook, period: Period, now: dt.datetime) -> dict[_LineKey, list[Rated]]:
    names = Names()
    groups: defaultdict[_LineKey, list[Rated]] = defaultdict(list)

    def put(row: quantities.Held | quantities.Used, rated: Rated, basis: str, sku: str) -> None:
        key = _LineKey(
            project=names.project(row.project_id),
            endpoint=names.endpoint(row.endpoint_id),
            project_id=row.project_id,
            endpoint_id=row.endpoint_id,
            basis=basis,
            sku=sku,
            price_id=rated.step.price_id if rated.step else "",
            factor=rated.step.factor if rated.step else Decimal(1),
        )
        groups[key].append(rated)

    span = {"start": period.start, "end": period.end}
    for held in quantities.held(**span, now=now, cuts=book.changes(GPU_PRICES)):
        sku = f"gpu-hours:{held.gpu_type}:{held.region}"
        put(held, rate_held(book, held), StatementLine.Basis.ALLOCATION, sku)
    for used in quantities.used(**span, cuts=token_cuts(book)):
        if used.endpoint_id is None:  # refused before any endpoint was named: there are no tokens
            continue
        for rated in rate_used(book, used):
            sku = f"{rated.kind.replace('_', '-')}:{used.model}:{used.slo_class}"
            put(used, rated, StatementLine.Basis.USAGE, sku)
    return groups


def _line(
    key: _LineKey, found: list[Rated], *, position: int, period: Period, amount: Decimal
) -> StatementLine:
    first = found[0]
    allocated = key.basis == StatementLine.Basis.ALLOCATION
    quantity = Fraction(sum((rated.quantity for rated in found), Decimal(0))) / first.kind.per
    what = key.sku.partition(":")[2].replace(":", ", ")
    return StatementLine(
        position=position,
        kind=StatementLine.Kind.GPU_TIME if allocated else StatementLine.Kind.TOKENS,
        service_month=dt.date(period.year, period.month, 1),
        service_start=period.start,
        service_end=period.end,
        project_id=key.project_id,
        project_name=key.project,
        endpoint_id=key.endpoint_id,
        endpoint_name=key.endpoint,
        sku=key.sku,
        description=f"{_WORDS[first.kind]}, {what}" + ("" if first.step else " (no price was set)"),
        basis=key.basis,
        charged=allocated,
        quantity=shown(quantity, QUANTITY_PLACES),
        unit=_UNITS.get(first.kind, "million tokens"),
        unit_price=first.step.unit_price * key.factor if first.step else Decimal(0),
        amount=amount,
        how=[rated.step.to_document() if rated.step else {"missing": rated.missing} for rated in found],
    )


def _facts(line: StatementLine) -> list[object]:
    return [getattr(line, name) for name in _LINE_FIELDS]
