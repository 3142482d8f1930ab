"""What would be if prices changed or GPUs were delivered, over all tenants' endpoints. Nothing is written."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from clusters.endpoints.load.correction import performance_of
from clusters.endpoints.load.measured import load_of, measured_load, with_load
from clusters.endpoints.planning import Market, OrderTerms, pools_of, quota_of, slo_targets
from clusters.endpoints.policy.in_force import policy_in_force
from clusters.endpoints.pricing import held_price
from clusters.endpoints.what_if.one import Changes, changed_pools
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.inventory.qualification import planning_model
from clusters.models import Endpoint, Revision, Wanted
from clusters.planning import problem
from clusters.planning.plans import Configuration
from tenants import scope
from tenants.errors import BerthError
from tenants.models import Tenant

#: Endpoints that are planned for one answer: some seconds' work.
MOST_PLANNED: Final = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class TenantEffect:
    """What one tenant's endpoints hold now, at today's prices and at the changed ones, per hour."""

    tenant: Tenant
    endpoints: int
    price_now: Decimal
    price_after: Decimal

    @property
    def difference(self) -> Decimal:
        return self.price_after - self.price_now


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placed:
    """An endpoint as it would be placed on what is delivered; ``saves_per_hour`` is None for one that waits."""

    endpoint: Endpoint
    configuration: Configuration
    saves_per_hour: Decimal | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetWhatIf:
    """The effect by tenant, waiting endpoints that could be placed, and those that would be cheaper there.

    ``not_planned`` counts the endpoints that were not looked at for the latter two.
    """

    tenants: list[TenantEffect]
    placeable: list[Placed]
    cheaper: list[Placed]
    still_waiting: int
    not_planned: int

    @property
    def difference(self) -> Decimal:
        return sum((each.difference for each in self.tenants), Decimal(0))

    @property
    def saving(self) -> Decimal:
        return sum((each.saves_per_hour or Decimal(0) for each in self.cheaper), Decimal(0))


def fleet_what_if(*, changes: Changes) -> FleetWhatIf:
    """Compare all endpoints with what they would be under changes of prices or GPUs, in the platform's scope.

    Prices are compared as endpoints run now. GPUs that are delivered go to those who wait longest, then to whom
    they save most.

    Raises:
        Invalid: what is delivered has no price, or the price book has none at the time asked for.
    """
    found = capacities()
    running = list(
        Revision.objects.filter(retired_at=None, endpoint__deleted_at=None, endpoint__wanted=Wanted.RUNNING)
        .select_related("endpoint__tenant", "pool__cluster")
        .defer("spec")
        .order_by("endpoint", "-number")
    )
    current = list({revision.endpoint_id: revision for revision in reversed(running)}.values())
    books = _Books(found, changes)
    effects = _effects(current, books)
    if changes.added is None:
        return FleetWhatIf(tenants=effects, placeable=[], cheaper=[], still_waiting=0, not_planned=0)
    return _deliver(current, effects, books, found)


class _Books:
    """Pools at today's prices and with the changes, read once for each currency."""

    def __init__(self, found: list[PoolCapacity], changes: Changes) -> None:
        self._found, self._changes = found, changes
        self._known: dict[str, tuple[list[problem.Pool], list[problem.Pool]]] = {}

    def of(self, tenant: Tenant) -> tuple[list[problem.Pool], list[problem.Pool]]:
        if tenant.currency not in self._known:
            today = pools_of(self._found, tenant)
            self._known[tenant.currency] = today, changed_pools(today, self._changes, tenant)
        return self._known[tenant.currency]


def _effects(current: Iterable[Revision], books: _Books) -> list[TenantEffect]:
    sums: dict[Tenant, list[tuple[Decimal, Decimal]]] = {}
    for revision in current:
        today, changed = books.of(revision.endpoint.tenant)
        prices = held_price(revision, today), held_price(revision, changed)
        sums.setdefault(revision.endpoint.tenant, []).append(prices)
    effects = [
        TenantEffect(
            tenant=tenant,
            endpoints=len(prices),
            price_now=sum((now for now, _ in prices), Decimal(0)),
            price_after=sum((after for _, after in prices), Decimal(0)),
        )
        for tenant, prices in sums.items()
    ]
    return sorted(effects, key=lambda effect: (-abs(effect.difference), effect.tenant.slug))


def _deliver(
    current: list[Revision], effects: list[TenantEffect], books: _Books, found: list[PoolCapacity]
) -> FleetWhatIf:
    waiting = list(
        Endpoint.objects.live()
        .filter(wanted=Wanted.RUNNING)
        .exclude(id__in=[revision.endpoint_id for revision in current])
        .order_by("state_since")
    )
    held = {
        revision.endpoint_id: held_price(revision, books.of(revision.endpoint.tenant)[1])
        for revision in current
    }
    dearest = sorted(held, key=lambda endpoint_id: (-held[endpoint_id], str(endpoint_id)))
    planner = _Planner(books, found)
    rows = Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
    placeable = []
    for endpoint in rows.filter(id__in=[each.id for each in waiting[:MOST_PLANNED]]).order_by("state_since"):
        chosen = planner.plan(endpoint)
        if chosen is not None:
            planner.take(chosen, endpoint.tenant)
            placeable.append(Placed(endpoint=endpoint, configuration=chosen))
    room = max(0, MOST_PLANNED - len(waiting))
    offers = []
    for endpoint in rows.filter(id__in=dearest[:room]):
        chosen = planner.plan(endpoint, only_added=True)
        if chosen is not None and chosen.price_per_hour < held[endpoint.id]:
            saves = held[endpoint.id] - chosen.price_per_hour
            offers.append(Placed(endpoint=endpoint, configuration=chosen, saves_per_hour=saves))
    cheaper = []
    for offer in sorted(offers, key=lambda offer: (-(offer.saves_per_hour or 0), offer.endpoint.name)):
        if planner.take(offer.configuration):
            cheaper.append(offer)
    return FleetWhatIf(
        tenants=effects,
        placeable=placeable,
        cheaper=cheaper,
        still_waiting=len(waiting) - len(placeable),
        not_planned=max(0, len(waiting) - MOST_PLANNED) + max(0, len(dearest) - room),
    )


class _Planner:
    """Plans endpoints of any tenant on the changed pools, one after the other, and remembers what they take."""

    def __init__(self, books: _Books, found: list[PoolCapacity]) -> None:
        self._books, self._found, self._classes = books, found, slo_targets()
        self._performance = planning_model()
        self._seen: dict[str, problem.Pool] = {}
        self._taken: dict[str, list[int]] = {}
        self._held: dict[Tenant, Counter[str]] = defaultdict(Counter)

    def plan(self, endpoint: Endpoint, *, only_added: bool = False) -> Configuration | None:
        pools = [self._left(pool) for pool in self._books.of(endpoint.tenant)[1]]
        self._seen |= {pool.id: pool for pool in pools}
        with scope.tenant(endpoint.tenant_id):
            observation, terms = load_of(endpoint), OrderTerms.of(endpoint)
            if observation is not None:
                terms = with_load(terms, measured_load(observation))
            market = Market(
                capacities=self._found,
                pools=pools[-1:] if only_added else pools,
                quota=self._quota(endpoint),
                classes=self._classes,
                performance=performance_of(endpoint) or self._performance,
                policy=policy_in_force(tenant=endpoint.tenant, endpoint=endpoint),
            )
            try:
                return market.plan(terms).configuration
            except BerthError:
                return None  # its terms fit no more, which its own page says

    def take(self, chosen: Configuration, tenant: Tenant | None = None) -> bool:
        """Take the GPUs of a configuration, if they are still free; count them against the quota of ``tenant``."""
        pool = self._left(self._seen[chosen.pool])
        free = list(pool.free)
        for nodes in chosen.nodes:
            for node in nodes:
                free[node] -= chosen.gpus_per_replica // len(nodes)
        if min(free) < 0:
            return False
        self._taken[pool.id] = free
        if tenant is not None:
            self._held[tenant][chosen.gpu] += chosen.gpus
        return True

    def _quota(self, endpoint: Endpoint) -> problem.QuotaState:
        quota, more = quota_of(endpoint), self._held[endpoint.tenant]
        types = Counter(quota.types_used) + more if quota.type_limits else {}
        return dataclasses.replace(quota, gpus_used=quota.gpus_used + more.total(), types_used=types)

    def _left(self, pool: problem.Pool) -> problem.Pool:
        free = self._taken.get(pool.id)
        return pool if free is None else dataclasses.replace(pool, free=tuple(free))
