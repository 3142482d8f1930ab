"""What a period cost, on both bases: GPU time held, and tokens used at the price book.

Read from rollups and allocations. Times are half-open intervals; a day is a UTC day. Amounts are in
the tenant's currency with :data:`PLACES` decimal places, to be looked at; statements round to money.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction

from django.utils import timezone

from billing import quantities
from billing.charging import rate_held, rate_used
from billing.models import EndpointLabel
from billing.prices import PriceBook, price_book
from billing.quantities import HOUR, Held, Used
from billing.rating.charges import shown
from billing.rating.prices import PriceKind
from tenants import scope
from tenants.models import Project, Tenant

PLACES = 6
MILLION = 1_000_000

GPU_PRICES = frozenset({PriceKind.GPU_HOUR})
TOKEN_PRICES = frozenset(PriceKind) - GPU_PRICES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Quantities and what they cost; ``input_tokens`` include ``cached_tokens``."""

    gpu_hours: Decimal
    allocation: Decimal
    usage: Decimal
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    @property
    def allocation_per_million_tokens(self) -> Decimal | None:
        """What a million tokens came to on the allocation basis; None without tokens."""
        return self.allocation * MILLION / self.tokens if self.tokens else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointCost:
    """An endpoint's cost; ``endpoint_id`` is None for requests that named no endpoint."""

    project_id: uuid.UUID
    project: str
    endpoint_id: uuid.UUID | None
    endpoint: str
    model: str
    slo_class: str
    cost: Cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectCost:
    """A project's cost."""

    project_id: uuid.UUID
    project: str
    cost: Cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostSummary:
    """A period's cost. ``unpriced`` names what was used and has no price, which counts as 0.

    ``idle_share`` is the part of the GPU time that fell into hours without one request, 0..1; None if
    no GPUs were held.
    """

    start: dt.datetime
    end: dt.datetime
    currency: str
    total: Cost
    projects: tuple[ProjectCost, ...]
    endpoints: tuple[EndpointCost, ...]
    idle_share: Decimal | None
    unpriced: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DailyCost:
    """The cost of one UTC day, of everything or of one group."""

    day: dt.date
    group: str
    label: str
    cost: Cost


class Sums:
    """Exact sums of priced quantities, and what lacked a price."""

    def __init__(self) -> None:
        self.gpu_seconds = Decimal(0)
        self.allocation = Fraction(0)
        self.usage = Fraction(0)
        self.counts = [0, 0, 0, 0]
        self.unpriced: set[str] = set()

    def add_held(self, book: PriceBook, held: Held) -> None:
        rated = rate_held(book, held)
        self.gpu_seconds += held.gpu_seconds
        self.allocation += rated.exact
        self.unpriced |= {rated.missing} - {""}

    def add_used(self, book: PriceBook, used: Used) -> None:
        for rated in rate_used(book, used):
            self.usage += rated.exact
            self.unpriced |= {rated.missing} - {""}
        counts = (used.requests, used.input_tokens, used.output_tokens, used.cached_tokens)
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]

    def add(self, other: Sums) -> None:
        self.gpu_seconds += other.gpu_seconds
        self.allocation += other.allocation
        self.usage += other.usage
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.unpriced |= other.unpriced

    def cost(self) -> Cost:
        requests, input_tokens, output_tokens, cached_tokens = self.counts
        return Cost(
            gpu_hours=shown(Fraction(self.gpu_seconds) / 3600, PLACES),
            allocation=shown(self.allocation, PLACES),
            usage=shown(self.usage, PLACES),
            requests=requests,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached_tokens,
        )


def cost_summary(*, start: dt.datetime, end: dt.datetime, now: dt.datetime | None = None) -> CostSummary:
    """Sum the open tenant's cost in ``[start, end)`` by endpoint and project."""
    now = now or timezone.now()
    currency = Tenant.objects.get(id=scope.current_tenant_id()).currency
    book = price_book(currency)
    names = Names()
    by_endpoint = _sums(book, start, end, now, key=lambda row: (row.project_id, row.endpoint_id))
    by_project, total = _total(by_endpoint, key=lambda key: key[0])
    return CostSummary(
        start=start,
        end=end,
        currency=currency,
        total=total.cost(),
        projects=tuple(
            sorted(
                (
                    ProjectCost(project_id=project_id, project=names.project(project_id), cost=sums.cost())
                    for project_id, sums in by_project.items()
                ),
                key=lambda each: (each.project, str(each.project_id)),
            )
        ),
        endpoints=tuple(
            sorted(
                (
                    EndpointCost(
                        project_id=project_id,
                        project=names.project(project_id),
                        endpoint_id=endpoint_id,
                        endpoint=names.endpoint(endpoint_id),
                        model=names.label(endpoint_id).model,
                        slo_class=names.label(endpoint_id).slo_class,
                        cost=sums.cost(),
                    )
                    for (project_id, endpoint_id), sums in by_endpoint.items()
                ),
                key=lambda each: (each.project, each.endpoint, str(each.endpoint_id)),
            )
        ),
        idle_share=_idle_share(total, start, end, now),
        unpriced=tuple(sorted(total.unpriced)),
    )


def daily_costs(
    *, start: dt.datetime, end: dt.datetime, group_by: str = "", now: dt.datetime | None = None
) -> list[DailyCost]:
    """Give the open tenant's cost for each UTC day that ``[start, end)`` touches, in order of days.

    ``group_by`` is empty for one row a day, ``project`` or ``endpoint``; days without cost have a row
    only when it is empty.
    """
    now = now or timezone.now()
    book = price_book(Tenant.objects.get(id=scope.current_tenant_id()).currency)
    names = Names()
    groups: dict[str, Callable[[Held | Used], tuple[str, str]]] = {
        "": lambda row: ("", ""),
        "project": lambda row: (str(row.project_id), names.project(row.project_id)),
        "endpoint": lambda row: (str(row.endpoint_id or ""), names.endpoint(row.endpoint_id)),
    }
    grouped = groups[group_by]
    days = list(quantities.midnights(start, end))
    sums = _sums(book, start, end, now, key=lambda row: (row.start.date(), *grouped(row)), cuts=days)
    if not group_by:
        for day in days:
            sums.setdefault((day.date(), "", ""), Sums())
    return [
        DailyCost(day=day, group=group, label=label, cost=found.cost())
        for (day, group, label), found in sorted(
            sums.items(), key=lambda item: (item[0][0], item[0][2], item[0][1])
        )
    ]


class Names:
    """What projects and endpoints of the open tenant are called, read once."""

    def __init__(self) -> None:
        self._projects = dict(Project.objects.values_list("id", "name"))
        self._labels = {label.endpoint_id: label for label in EndpointLabel.objects.all()}

    def project(self, project_id: uuid.UUID) -> str:
        return self._projects.get(project_id, str(project_id))

    def by_id(self) -> dict[str, str]:
        """Give the names of all projects and endpoints by id."""
        endpoints = {str(endpoint_id): label.name for endpoint_id, label in self._labels.items()}
        return endpoints | {str(project_id): name for project_id, name in self._projects.items()}

    def endpoint(self, endpoint_id: uuid.UUID | None) -> str:
        return self.label(endpoint_id).name

    def label(self, endpoint_id: uuid.UUID | None) -> EndpointLabel:
        """Give the endpoint's label, or one that shows its id where none was written."""
        found = self._labels.get(endpoint_id)
        return found or EndpointLabel(name=str(endpoint_id) if endpoint_id else "(no endpoint)")


def token_cuts(book: PriceBook) -> set[dt.datetime]:
    """Give the whole hours around each change of a token price: usage is known by the hour."""
    changes = book.changes(TOKEN_PRICES)
    return {quantities.round_down(moment, HOUR) for moment in changes} | {
        quantities.round_up(moment, HOUR) for moment in changes
    }


def _sums(
    book: PriceBook,
    start: dt.datetime,
    end: dt.datetime,
    now: dt.datetime,
    *,
    key: Callable[[Held | Used], tuple],
    cuts: Iterable[dt.datetime] = (),
) -> dict[tuple, Sums]:
    sums: defaultdict[tuple, Sums] = defaultdict(Sums)
    cuts = set(cuts)
    for held in quantities.held(start=start, end=end, now=now, cuts=book.changes(GPU_PRICES) | cuts):
        sums[key(held)].add_held(book, held)
    for used in quantities.used(start=start, end=end, cuts=token_cuts(book) | cuts):
        sums[key(used)].add_used(book, used)
    return dict(sums)


def _total(
    sums: dict[tuple, Sums], *, key: Callable[[tuple], uuid.UUID]
) -> tuple[dict[uuid.UUID, Sums], Sums]:
    groups: defaultdict[uuid.UUID, Sums] = defaultdict(Sums)
    total = Sums()
    for each, found in sums.items():
        groups[key(each)].add(found)
        total.add(found)
    return dict(groups), total


def _idle_share(total: Sums, start: dt.datetime, end: dt.datetime, now: dt.datetime) -> Decimal | None:
    if not total.gpu_seconds:
        return None
    busy = quantities.busy_gpu_seconds(start=start, end=end, now=now)
    return round(1 - busy / total.gpu_seconds, 4)
