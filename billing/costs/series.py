"""What a period cost on both bases, as a whole or by bucket, told apart by any dimensions and narrowed to some.

Read from rollups and allocations in a handful of statements, whatever the period. Times are half-open intervals.
Amounts are in the tenant's currency with :data:`PLACES` decimal places, to be looked at: exact sums of exact amounts,
each rounded once. Statements round to money. Commitments and credits are the statement's.

GPU time belongs to the project, model and class of its endpoint's label and to the region of its cluster; usage to
the project of its key, the class that held for the request and the region of its gateway. By key or route, GPU time is
split (:mod:`billing.costs.split`).
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
import functools
import itertools
import operator
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

from django.utils import timezone

from billing.buckets import Width, buckets
from billing.charging import rate_used
from billing.costs import reading, split
from billing.costs.dimensions import SPLIT, Dimension, Group, Names, Narrow
from billing.costs.held_sums import held_sums
from billing.costs.reading import HeldPart, UsedPart
from billing.costs.sums import GPU_PRICES, MILLION, Cost, Sums, attoseconds, token_cuts
from billing.models import SharedPeriod
from billing.prices import PriceBook, price_book
from billing.quantities import HOUR, Interval, round_down, round_up
from tenants import scope
from tenants.models import Tenant


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CostGroup:
    """One group of one bucket. ``group`` has a value for each dimension asked for, empty where there is none.

    ``outcomes`` are requests by how they ended, in the order of :data:`reading.OUTCOMES`.
    """

    start: dt.datetime
    end: dt.datetime
    group: Group
    labels: tuple[str, ...]
    sums: Sums
    outcomes: tuple[int, ...]

    @functools.cached_property
    def cost(self) -> Cost:
        """The sums, rounded."""
        return self.sums.cost()

    @property
    def label(self) -> str:
        """What the group is called."""
        return ", ".join(self.labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """A period's cost. ``unpriced`` names what was used and has no price, which counts as 0.

    ``groups`` are in order of time, then of name; a bucket without cost has none. ``whole`` are the groups of the
    whole period, dearest first.
    """

    start: dt.datetime
    end: dt.datetime
    currency: str
    dimensions: tuple[Dimension, ...]
    intervals: tuple[Interval, ...]
    total: Cost
    groups: tuple[CostGroup, ...]
    whole: tuple[CostGroup, ...]
    unpriced: tuple[str, ...]


def cost_series(
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: Width | None = None,
    group_by: Sequence[Dimension] = (),
    narrow: Narrow | None = None,
    now: dt.datetime | None = None,
    names: Names | None = None,
) -> Costs:
    """Sum the open tenant's cost in ``[start, end)`` by bucket (None: the whole period) and group."""
    now = now or timezone.now()
    narrow = narrow or Narrow()
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    names = names or Names()
    counted = _Count(tenant, start, end, width, tuple(group_by), narrow, now, names)
    return counted.costs()


def cost_summary(
    *,
    start: dt.datetime,
    end: dt.datetime,
    group_by: Sequence[Dimension] = (Dimension.PROJECT, Dimension.ENDPOINT),
    narrow: Narrow | None = None,
    now: dt.datetime | None = None,
) -> Costs:
    """Sum the open tenant's cost in ``[start, end)``, by project and endpoint unless asked otherwise."""
    return cost_series(start=start, end=end, group_by=group_by, narrow=narrow, now=now)


#: By these, GPU time is told apart by its endpoint and what the endpoint's label says.
_OF_ENDPOINTS = {Dimension.ENDPOINT, Dimension.MODEL, Dimension.SLO_CLASS}
_NONE = (0,) * len(reading.OUTCOMES)


class _Shared:
    """When the tenant's own endpoints were sold by the token: whole hours, which are charged by tokens alone.

    What is shared in a part of an hour is so in all of it.
    """

    def __init__(self, names: Names, start: dt.datetime, end: dt.datetime) -> None:
        self._own = set(names.labels)
        self._hours: defaultdict[uuid.UUID, list[Interval]] = defaultdict(list)
        periods = SharedPeriod.objects.filter(endpoint_id__in=self._own, started_at__lt=end).exclude(
            ended_at__lte=start
        )
        for period in periods if self._own else ():
            since = round_down(period.started_at, HOUR)
            till = round_up(period.ended_at, HOUR) if period.ended_at else end
            self._hours[period.endpoint_id].append((since, till))

    @property
    def any(self) -> bool:
        """Whether any was, in this period."""
        return bool(self._hours)

    @property
    def cuts(self) -> set[dt.datetime]:
        return set(itertools.chain.from_iterable(itertools.chain.from_iterable(self._hours.values())))

    def by_tokens(self, endpoint_id: uuid.UUID | None, moment: dt.datetime) -> bool:
        """Say whether an endpoint of the tenant's own is charged by tokens at ``moment``."""
        if endpoint_id is None or not self._hours:
            return False
        return any(since <= moment < till for since, till in self._hours.get(endpoint_id, ()))


class _Count:
    """One counting: reads, prices and sums."""

    def __init__(
        self,
        tenant: Tenant,
        start: dt.datetime,
        end: dt.datetime,
        width: Width | None,
        dimensions: tuple[Dimension, ...],
        narrow: Narrow,
        now: dt.datetime,
        names: Names,
    ) -> None:
        self.start, self.end, self.now = start, end, now
        self.tenant, self.dimensions, self.narrow, self.names = tenant, dimensions, narrow, names
        self.book = price_book(tenant.currency)
        self.shared = _Shared(names, start, end)
        self.intervals = buckets(start, end, width, tenant.time_zone) if width else [(start, end)]
        self.sums: defaultdict[tuple[int, Group], Sums] = defaultdict(Sums)
        self.outcomes: dict[tuple[int, Group], tuple[int, ...]] = {}

    def costs(self) -> Costs:
        bucket_starts = [since for since, _ in self.intervals]
        used_edges = self._edges(bucket_starts, token_cuts(self.book) | self.shared.cuts)
        # Which of the tenant's own endpoints it was decides only where one of them was shared.
        by = (*self.dimensions, Dimension.ENDPOINT) if self.shared.any else self.dimensions
        used = reading.used(edges=used_edges, end=self.end, by=by, narrow=self.narrow, own=self.names.labels)
        self.names.read_shared(part.endpoint_id for part in used if part.endpoint_id and part.foreign)
        self.used = used
        for part in used:
            at = self._bucket(part.start, bucket_starts), part.group[: len(self.dimensions)]
            charged = part.foreign or self.shared.by_tokens(part.endpoint_id, part.start)
            self.sums[at].add_used(self.book, part, charged=charged)  # type: ignore[arg-type]
            self.outcomes[at] = _added(self.outcomes.get(at), part.outcomes)
        self._add_held(bucket_starts)
        return self._told()

    def _edges(self, starts: Sequence[dt.datetime], cuts: Iterable[dt.datetime]) -> list[dt.datetime]:
        return sorted({*starts, *(cut for cut in cuts if self.start < cut < self.end)})

    @staticmethod
    def _bucket(moment: dt.datetime, starts: Sequence[dt.datetime]) -> int:
        return bisect.bisect_right(starts, moment) - 1

    def _add_held(self, bucket_starts: Sequence[dt.datetime]) -> None:
        endpoints = self._labelled()
        edges = self._edges(bucket_starts, self.book.changes(GPU_PRICES) | self.shared.cuts)
        asked = {"edges": edges, "end": self.end, "narrow": self.narrow, "endpoint_ids": endpoints}
        by = [each for each in SPLIT if each in self.dimensions or each in self.narrow.dimensions]
        of_endpoints = self.shared.any or bool(_OF_ENDPOINTS & set(self.dimensions))
        projects = Dimension.PROJECT in self.dimensions
        sums = None if by or of_endpoints else held_sums(now=self.now, projects=projects, **asked)
        if sums is not None:
            for part, without in sums:
                self._add_time(part, {}, attoseconds(part.gpu_seconds), without, bucket_starts)
            return
        held = reading.held(now=self.now, **asked)
        if not by:
            idle = _spread(held, reading.idle(**asked))
            for part, without in zip(held, idle, strict=True):
                self._add_time(part, {}, attoseconds(part.gpu_seconds), without, bucket_starts)
            return
        shares = split.split(
            held=held,
            now=self.now,
            by=by,
            prices=self._token_prices(edges),
            projects=projects,
            endpoints=of_endpoints,
            **asked,
        )
        for share in shares:
            values = dict(zip(by, share.group, strict=True))
            if all(values[each] in (self.narrow.values(each) or [values[each]]) for each in by):
                idle = share.time if share.idle else 0
                self._add_time(share.held, values, share.time, idle, bucket_starts)

    def _add_time(
        self,
        part: HeldPart,
        values: Mapping[Dimension, str],
        time: int,
        idle: int,
        bucket_starts: Sequence[dt.datetime],
    ) -> None:
        label = self.names.label(part.endpoint_id)
        found = {
            Dimension.PROJECT: str(part.project_id), Dimension.ENDPOINT: str(part.endpoint_id),
            Dimension.MODEL: label.model, Dimension.SLO_CLASS: label.slo_class, Dimension.REGION: part.region,
            **values,
        }  # fmt: skip
        at = self._bucket(part.start, bucket_starts), tuple(found[each] for each in self.dimensions)
        charged = not self.shared.by_tokens(part.endpoint_id, part.start)
        self.sums[at].add_held(self.book, part, time=time, idle=idle, charged=charged)  # type: ignore[arg-type]

    def _labelled(self) -> list[uuid.UUID] | None:
        """Give the endpoints whose GPU time counts, None for all: those of the models and classes asked for."""
        models, classes = self.narrow.values(Dimension.MODEL), self.narrow.values(Dimension.SLO_CLASS)
        if models is None and classes is None:
            return None
        return [
            endpoint_id
            for endpoint_id, label in self.names.labels.items()
            if (models is None or label.model in models) and (classes is None or label.slo_class in classes)
        ]

    def _token_prices(self, edges: Sequence[dt.datetime]) -> list[split.TokenPrice]:
        """Price a token of each kind for everything that was used, in the pieces by which GPU time is split.

        A piece in which a token price changes takes the price at its beginning: it only weighs the keys.
        """
        pairs = zip(edges, [*edges[1:], self.end], strict=True)
        whole = reading.used(edges=[self.start], end=self.end) if self.narrow.to else self.used
        combinations = {(part.model, part.slo_class, part.region) for part in whole}
        return [
            _token_price(self.book, number, since, till, *each)
            for number, (since, till) in enumerate(pairs)
            for each in sorted(combinations)
        ]

    def _told(self) -> Costs:
        whole: defaultdict[Group, Sums] = defaultdict(Sums)
        whole_outcomes: dict[Group, tuple[int, ...]] = {}
        total = Sums()
        for (_, group), sums in self.sums.items():
            whole[group].add(sums)
        for sums in whole.values():
            total.add(sums)
        for (_, group), found in self.outcomes.items():
            whole_outcomes[group] = _added(whole_outcomes.get(group), found)
        groups = [
            self._group(self.intervals[number], group, sums, self.outcomes.get((number, group)))
            for (number, group), sums in self.sums.items()
        ]
        told = [
            self._group((self.start, self.end), group, sums, whole_outcomes.get(group))
            for group, sums in whole.items()
        ]
        return Costs(
            start=self.start,
            end=self.end,
            currency=self.tenant.currency,
            dimensions=self.dimensions,
            intervals=tuple(self.intervals),
            total=total.cost(),
            groups=tuple(sorted(groups, key=lambda each: (each.start, each.labels, each.group))),
            whole=tuple(sorted(told, key=_dearest)),
            unpriced=tuple(sorted(total.unpriced)),
        )

    def _group(
        self, interval: Interval, group: Group, sums: Sums, outcomes: tuple[int, ...] | None
    ) -> CostGroup:
        return CostGroup(
            start=interval[0],
            end=interval[1],
            group=group,
            labels=tuple(
                self.names.of(each, value) for each, value in zip(self.dimensions, group, strict=True)
            ),
            sums=sums,
            outcomes=outcomes or _NONE,
        )


def _dearest(each: CostGroup) -> tuple:
    sums = each.sums
    return (-sums.time, -sums.tokens, -sum(sums.counts[1:3]), each.labels, each.group)


def _added(old: tuple[int, ...] | None, more: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(operator.add, old, more)) if old else more


def _spread(held: Sequence[HeldPart], idle: Mapping[tuple[int, uuid.UUID, str, str], Decimal]) -> list[int]:
    """Give each part its share of the idle time of its endpoint's GPUs, never more than it held; in attoseconds."""
    keys = [(part.piece, part.endpoint_id, part.gpu_type, part.region) for part in held]
    times = [attoseconds(part.gpu_seconds) for part in held]
    whole: defaultdict[tuple, int] = defaultdict(int)
    for key, time in zip(keys, times, strict=True):
        whole[key] += time
    return [
        min(time, attoseconds(idle[key]) * time // whole[key]) if key in idle else 0
        for key, time in zip(keys, times, strict=True)
    ]


def _token_price(
    book: PriceBook,
    piece: int,
    since: dt.datetime,
    till: dt.datetime,
    model: str,
    slo_class: str,
    region: str,
) -> split.TokenPrice:
    def price(**counts: int) -> Decimal:
        part = UsedPart(
            start=since, end=till, piece=piece, group=(), endpoint_id=None, foreign=False, model=model,
            slo_class=slo_class, region=region, requests=1, outcomes=(),
            **({"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0} | counts),
        )  # fmt: skip
        exact = sum((rated.exact for rated in rate_used(book, part)), Fraction(0))  # type: ignore[arg-type]
        return Decimal(exact.numerator) / Decimal(exact.denominator)

    return split.TokenPrice(
        piece=piece,
        model=model,
        slo_class=slo_class,
        region=region,
        input=price(input_tokens=MILLION),
        output=price(output_tokens=MILLION),
        cached=price(input_tokens=MILLION, cached_tokens=MILLION),
    )
