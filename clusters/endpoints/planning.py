"""From rows to the planner's problem: the order, the pools with their prices, the tenant's quota."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.utils import timezone

from billing.prices import price_book
from billing.rating.prices import MissingPrice
from clusters.endpoints.load.correction import performance_of
from clusters.endpoints.policy.in_force import InForce, policy_in_force
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.inventory.catalog import architecture_of, weights_places
from clusters.inventory.drivers import feature
from clusters.inventory.images import min_drivers, unpinned
from clusters.inventory.qualification import planning_model
from clusters.inventory.tuning import tuning_of
from clusters.kube.kinds import LEADER_WORKER_SET
from clusters.models import CatalogModel, Cluster, Endpoint, Reservation, Revision, SloClass
from clusters.planning import problem
from clusters.planning.gpus import gpu_catalog
from clusters.planning.performance.model import PerformanceModel
from clusters.planning.plans import Plan
from clusters.planning.search.order import plan
from tenants.errors import Invalid
from tenants.models import Project, Tenant
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
    burstiness: float = 1.0
    input_cv: float = 1.0
    output_cv: float = 1.0
    prefix_share: float = 0.0
    profile: str = ""  # the named one that the numbers are of
    context_tokens: int | None = None
    output_limit: int | None = None
    near: str = ""
    pins: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    approved_precisions: tuple[str, ...] = ()
    replicas: int | None = None
    cluster: Cluster | None = None  # only there, by an operator's wish

    @property
    def load(self) -> problem.LoadProfile:
        """The expected load.

        Raises:
            ProblemError: it contradicts itself.
        """
        return problem.LoadProfile(
            requests_per_second=self.requests_per_second,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            burstiness=self.burstiness,
            input_cv=self.input_cv,
            output_cv=self.output_cv,
            prefix_share=self.prefix_share,
        )

    @classmethod
    def of(cls, endpoint: Endpoint) -> OrderTerms:
        """Read the terms of an endpoint that was ordered."""
        return cls(
            **{field.name: getattr(endpoint, field.name) for field in dataclasses.fields(cls)}
            | {
                "certifications": tuple(endpoint.certifications),
                "approved_precisions": tuple(endpoint.approved_precisions),
            }
        )

    def to_fields(self) -> dict[str, Any]:
        """Give the terms as the fields of an endpoint."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "certifications": list(self.certifications),
            "approved_precisions": list(self.approved_precisions),
            "pins": dict(self.pins),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Market:
    """What one tenant's orders are planned against, read once for any number of plans."""

    capacities: list[PoolCapacity]
    pools: list[problem.Pool]
    quota: problem.QuotaState
    classes: list[problem.SloTargets]
    performance: PerformanceModel | None = None  # None: the planner's own, of the data folder alone
    policy: InForce | None = None  # what the tenant lets itself use; None: anything

    @classmethod
    def read(
        cls,
        *,
        tenant: Tenant,
        besides: Endpoint | None = None,
        project: Project | None = None,
        lock: bool = False,
    ) -> Market:
        """Read what is free and at what price now, for the open tenant.

        ``besides`` is an endpoint being planned again: neither it nor the GPUs it holds count against the quota,
        and what was measured of its latencies corrects the performance model; without any, what was measured on
        the pools does. The policy is the one in force for it,
        else for what is ordered in ``project``.
        ``lock`` holds the pools until the transaction ends.
        """
        found = capacities(lock=lock)
        return cls(
            capacities=found,
            pools=pools_of(found, tenant),
            quota=quota_of(besides),
            classes=slo_targets(),
            performance=(performance_of(besides) if besides else None) or planning_model(),
            policy=policy_in_force(tenant=tenant, endpoint=besides, project=project),
        )

    def plan(self, terms: OrderTerms) -> Plan:
        """Plan one order.

        Raises:
            Invalid: the terms contradict each other; the message names the field.
        """
        only = terms.cluster and terms.cluster.name
        pools = [pool for pool in self.pools if only in (None, pool.cluster)]
        try:
            return plan(
                order_of(terms, self.policy),
                pools,
                quota=self.quota,
                classes=self.classes,
                performance=self.performance,
            )
        except problem.ProblemError as error:
            raise Invalid(str(error), errors={_FIELDS.get(error.field, error.field): [str(error)]}) from error


#: Weights that stand where the cluster stands.
LOCAL_WEIGHTS = {CatalogModel.WeightsKind.BUILT_IN, CatalogModel.WeightsKind.PVC}

_FIELDS = {"replicas_floor": "replicas", "replicas_ceiling": "replicas", "profile": "input_tokens"}


def order_of(terms: OrderTerms, policy: InForce | None) -> problem.Order:
    """Give the planner's order; ``policy`` is the one in force for it.

    Raises:
        ProblemError: the terms contradict each other.
    """
    return problem.Order(
        model=model_spec(terms.model),
        slo=_targets(terms.slo_class),
        residency=terms.residency,
        certifications=frozenset(terms.certifications),
        profile=terms.load,
        context_tokens=terms.context_tokens or terms.model.context_tokens,
        output_limit=terms.output_limit,
        near=terms.near,
        pins=_pins(terms.pins),
        approved=frozenset(_precision(name) for name in terms.approved_precisions),
        tuning=tuning_of(terms.slo_class),
        replicas_floor=terms.replicas,
        replicas_ceiling=terms.replicas,
        policy=policy.owner if policy else None,
    )


def _pins(pins: Mapping[str, Any]) -> problem.Pins:
    known = [field.name for field in dataclasses.fields(problem.Pins)]
    unknown = sorted(set(pins) - set(known))
    if unknown:
        raise problem.ProblemError(
            "pins", f"an order cannot keep to {', '.join(unknown)}, only to {', '.join(known)}"
        )
    try:
        return msgspec.convert(dict(pins), problem.Pins)
    except msgspec.ValidationError as error:
        raise problem.ProblemError("pins", str(error)) from error


def _precision(name: str) -> problem.Precision:
    try:
        return problem.Precision(name)
    except ValueError as error:
        offered = ", ".join(problem.Precision)
        raise problem.ProblemError(
            "approved_precisions", f"{name} is no precision; there are {offered}"
        ) from error


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
        weights_gib=model.weights_size_gib,
        made=frozenset(problem.Precision(name) for name in model.weights_quantize),
        quality={
            problem.Precision(name): problem.Quality(
                note=note["note"], needs_approval=bool(note.get("needs_approval"))
            )
            for name, note in model.precision_notes.items()
        },
    )


def _targets(slo_class: SloClass) -> problem.SloTargets:
    return problem.SloTargets(
        name=slo_class.name,
        ttft_p95_ms=slo_class.ttft_p95_ms,
        itl_p95_ms=slo_class.itl_p95_ms,
        availability=slo_class.availability * 100,
        price_factor=slo_class.price_factor,
        spare_replicas=slo_class.spare_replicas,
    )


def slo_targets() -> list[problem.SloTargets]:
    """Give all classes as the planner sees them."""
    return [_targets(slo_class) for slo_class in SloClass.objects.all()]


def pools_of(found: Sequence[PoolCapacity], tenant: Tenant) -> list[problem.Pool]:
    """Give the pools that have a price for the tenant today, as the planner sees them."""
    book, now = price_book(tenant.currency, tenant_id=tenant.id), timezone.now()
    drivers, loose, cached = min_drivers(), unpinned(), _cached_weights()
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
                cached=cached[cluster.id],
                spans_nodes=feature(LEADER_WORKER_SET) in cluster.features,
            )
        )
    return pools


def _cached_weights() -> dict[Any, frozenset[str]]:
    """Give the models whose weights the open tenant's engines keep on each cluster."""
    live = Revision.objects.filter(applied_at__isnull=False, cleaned_at=None)
    found: dict[Any, set[str]] = defaultdict(set)
    for cluster_id, name in live.values_list("cluster_id", "endpoint__model__name").distinct():
        found[cluster_id].add(name)
    return defaultdict(frozenset, {cluster: frozenset(names) for cluster, names in found.items()})


def quota_of(besides: Endpoint | None) -> problem.QuotaState:
    """Give the open tenant's quota and what it holds of it without ``besides``."""
    limits = quota_limits()
    endpoints, held = Endpoint.objects.live(), Reservation.objects.held()
    if besides is not None:
        endpoints, held = endpoints.exclude(id=besides.id), held.exclude(endpoint=besides)
    prefix = "gpus:"
    types = {name.removeprefix(prefix): limit for name, limit in limits.items() if name.startswith(prefix)}
    return problem.QuotaState(
        gpu_limit=limits.get("gpus"),
        gpus_used=held.gpus(),
        type_limits=types,
        types_used=held.gpus_by_type() if types else {},
        endpoint_limit=limits.get("endpoints"),
        endpoints_used=endpoints.count(),
    )
