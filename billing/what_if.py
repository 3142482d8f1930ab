"""What if: a month of all tenants rated anew by a price book that is tried, beside the prices it has.

Both sides come about in the one way in which statements do, from the same quantities, cut wherever a price of either
side changes: the charged lines of the month itself, commitments and credits for missed targets included. Granted
credits and corrections of earlier months are left out, for no price of this month made them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from django.db.models import Q

from billing.models import Book, Statement
from billing.prices import price_books
from billing.rating.prices import PriceBook
from billing.rating.rounding import places_of
from billing.statements.cases import Case, cases, kept_statements
from billing.statements.gather import months, names_of
from billing.statements.inputs import Inputs, Month
from billing.statements.lines import Line
from billing.statements.reckoning import reckon
from billing.statements.shared import Shares
from billing.statements.tariffs import Rates, Tariff
from billing.statements.windows import Window
from tenants import scope
from tenants.models import Tenant

#: Tenants that are read at once.
CHUNK: Final = 250
ZERO: Final = Decimal(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """An amount as it is, and as it would be."""

    before: Decimal
    after: Decimal

    @property
    def amount(self) -> Decimal:
        """How much more it would be, negative where it would be less."""
        return self.after - self.before

    @property
    def percent(self) -> Decimal | None:
        """The same in percent of what it is, to a tenth; None where it is 0."""
        return round(100 * self.amount / self.before, 1) if self.before else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TenantRerated(Difference):
    """What a tenant's month comes to. ``state`` and ``number`` are its statement's, empty where there is none yet."""

    tenant_id: uuid.UUID
    slug: str
    name: str
    currency: str
    state: str
    number: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkuRerated(Difference):
    """What one SKU of a tenant's month comes to."""

    sku: str
    description: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rerated:
    """A month by a book: its tenants, those whose amount would change most first, and the sums by currency."""

    month: dt.date
    book: Book
    tenants: tuple[TenantRerated, ...]
    totals: dict[str, Difference]


def month_rerated(
    *, month: dt.date, book: Book, now: dt.datetime, tenant_ids: Collection[uuid.UUID] | None = None
) -> Rerated:
    """Rate the month that holds the day ``month`` by ``book``, of all tenants or some; a running one until ``now``."""
    found = []
    sums: defaultdict[str, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    with scope.platform("rate a month by a price book that is tried"):
        numbers = dict(
            Statement.objects.filter(month=month.replace(day=1)).order_by().values_list("tenant_id", "number")
        )
        for case, before, after in _reckoned(month, book, now, tenant_ids):
            row = TenantRerated(
                tenant_id=case.tenant.id,
                slug=case.tenant.slug,
                name=case.tenant.name,
                currency=case.currency,
                state=case.kept.state if case.kept else "",
                number=numbers.get(case.tenant.id, ""),
                before=_charged(before),
                after=_charged(after),
            )
            found.append(row)
            sums[row.currency][0] += row.before
            sums[row.currency][1] += row.after
    return Rerated(
        month=month.replace(day=1),
        book=book,
        tenants=tuple(sorted(found, key=lambda row: (-abs(row.amount), row.name, row.slug))),
        totals={
            currency: Difference(before=before, after=after)
            for currency, (before, after) in sorted(sums.items())
        },
    )


def skus_rerated(*, month: dt.date, book: Book, tenant: Tenant, now: dt.datetime) -> tuple[SkuRerated, ...]:
    """Tell what one tenant's month comes to by ``book`` by SKU, those that would change most first."""
    sums: defaultdict[str, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    words: dict[str, str] = {}
    with scope.platform("rate a tenant's month by a price book that is tried"):
        for _, *sides in _reckoned(month, book, now, [tenant.id]):
            for side, lines in enumerate(sides):
                for line in lines:
                    if line.charged:
                        sums[line.sku][side] += line.amount
                        words.setdefault(line.sku, line.description)
    found = [
        SkuRerated(sku=sku, description=words[sku], before=before, after=after)
        for sku, (before, after) in sums.items()
    ]
    return tuple(sorted(found, key=lambda row: (-abs(row.amount), row.sku)))


def _reckoned(
    month: dt.date, book: Book, now: dt.datetime, tenant_ids: Collection[uuid.UUID] | None = None
) -> Iterator[tuple[Case, Sequence[Line], Sequence[Line]]]:
    """Give each tenant in whose month something happened with its lines as they are and as they would be."""
    shares = Shares(now)
    found = sorted(
        [*cases(month=month, now=now, tenant_ids=tenant_ids), *_closed(month, tenant_ids)],
        key=lambda case: (case.window.start, case.window.end, case.window.until, case.currency),
    )
    whose: defaultdict[str, list[uuid.UUID]] = defaultdict(list)
    for case in found:
        whose[case.currency].append(case.tenant.id)
    live = {currency: _rates(price_books(currency, ids)) for currency, ids in whose.items()}
    tried = {currency: _rates(price_books(currency, ids, book=book)) for currency, ids in whose.items()}
    for (window, currency), alike in itertools.groupby(found, key=lambda case: (case.window, case.currency)):
        rest = list(alike)
        for first in range(0, len(rest), CHUNK):
            yield from _chunk(
                rest[first : first + CHUNK], window, currency, live[currency], tried[currency], shares
            )


_RatesOf = Mapping[uuid.UUID | None, Rates]


def _rates(books: Mapping[uuid.UUID | None, PriceBook]) -> _RatesOf:
    """Give the rates of each book, the same ones for tenants of one book."""
    of_book = {book: Rates(book) for book in set(books.values())}
    return {tenant_id: of_book[book] for tenant_id, book in books.items()}


def _chunk(
    chunk: Sequence[Case], window: Window, currency: str, live: _RatesOf, tried: _RatesOf, shares: Shares
) -> Iterator[tuple[Case, Sequence[Line], Sequence[Line]]]:
    ids = [case.tenant.id for case in chunk]
    # The tried books hold the live prices too, so that quantities are cut where either changes.
    gathered = months(
        window=window,
        currencies=dict.fromkeys(ids, currency),
        books={tenant_id: tried[tenant_id].book for tenant_id in ids},
        names=names_of(ids, shares),
        shares=shares,
    )
    for case in chunk:
        of_month = gathered[case.tenant.id]
        if not of_month.is_empty:
            inputs = _inputs(case, of_month)
            yield case, _lines(inputs, live[case.tenant.id]), _lines(inputs, tried[case.tenant.id])


def _closed(month: dt.date, tenant_ids: Collection[uuid.UUID] | None) -> list[Case]:
    whose = Q(tenant__in=tenant_ids) if tenant_ids is not None else Q()
    finals = kept_statements(whose & Q(month=month.replace(day=1), state=Statement.State.FINAL))
    tenants = Tenant.objects.in_bulk([kept.tenant_id for kept in finals])
    return [
        Case(
            tenant=tenants[kept.tenant_id],
            window=Window(
                month=kept.month, start=kept.period_start, end=kept.period_end, until=kept.period_end
            ),
            currency=kept.currency,
            kept=kept,
            first_open=False,
        )
        for kept in finals
    ]


def _inputs(case: Case, month: Month) -> Inputs:
    return Inputs(
        tenant_id=case.tenant.id,
        tenant_name=case.tenant.name,
        tenant_slug=case.tenant.slug,
        time_zone=case.tenant.time_zone,
        currency=case.currency,
        month=month,
    )


def _lines(inputs: Inputs, rates: Rates) -> Sequence[Line]:
    return reckon(inputs.month, inputs, Tariff(own=rates, listed=rates), places_of(inputs.currency)).lines


def _charged(lines: Sequence[Line]) -> Decimal:
    return sum((line.amount for line in lines if line.charged), ZERO)
