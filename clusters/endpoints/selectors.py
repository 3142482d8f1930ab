"""Reading endpoints: lists, one with all that is known of it, history, engines' logs, quotas in use."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from django.db.models import F, Prefetch, QuerySet

from clusters.drivers.base import GiveUp, TryLater
from clusters.errors import ClusterAway
from clusters.inventory.drivers import driver_of
from clusters.models import (
    Condition,
    Endpoint,
    EndpointEvent,
    Gateway,
    RenderedConfiguration,
    Replica,
    Reservation,
    Revision,
)
from clusters.planning.plans import Plan
from clusters.planning.residency import residency_allows
from tenants.errors import NotFound
from tenants.service_accounts import RESOURCE, service_account_count
from tenants.services import quota_limits

MOST_LOG_LINES = 1000
NO_DRIVER_S = 60  # until operators have mended what keeps a cluster from being driven


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuotaUse:
    """One quota and what is held of it."""

    resource: str
    limit: int
    used: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallableAt:
    """A gateway through which an endpoint is called; ``base_url`` is what OpenAI clients are given."""

    gateway: str
    region: str
    base_url: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogTail:
    """The last lines of one engine's own log."""

    replica: str
    text: str


def endpoint_list() -> QuerySet[Endpoint]:
    """Give the endpoints of the open scope, gone ones included, with what a list shows; 2 queries.

    ``current_revisions`` of each holds the revision that is wanted now, if there is one, and its
    ``configuration`` what the plan chose.
    """
    return Endpoint.objects.select_related("tenant", "project", "model", "slo_class").prefetch_related(
        Prefetch(
            "revisions",
            queryset=_briefly(Revision.objects.filter(retired_at=None)),
            to_attr="current_revisions",
        )
    )


def endpoint_detail() -> QuerySet[Endpoint]:
    """Give :func:`endpoint_list` with conditions and, as ``present``, the replicas there now; 4 queries."""
    return endpoint_list().prefetch_related(
        Prefetch("conditions", queryset=Condition.objects.order_by("created_at")),
        Prefetch(
            "observed",
            queryset=Replica.objects.filter(gone_at=None)
            .select_related("revision")
            .order_by("revision_id", "index"),
            to_attr="present",
        ),
    )


def endpoint_history(endpoint: Endpoint) -> QuerySet[EndpointEvent]:
    """Give the endpoint's history, newest first."""
    return EndpointEvent.objects.filter(endpoint=endpoint).order_by("-id")


def endpoint_revisions(endpoint: Endpoint) -> QuerySet[Revision]:
    """Give all revisions of the endpoint with their plans, newest first."""
    rows = Revision.objects.filter(endpoint=endpoint).order_by("-id")
    return rows.select_related("cluster__region", "pool").annotate(configuration=F("plan__configuration"))


def revision_configuration(revision: Revision) -> dict[str, str]:
    """Give what its cluster was told for a revision: documents by name; none while nothing was told yet."""
    rendered = RenderedConfiguration.objects.filter(revision=revision).first()
    return rendered.documents if rendered else {}


def configuration_diff(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give the unified diff of each document that differs, by name; documents only one side has count as empty."""
    diffs = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, ""), new.get(name, "")
        if before != after:
            lines = difflib.unified_diff(
                before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=3
            )
            diffs.append((name, "\n".join(lines)))
    return diffs


def _briefly(revisions: QuerySet[Revision]) -> QuerySet[Revision]:
    # A plan holds a refusal for every candidate, which a list must not read.
    with_place = revisions.select_related("cluster__region", "pool")
    return with_place.annotate(configuration=F("plan__configuration")).defer("plan", "spec")


def endpoint_urls(endpoint: Endpoint, gateways: Sequence[Gateway] | None = None) -> list[CallableAt]:
    """Give where the endpoint can be called: gateways whose region its residency allows.

    ``gateways`` saves the look-up where it is made for many endpoints.
    """
    if gateways is None:
        gateways = gateway_list()
    return [
        CallableAt(
            gateway=gateway.name, region=gateway.region.code, base_url=f"{gateway.public_url.rstrip('/')}/v1"
        )
        for gateway in gateways
        if residency_allows(endpoint.residency, gateway.region.code, frozenset(gateway.region.zones))
    ]


def gateway_list() -> list[Gateway]:
    """Give the gateways that clients can reach, by name."""
    return list(Gateway.objects.exclude(public_url="").select_related("region").order_by("name"))


def endpoint_logs(endpoint: Endpoint, *, replica_id: str = "", lines: int = 100) -> LogTail:
    """Read the last lines of an engine's log from its cluster; without ``replica_id`` of the newest engine.

    Raises:
        NotFound: there is no such replica.
        ClusterAway: the cluster does not answer.
    """
    replicas = Replica.objects.filter(endpoint=endpoint).select_related("revision__cluster").order_by("-id")
    replica = replicas.filter(replica_id=replica_id).first() if replica_id else replicas.first()
    if replica is None:
        raise NotFound(f"There is no replica {replica_id}." if replica_id else "No engine was started yet.")
    cluster = replica.revision.cluster
    try:
        driver = driver_of(cluster)
    except GiveUp as error:
        raise ClusterAway(
            f"Cluster {cluster.name} cannot be asked: {error}", retry_after=NO_DRIVER_S
        ) from error
    try:
        text = driver.logs(replica.revision.deployment, replica.replica_id, lines=min(lines, MOST_LOG_LINES))
    except TryLater as error:
        raise ClusterAway(
            f"Cluster {cluster.name} does not answer: {error}", retry_after=math.ceil(error.delay)
        ) from error
    except GiveUp as error:
        raise NotFound(f"The log of {replica.replica_id} is gone.") from error
    return LogTail(replica=replica.replica_id, text=text)


def quota_use() -> list[QuotaUse]:
    """Give the open tenant's quotas with what it holds of each, by resource."""
    used: Counter[str] = Counter(endpoints=Endpoint.objects.live().count())
    for gpu_type, gpus in Reservation.objects.held().gpus_by_type().items():
        used["gpus"] += gpus
        used[f"gpus:{gpu_type}"] += gpus
    limits = quota_limits()
    if RESOURCE in limits:
        used[RESOURCE] = service_account_count()
    return [
        QuotaUse(resource=resource, limit=limit, used=used[resource])
        for resource, limit in sorted(limits.items())
    ]


def quota_effect(plan: Plan) -> list[QuotaUse]:
    """Give the open tenant's quotas as they would be used once ``plan`` is carried out as a new endpoint."""
    chosen = plan.configuration
    adds: Counter[str] = Counter(endpoints=1)
    if chosen is not None:
        adds["gpus"] = adds[f"gpus:{chosen.gpu}"] = chosen.gpus
    return [dataclasses.replace(quota, used=quota.used + adds[quota.resource]) for quota in quota_use()]
