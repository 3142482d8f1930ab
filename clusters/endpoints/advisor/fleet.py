"""The whole fleet as a re-plan sees it: what runs where at what cost, what waits, and what may not be touched."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from django.db.models import Prefetch

from clusters.endpoints.load.correction import corrected_by
from clusters.endpoints.planning import LOCAL_WEIGHTS, OrderTerms, order_of, pools_of
from clusters.endpoints.policy.in_force import InForce, policy_in_force
from clusters.inventory.capacity import PoolCapacity, capacities
from clusters.inventory.qualification import planning_model
from clusters.inventory.tuning import tuning_of
from clusters.models import (
    AdviceMove,
    AdvicePolicy,
    Cluster,
    Endpoint,
    EndpointState,
    LoadObservation,
    Reservation,
    Revision,
    SloClass,
    TenantPolicy,
    Wanted,
)
from clusters.planning.performance.model import PerformanceModel
from clusters.planning.problem import Order, Pool, ProblemError
from clusters.planning.search.options import Option, options
from clusters.specs import Tuning
from tenants import scope
from tenants.models import Quota, Tenant

#: How fast an engine comes up, for the price of a rollout: its start, and its weights read from the cluster's own
#: storage or fetched from elsewhere (GiB per second). Never more than the class allows an engine to take.
START_S: Final = 60.0
READ_GIB_PER_S: Final = 1.0
FETCH_GIB_PER_S: Final = 0.25

GPUS: Final = "gpus"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A shape in a pool: where and as what an endpoint runs, or could."""

    pool: str
    cluster: str
    region: str
    gpu: str
    precision: str
    tp: int
    pp: int
    replicas: int

    @property
    def gpus_per_replica(self) -> int:
        return self.tp * self.pp

    @property
    def gpus(self) -> int:
        return self.gpus_per_replica * self.replicas

    def cost(self, pools: Mapping[str, Pool]) -> Decimal:
        """Money per hour of its GPUs, without the factor of the class."""
        return pools[self.pool].price_per_gpu_hour * self.gpus

    def to_document(self) -> dict[str, Any]:
        """Give it as JSON-ready builtins."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, revision: Revision) -> Place:
        """Read where a revision runs."""
        return cls(
            pool=str(revision.pool),
            cluster=revision.cluster.name,
            region=revision.cluster.region.code,
            gpu=revision.gpu_type,
            precision=revision.precision,
            tp=revision.tensor_parallel,
            pp=revision.pipeline_parallel,
            replicas=revision.replicas,
        )

    @classmethod
    def in_pool(cls, option: Option, pool: Pool) -> Place:
        """Give where an option would run in one of its pools."""
        return cls(
            pool=pool.id,
            cluster=pool.cluster,
            region=pool.region,
            gpu=option.gpu,
            precision=option.precision.value,
            tp=option.tp,
            pp=option.pp,
            replicas=option.replicas,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """An endpoint that may be moved, or that waits: ``current`` is None. ``nodes`` are those of each replica."""

    endpoint: Endpoint
    order: Order
    options: tuple[Option, ...] = ()
    performance: PerformanceModel | None = None
    current: Place | None = None
    revision: int | None = None
    nodes: tuple[tuple[int, ...], ...] = ()
    cached: frozenset[str] = frozenset()  # clusters where its weights lie already

    def load_s(self, place: Place, tuning: Tuning) -> float:
        """Say how long engines at ``place`` take until they answer."""
        model = self.endpoint.model
        near = model.weights_kind in LOCAL_WEIGHTS or place.cluster in self.cached
        rate = READ_GIB_PER_S if near else FETCH_GIB_PER_S
        return min(START_S + model.weights_size_gib / rate, float(tuning.load_s))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fleet:
    """All that one re-plan needs, read at once.

    ``pools`` are by currency and id, each with what is free now. ``quota_left`` is what each tenant may hold beyond
    what it holds now, by resource (``gpus`` and ``gpus:TYPE``), where it has a limit. ``kept`` counts the endpoints
    that stay untouched, by the reason.
    """

    pools: Mapping[str, Mapping[str, Pool]]
    subjects: Sequence[Subject]
    quota_left: Mapping[Any, Mapping[str, int]]
    tunings: Mapping[str, Tuning]
    kept: Mapping[str, int]

    def of_currency(self, currency: str) -> list[Subject]:
        """Give the subjects whose tenants pay in ``currency``."""
        return [each for each in self.subjects if each.endpoint.tenant.currency == currency]

    @property
    def currencies(self) -> list[str]:
        """Give the currencies, that of the most GPUs held first."""
        held: Counter[str] = Counter()
        for each in self.subjects:
            held[each.endpoint.tenant.currency] += each.current.gpus if each.current else 0
        return sorted(held, key=lambda currency: (-held[currency], currency))


def read_fleet(policy: AdvicePolicy, now: dt.datetime) -> Fleet:
    """Read the fleet of all tenants, and which of it may be moved."""
    with scope.platform("re-plan the fleet of all tenants"):
        found = capacities()
        pools = _pools(found)
        tunings = {each.name: tuning_of(each) for each in SloClass.objects.all()}
        reader = _Reader(policy, now, pools)
        for endpoint in _endpoints():
            reader.take(endpoint)
        quota_left = _quota_left()
        chooser = _Chooser(pools, planning_model())
    return Fleet(
        pools=pools,
        subjects=[dataclasses.replace(each, options=chooser.options(each)) for each in reader.subjects],
        quota_left=quota_left,
        tunings=tunings,
        kept=dict(reader.kept.most_common()),
    )


def _pools(found: Sequence[PoolCapacity]) -> dict[str, dict[str, Pool]]:
    payers = {tenant.currency: tenant for tenant in Tenant.objects.filter(state=Tenant.State.ACTIVE)}
    return {
        currency: {pool.id: pool for pool in pools_of(found, payer)} for currency, payer in payers.items()
    }


def _endpoints() -> Iterable[Endpoint]:
    wanted = Revision.objects.filter(cleaned_at=None).select_related("cluster__region", "pool", "reservation")
    rows = Endpoint.objects.live().filter(wanted=Wanted.RUNNING).order_by("id")
    return rows.select_related("tenant", "model", "slo_class").prefetch_related(
        Prefetch("revisions", queryset=wanted.order_by("number"), to_attr="present_revisions")
    )


def _quota_left() -> dict[Any, dict[str, int]]:
    """Give what each tenant may hold beyond what it holds now, by resource, where it has a limit."""
    held: dict[Any, Counter[str]] = defaultdict(Counter)
    for reservation in Reservation.objects.held().select_related("pool__gpu_type"):
        held[reservation.tenant_id][GPUS] += reservation.gpus
        held[reservation.tenant_id][f"{GPUS}:{reservation.pool.gpu_type.name}"] += reservation.gpus
    left: dict[Any, dict[str, int]] = defaultdict(dict)
    for quota in Quota.objects.filter(resource__startswith=GPUS):
        left[quota.tenant_id][quota.resource] = quota.limit - held[quota.tenant_id][quota.resource]
    return left


class _Reader:
    """Sorts endpoints into those that may be moved, those that wait, and those that are kept as they are."""

    def __init__(
        self, policy: AdvicePolicy, now: dt.datetime, pools: Mapping[str, Mapping[str, Pool]]
    ) -> None:
        self.subjects: list[Subject] = []
        self.kept: Counter[str] = Counter()
        self._pools = pools
        self._settled_before = now - dt.timedelta(hours=policy.cool_down_hours)
        self._busy = set(AdviceMove.objects.under_way().values_list("endpoint_id", flat=True))
        self._corrected = {
            row.endpoint_id: corrected_by(row)
            for row in LoadObservation.objects.exclude(correction={}).only("endpoint_id", "correction")
        }
        self._restricted = set(TenantPolicy.objects.order_by().values_list("tenant_id", flat=True).distinct())
        self._cached: dict[tuple[Any, str], set[str]] = defaultdict(set)
        applied = Revision.objects.filter(applied_at__isnull=False, cleaned_at=None)
        for tenant_id, model, cluster in applied.values_list(
            "tenant_id", "endpoint__model__name", "cluster__name"
        ):
            self._cached[tenant_id, model].add(cluster)

    def take(self, endpoint: Endpoint) -> None:
        """Sort one endpoint in; ``present_revisions`` holds its revisions that are not gone."""
        reason = self._reason_to_keep(endpoint)
        if reason:
            self.kept[reason] += 1
            return
        try:
            order = order_of(OrderTerms.of(endpoint), self._policy_of(endpoint))
        except ProblemError:
            self.kept["its order contradicts the catalog by now"] += 1
            return
        revision = next(iter(endpoint.present_revisions), None)
        self.subjects.append(
            Subject(
                endpoint=endpoint,
                order=order,
                performance=self._corrected.get(endpoint.id),
                current=Place.of(revision) if revision else None,
                revision=revision.number if revision else None,
                nodes=_nodes(revision.reservation) if revision else (),
                cached=frozenset(self._cached[endpoint.tenant_id, endpoint.model.name]),
            )
        )

    def _policy_of(self, endpoint: Endpoint) -> InForce | None:
        if endpoint.tenant_id not in self._restricted:
            return None
        return policy_in_force(tenant=endpoint.tenant, endpoint=endpoint)

    def _reason_to_keep(self, endpoint: Endpoint) -> str:
        revisions = endpoint.present_revisions
        if endpoint.cluster_id is not None:
            return "operators chose its cluster"
        if endpoint.id in self._busy:
            return "a move of it is under way"
        if endpoint.restoring is not None:
            return "an earlier revision of it is being restored"
        if endpoint.state == EndpointState.WAITING_FOR_CAPACITY and not revisions:
            return ""
        if endpoint.state != EndpointState.READY or len(revisions) != 1 or revisions[0].retired_at:
            return "it is not ready, or a change of it is under way"
        (revision,) = revisions
        if revision.cluster.state != Cluster.State.ACTIVE:
            return f"its cluster is {revision.cluster.state}"
        if str(revision.pool) not in self._pools.get(endpoint.tenant.currency, {}):
            return "the GPUs it holds have no price"
        if revision.number > 1 and revision.created_at > self._settled_before:
            return "it was changed a short while ago"
        return ""


def _nodes(reservation: Reservation) -> tuple[tuple[int, ...], ...]:
    span = reservation.span
    return tuple(
        tuple(reservation.nodes[start : start + span]) for start in range(0, len(reservation.nodes), span)
    )


class _Chooser:
    """Finds the ways to serve an order, once for orders that are alike."""

    def __init__(self, pools: Mapping[str, Mapping[str, Pool]], performance: PerformanceModel) -> None:
        self._pools = pools
        self._performance = performance
        self._known: dict[Hashable, tuple[Option, ...]] = {}

    def options(self, subject: Subject) -> tuple[Option, ...]:
        """Give the ways to serve the subject's order, whatever is free."""
        endpoint = subject.endpoint
        currency = endpoint.tenant.currency
        if subject.performance is not None:  # measured for this endpoint alone
            return self._find(subject, currency)
        terms = OrderTerms.of(endpoint).to_fields()
        key = currency, tuple((name, repr(value)) for name, value in terms.items())
        if key not in self._known:
            self._known[key] = self._find(subject, currency)
        return self._known[key]

    def _find(self, subject: Subject, currency: str) -> tuple[Option, ...]:
        pools = self._pools.get(currency, {}).values()
        return options(subject.order, pools, performance=subject.performance or self._performance)
