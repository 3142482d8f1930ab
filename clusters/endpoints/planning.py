"""From rows to the planner's problem: the order, the pools with their prices, the tenant's quota."""

from __future__ import annotations

import dataclasses

from django.utils import timezone

from billing.prices import price_book
from billing.rating.prices import MissingPrice
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.inventory.catalog import architecture_of, weights_places
from clusters.inventory.images import min_drivers, unpinned
from clusters.models import CatalogModel, Cluster, Endpoint, Reservation, SloClass
from clusters.planning import problem
from clusters.planning.gpus import gpu_catalog
from clusters.planning.plans import Plan
from clusters.planning.search.order import plan
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.services import quota_limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderTerms:
    """What a tenant asks for, as rows and plain values."""

    model: CatalogModel
    slo_class: SloClass
    residency: str = "global"
    certifications: tuple[str, ...] = ()
    requests_per_second: float = 1.0
    input_tokens: int = 500
    output_tokens: int = 200
    context_tokens: int | None = None
    replicas: int | None = None
    cluster: Cluster | None = None  # only there, by an operator's wish

    @classmethod
    def of(cls, endpoint: Endpoint) -> OrderTerms:
        """Read the terms of an endpoint that was ordered."""
        return cls(
            **{field.name: getattr(endpoint, field.name) for field in dataclasses.fields(cls)}
            | {"certifications": tuple(endpoint.certifications)}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Market:
    """What one tenant's orders are planned against, read once for any number of plans."""

    capacities: list[PoolCapacity]
    pools: list[problem.Pool]
    quota: problem.QuotaState
    classes: list[problem.SloTargets]

    @classmethod
    def read(cls, *, tenant: Tenant, besides: Endpoint | None = None, lock: bool = False) -> Market:
        """Read what is free and at what price now, for the open tenant.

        ``besides`` is an endpoint being planned again: neither it nor the GPUs it holds count against the quota.
        ``lock`` holds the pools until the transaction ends.
        """
        found = capacities(lock=lock)
        return cls(
            capacities=found,
            pools=_pools(found, tenant),
            quota=_quota(besides),
            classes=[_targets(slo_class) for slo_class in SloClass.objects.all()],
        )

    def plan(self, terms: OrderTerms) -> Plan:
        """Plan one order.

        Raises:
            Invalid: the terms contradict each other; the message names the field.
        """
        only = terms.cluster and terms.cluster.name
        pools = [pool for pool in self.pools if only in (None, pool.cluster)]
        try:
            return plan(_order(terms), pools, quota=self.quota, classes=self.classes)
        except problem.ProblemError as error:
            raise Invalid(str(error), errors={_FIELDS.get(error.field, error.field): [str(error)]}) from error


#: Weights that stand where the cluster stands.
LOCAL_WEIGHTS = {CatalogModel.WeightsKind.BUILT_IN, CatalogModel.WeightsKind.PVC}

_FIELDS = {"replicas_floor": "replicas", "replicas_ceiling": "replicas", "profile": "input_tokens"}


def _order(terms: OrderTerms) -> problem.Order:
    return problem.Order(
        model=model_spec(terms.model),
        slo=_targets(terms.slo_class),
        residency=terms.residency,
        certifications=frozenset(terms.certifications),
        profile=problem.LoadProfile(
            requests_per_second=terms.requests_per_second,
            input_tokens=terms.input_tokens,
            output_tokens=terms.output_tokens,
        ),
        context_tokens=terms.context_tokens or terms.model.context_tokens,
        replicas_floor=terms.replicas,
        replicas_ceiling=terms.replicas,
    )


def model_spec(model: CatalogModel) -> problem.ModelSpec:
    """Give a catalog model as the planner sees it."""
    return problem.ModelSpec(
        name=model.name,
        architecture=architecture_of(model),
        context_limit=model.context_tokens,
        precisions=tuple(problem.Precision(name) for name in model.precisions),
        runtimes=tuple(model.runtimes),
        zones=frozenset(model.allowed_zones) or None,
        licence=model.licence,
        weights_zones=weights_places(model),
        weights_local=model.weights_kind in LOCAL_WEIGHTS,
    )


def _targets(slo_class: SloClass) -> problem.SloTargets:
    return problem.SloTargets(
        name=slo_class.name,
        ttft_p95_ms=slo_class.ttft_p95_ms,
        itl_p95_ms=slo_class.itl_p95_ms,
        availability=slo_class.availability * 100,
        price_factor=slo_class.price_factor,
    )


def _pools(found: list[PoolCapacity], tenant: Tenant) -> list[problem.Pool]:
    book, now = price_book(tenant.currency), timezone.now()
    drivers, loose = min_drivers(), unpinned()
    pools = []
    for capacity in found:
        pool, cluster = capacity.pool, capacity.pool.cluster
        try:
            price = book.at("gpu_hour", now, gpu_type=pool.gpu_type.name, region=cluster.region.code)
        except MissingPrice:
            continue  # what has no price is not for sale; the console shows the gap
        pools.append(
            problem.Pool(
                id=str(pool),
                cluster=cluster.name,
                region=cluster.region.code,
                zones=frozenset(cluster.region.zones),
                certifications=frozenset(cluster.region.certifications),
                gpu=gpu_catalog()[pool.gpu_type.name],
                gpus_per_node=pool.gpus_per_node,
                free=capacity.free_per_node,
                price_per_gpu_hour=price.amount,
                runtimes=frozenset(cluster.runtimes),
                driver=cluster.driver,
                state=problem.PoolState(cluster.state),
                declared=cluster.declared,
                driver_version=pool.driver_version,
                min_drivers=drivers,
                unpinned=loose,
            )
        )
    return pools


def _quota(besides: Endpoint | None) -> problem.QuotaState:
    limits = quota_limits()
    endpoints, held = Endpoint.objects.live(), Reservation.objects.held()
    if besides is not None:
        endpoints, held = endpoints.exclude(id=besides.id), held.exclude(endpoint=besides)
    return problem.QuotaState(
        gpu_limit=limits.get("gpus"),
        gpus_used=held.gpus(),
        endpoint_limit=limits.get("endpoints"),
        endpoints_used=endpoints.count(),
    )
