"""What of GPU time and of requests counts in which budget, read from allocations, claims and rollups.

GPU time is at the price in force at each moment, times the factor of the order's class: what a statement charges for it
at list. What a commitment covers counts at its list price, too: a budget limits what is held, not how it is paid. UTC
hours that a shared period of the endpoint touches are charged to those who use it, by tokens, and count in no budget of
GPU time.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from django.db.models import Q, Sum

from billing import quantities
from billing.budgets.forecast import Flow
from billing.charging import rate_held, rate_used
from billing.costs import GPU_PRICES, token_cuts
from billing.models import Allocation, Budget, GpuClaim, SharedPeriod, UsageHour
from billing.prices import PriceBook, price_book
from billing.quantities import Held, Used
from billing.rating.charges import shown
from tenants.keys import key_line

PLACES: Final = 16

Span = tuple[dt.datetime, dt.datetime]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpus:
    """GPUs of one endpoint that are held or to be held: devices of a type, in a region, at a factor."""

    project_id: uuid.UUID
    endpoint_id: uuid.UUID
    region: str
    gpu_type: str
    gpus: int
    price_factor: Decimal

    @classmethod
    def of(cls, row: GpuClaim | Allocation) -> Gpus:
        """Take them from a row."""
        return cls(
            project_id=row.project_id,
            endpoint_id=row.endpoint_id,
            region=row.region,
            gpu_type=row.gpu_type,
            gpus=row.gpus,
            price_factor=row.price_factor,
        )


class GpuTime:
    """GPU time of the open tenant, as budgets count it; one price book, one list of shared periods.

    ``currency`` is the tenant's. Amounts are exact until :func:`amount` makes them fit a budget's columns.
    """

    def __init__(self, *, tenant_id: uuid.UUID, currency: str) -> None:
        self._tenant_id = tenant_id
        self._book: PriceBook = price_book(currency)
        self._shared: dict[uuid.UUID, list[tuple[dt.datetime, dt.datetime | None]]] = defaultdict(list)
        for endpoint_id, start, end in SharedPeriod.objects.filter(owner=tenant_id).values_list(
            "endpoint_id", "started_at", "ended_at"
        ):
            until = None if end is None else quantities.round_up(end, quantities.HOUR)
            self._shared[endpoint_id].append((quantities.round_down(start, quantities.HOUR), until))

    def settled(self, spans: Iterable[Span], *, now: dt.datetime) -> list[Held]:
        """Give what was held within ``spans`` until ``now``, cut at their edges and where prices change."""
        spans = list(spans)
        if not spans:
            return []
        start, end = min(each[0] for each in spans), min(now, max(each[1] for each in spans))
        edges = {moment for span in spans for moment in span} | self._book.changes(GPU_PRICES)
        edges |= {moment for endpoint_id in self._shared for moment in self._edges(endpoint_id)}
        found = quantities.held(start=start, end=end, now=now, cuts=edges)
        return [held for held in found if not self._is_shared(held.endpoint_id, held.start)]

    def ahead(self, gpus: Gpus, start: dt.datetime, end: dt.datetime) -> list[Held]:
        """Give what ``gpus`` will have held from ``start`` to ``end``; nothing while the endpoint is shared."""
        cuts = self._book.changes(GPU_PRICES) | self._edges(gpus.endpoint_id)
        return [
            Held(
                start=since,
                end=till,
                tenant_id=self._tenant_id,
                project_id=gpus.project_id,
                endpoint_id=gpus.endpoint_id,
                cluster="",
                region=gpus.region,
                gpu_type=gpus.gpu_type,
                price_factor=gpus.price_factor,
                gpu_seconds=gpus.gpus * _seconds(till - since),
            )
            for since, till in quantities.cut(start, end, cuts)
            if not self._is_shared(gpus.endpoint_id, since)
        ]

    def amount(self, budget: Budget, held: Iterable[Held]) -> Decimal:
        """Give what ``held`` comes to in a budget's unit."""
        if budget.unit == Budget.Unit.GPU_HOURS:
            exact = sum((Fraction(each.gpu_seconds) for each in held), Fraction(0)) / 3600
        else:
            exact = sum((rate_held(self._book, each).exact for each in held), Fraction(0))
        return shown(exact, PLACES)

    def flows(self, budget: Budget, start: dt.datetime, end: dt.datetime) -> list[Flow]:
        """Give what the GPUs that are held now will cost from ``start`` to ``end`` if they stay."""
        running = Allocation.objects.filter(owned_by(budget), ended_at=None)
        return [
            Flow(held.start, held.end, self.amount(budget, [held]))
            for row in running
            for held in self.ahead(Gpus.of(row), start, end)
        ]

    def _edges(self, endpoint_id: uuid.UUID) -> set[dt.datetime]:
        return {moment for period in self._shared.get(endpoint_id, ()) for moment in period if moment}

    def _is_shared(self, endpoint_id: uuid.UUID, moment: dt.datetime) -> bool:
        return any(
            start <= moment and (end is None or moment < end)
            for start, end in self._shared.get(endpoint_id, ())
        )


def owned_by(budget: Budget) -> Q:
    """Give the condition under which a row of GPU time counts in a budget."""
    if budget.owner_kind == Budget.OwnerKind.PROJECT:
        return Q(tenant_id=budget.tenant_id, project_id=budget.owner_id)
    return Q(tenant_id=budget.tenant_id)


def counts(budget: Budget, project_id: uuid.UUID) -> bool:
    """Say whether what a project holds counts in a budget."""
    return budget.owner_kind == Budget.OwnerKind.TENANT or budget.owner_id == project_id


def used_amounts(budget: Budget, currency: str, edges: Sequence[dt.datetime]) -> list[Decimal]:
    """Give what requests came to in a budget of the open tenant, between each two of ``edges``.

    Usage is known by the hour, and an hour counts where it begins.
    """
    book = price_book(currency)
    cuts = set(edges) | token_cuts(book)
    start, end = edges[0], edges[-1]
    sums = [Fraction(0)] * (len(edges) - 1)
    for used in _used(budget, start, end, cuts):
        index = next(at for at in range(len(edges) - 1) if edges[at] <= used.start < edges[at + 1])
        if budget.unit == Budget.Unit.TOKENS:
            sums[index] += used.input_tokens + used.output_tokens
        else:
            sums[index] += sum((rated.exact for rated in rate_used(book, used)), Fraction(0))
    return [shown(each, PLACES) for each in sums]


def _used(
    budget: Budget, start: dt.datetime, end: dt.datetime, cuts: Iterable[dt.datetime]
) -> Iterable[Used]:
    if budget.owner_kind == Budget.OwnerKind.KEY:
        for since, till in quantities.cut(start, end, cuts):
            yield from _used_by_key(budget, since, till)
    else:
        for used in quantities.used(start=start, end=end, cuts=cuts):
            if counts(budget, used.project_id):
                yield used


def _used_by_key(budget: Budget, start: dt.datetime, end: dt.datetime) -> Iterable[Used]:
    rows = (
        UsageHour.objects.filter(key_id__in=key_line(budget.owner_id), bucket__gte=start, bucket__lt=end)
        .values("project_id", "model", "slo_class", "region")
        .annotate(
            asked=Sum("requests"),
            given_in=Sum("input_tokens"),
            given_out=Sum("output_tokens"),
            from_cache=Sum("cached_tokens"),
        )
        .order_by()
    )
    for row in rows:
        yield Used(
            start=start,
            end=end,
            tenant_id=budget.tenant_id,
            project_id=row["project_id"],
            endpoint_id=None,
            model=row["model"],
            slo_class=row["slo_class"],
            region=row["region"],
            requests=row["asked"],
            input_tokens=row["given_in"],
            output_tokens=row["given_out"],
            cached_tokens=row["from_cache"],
        )


def _seconds(length: dt.timedelta) -> Decimal:
    return Decimal(length // dt.timedelta(microseconds=1)) / 1_000_000
