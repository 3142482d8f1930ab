"""What would be if: another class, place, precision, price or more GPUs, on an endpoint's real history.

Nothing is written. The GPUs that an endpoint holds count as free: this asks what would run, not how to get there.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from django.utils import timezone

from billing.prices import price_book
from billing.rating.prices import MissingPrice
from billing.usage import endpoint_load
from clusters.endpoints import placement
from clusters.endpoints.blueprint import SpecUnusable
from clusters.endpoints.load.learning import hour_load, learn_load
from clusters.endpoints.load.measured import with_load
from clusters.endpoints.load.running import Running, keeps_targets
from clusters.endpoints.planning import Market, OrderTerms, pools_of
from clusters.endpoints.pools import released
from clusters.endpoints.pricing import held_price
from clusters.inventory.capacity import PoolCapacity
from clusters.models import Cluster, Endpoint, GpuType, NodePool, SloClass
from clusters.planning import problem
from clusters.planning.gpus import gpu_catalog
from clusters.planning.plans import Plan
from tenants.errors import Invalid
from tenants.models import Tenant

#: How much history is looked at.
HISTORY: Final = dt.timedelta(days=30)
HOURS_A_DAY: Final = 24
HOURS_A_MONTH: Final = 720
MOST_NODES: Final = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class AddedGpus:
    """Nodes of GPUs that are not there yet."""

    cluster: Cluster
    gpu_type: GpuType
    nodes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """What would be otherwise; None is as it is.

    ``price_percent`` makes every GPU-hour dearer (or cheaper, where negative), ``prices_at`` takes the price book
    as it will be at that time.
    """

    slo_class: SloClass | None = None
    residency: str | None = None
    precision: str | None = None
    price_percent: Decimal | None = None
    prices_at: dt.datetime | None = None
    added: AddedGpus | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, field.name) is None for field in dataclasses.fields(self)):
            raise Invalid("Say what would be otherwise: nothing was changed.")
        if self.price_percent is not None and not -100 <= self.price_percent <= 1000:
            raise Invalid(
                "A price changes by -100 to 1000 percent.",
                errors={"price_percent": ["Choose -100 to 1000."]},
            )
        if self.added is not None and not 1 <= self.added.nodes <= MOST_NODES:
            raise Invalid(
                f"1 to {MOST_NODES} nodes can be added.", errors={"nodes": [f"Choose 1 to {MOST_NODES}."]}
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One of the compared: what runs, what it costs, and how much of the history it would have kept.

    ``kept`` is the share of the hours with requests in which the predicted p95s are within the targets; None
    without history, or where nothing runs. ``plan`` is None for what runs now.
    """

    label: str
    plan: Plan | None
    running: Running | None
    slo_class: SloClass
    cluster: str
    price_per_hour: Decimal | None
    kept: float | None

    @property
    def price_per_day(self) -> Decimal | None:
        return None if self.price_per_hour is None else self.price_per_hour * HOURS_A_DAY

    @property
    def price_per_month(self) -> Decimal | None:
        """In 30 days."""
        return None if self.price_per_hour is None else self.price_per_hour * HOURS_A_MONTH


@dataclasses.dataclass(frozen=True, kw_only=True)
class WhatIf:
    """An endpoint as it runs, planned anew as things are, and planned with the changes.

    ``load`` is what it was planned for: measured in ``hours`` hours of the last 30 days with requests, or what was
    ordered where there were too few. ``held_price`` is what the GPUs that it holds now would cost per hour at the
    changed prices.
    """

    currency: str
    load: problem.LoadProfile
    measured: bool
    hours: int
    now: Side | None
    before: Side
    after: Side
    held_price: Decimal | None

    @property
    def difference_per_hour(self) -> Decimal | None:
        """What the changes add to the price per hour, against planning anew without them."""
        if self.after.price_per_hour is None or self.before.price_per_hour is None:
            return None
        return self.after.price_per_hour - self.before.price_per_hour


def endpoint_what_if(*, endpoint: Endpoint, changes: Changes, now: dt.datetime | None = None) -> WhatIf:
    """Compare an endpoint with what it would be under ``changes``, on the load of its last 30 days.

    Raises:
        Invalid: the changes contradict the order.
    """
    now = now or timezone.now()
    terms = OrderTerms.of(endpoint)
    hours = endpoint_load(endpoint_id=endpoint.id, start=now - HISTORY, end=now)
    learnt = learn_load(hours)
    loads = [hour_load(hour) for hour in hours]
    current = placement.current_revision(endpoint)
    market = Market.read(tenant=endpoint.tenant, besides=endpoint)
    market = dataclasses.replace(market, pools=released(market.pools, current))
    changed = dataclasses.replace(market, pools=changed_pools(market.pools, changes, endpoint.tenant))
    base = terms if learnt is None else with_load(terms, learnt)
    judge = _Judge(endpoint, market, loads)
    running = None
    if current is not None:
        running = judge.of_revision(current, held_price(current, market.pools))
    asked = _changed_terms(base, changes)
    return WhatIf(
        currency=endpoint.tenant.currency,
        load=base.load,
        measured=learnt is not None,
        hours=len(hours),
        now=running,
        before=judge.of_plan("Planned anew as things are", base, market),
        after=judge.of_plan("With the change", asked, changed),
        held_price=held_price(current, changed.pools) if current is not None else None,
    )


class _Judge:
    """Judges sides by the hours of one endpoint."""

    def __init__(self, endpoint: Endpoint, market: Market, loads: Sequence[problem.LoadProfile]) -> None:
        self._endpoint, self._market, self._loads = endpoint, market, loads
        self._known: dict[tuple[Running, Any], float | None] = {}

    def of_revision(self, revision: Any, price: Decimal) -> Side:
        try:
            running = Running.of_revision(revision, self._endpoint.model)
        except SpecUnusable:
            running = None
        return Side(
            label="Runs now",
            plan=None,
            running=running,
            slo_class=self._endpoint.slo_class,
            cluster=revision.cluster.name,
            price_per_hour=price,
            kept=self._kept(running, self._endpoint.slo_class),
        )

    def of_plan(self, label: str, terms: OrderTerms, market: Market) -> Side:
        plan = market.plan(terms)
        chosen = plan.configuration
        running = Running.of_plan(chosen, terms.model) if chosen else None
        return Side(
            label=label,
            plan=plan,
            running=running,
            slo_class=terms.slo_class,
            cluster=chosen.cluster if chosen else "",
            price_per_hour=chosen.price_per_hour if chosen else None,
            kept=self._kept(running, terms.slo_class),
        )

    def _kept(self, running: Running | None, slo_class: SloClass) -> float | None:
        if running is None or not self._loads:
            return None
        key = running, slo_class.id
        if key not in self._known:
            kept = sum(
                keeps_targets(running.under(load, self._market.performance), slo_class)
                for load in self._loads
            )
            self._known[key] = kept / len(self._loads)
        return self._known[key]


def changed_pools(pools: Sequence[problem.Pool], changes: Changes, tenant: Tenant) -> list[problem.Pool]:
    """Give the pools with the changes of prices and GPUs; what is added comes last.

    Raises:
        Invalid: what is added has no price, or the price book has none at the time asked for.
    """
    found = list(pools)
    if changes.added is not None:
        added = changes.added
        priced = pools_of([_added_capacity(added)], tenant)
        if not priced:
            raise Invalid(
                f"{added.gpu_type.title} has no price in {added.cluster.region.code}; add one first.",
                errors={"gpu_type": ["It has no price there."]},
            )
        found += priced
    return _repriced(found, changes, tenant)


def _changed_terms(terms: OrderTerms, changes: Changes) -> OrderTerms:
    asked: dict[str, Any] = {}
    if changes.slo_class is not None:
        asked["slo_class"] = changes.slo_class
    if changes.residency is not None:
        asked["residency"] = changes.residency
    if changes.precision is not None:
        # Whoever asks what it would be accepts the precision's quality note for as long as the question takes.
        asked["pins"] = {**terms.pins, "precision": changes.precision}
        asked["approved_precisions"] = tuple({*terms.approved_precisions, changes.precision})
    return dataclasses.replace(terms, **asked)


def _added_capacity(added: AddedGpus) -> PoolCapacity:
    known = gpu_catalog().get(added.gpu_type.name)
    if known is None:
        raise Invalid(
            f"Nothing is known of how fast {added.gpu_type.title} is.",
            errors={"gpu_type": ["It is not known."]},
        )
    per_node = known.gpus_per_node
    pool = NodePool(
        cluster=added.cluster,
        name="delivery",
        gpu_type=added.gpu_type,
        nodes=added.nodes,
        gpus_per_node=per_node,
    )
    return PoolCapacity(
        pool=pool, total=pool.total_gpus, reserve=0, held=0, free_per_node=(per_node,) * added.nodes
    )


def _repriced(pools: Sequence[problem.Pool], changes: Changes, tenant: Tenant) -> list[problem.Pool]:
    book = price_book(tenant.currency, tenant_id=tenant.id)
    factor = 1 + (changes.price_percent or 0) / Decimal(100)
    found = []
    for pool in pools:
        price = pool.price_per_gpu_hour
        if changes.prices_at is not None:
            try:
                price = book.at(
                    "gpu_hour", changes.prices_at, gpu_type=pool.gpu.name, region=pool.region
                ).amount
            except MissingPrice as error:
                raise Invalid(str(error), errors={"prices_at": [str(error)]}) from error
        found.append(dataclasses.replace(pool, price_per_gpu_hour=price * factor))
    return found
