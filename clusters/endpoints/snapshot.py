"""The snapshot that a gateway serves from: keys and their limits, endpoints, routes, prices."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from billing.budgets.selectors import contract_budgets
from billing.rating.prices import PriceBook
from clusters.endpoints import owners
from clusters.endpoints.autoscaling.sleeping import Sleepers
from clusters.endpoints.draining import goes
from clusters.endpoints.elsewhere import GatewayPlaces, elsewhere, named_route, split_routes
from clusters.endpoints.pricing import EndpointBooks, token_prices
from clusters.endpoints.rollouts.terms import as_served
from clusters.endpoints.rollouts.weights import active_rollouts, weight_of
from clusters.models import (
    Cluster,
    Endpoint,
    EndpointState,
    Gateway,
    NamedRoute,
    Region,
    Replica,
    Revision,
    Rollout,
    SloClass,
    Wanted,
)
from clusters.planning.residency import residency_allows
from gateway import contract
from tenants import scope
from tenants.models import Project, Tenant

PROTOCOLS = {
    "triton-python": contract.EngineProtocol.TRITON_GENERATE,
    "triton-llmapi": contract.EngineProtocol.TRITON_GENERATE,
    "triton-engine": contract.EngineProtocol.TRITON_GENERATE,
    "trtllm-serve": contract.EngineProtocol.OPENAI_HTTP,
}
#: Port and path at which a runtime's pods show their metrics; None is the port of the engine itself.
METRICS: dict[str, tuple[int | None, str]] = {
    "triton-python": (8002, "/metrics"),
    "triton-llmapi": (8002, "/metrics"),
    "triton-engine": (8002, "/metrics"),
    "trtllm-serve": (None, "/prometheus/metrics"),
}
#: What a runtime's engines can do beyond text, in the words of ``contract.Replica.features``.
FEATURES: dict[str, tuple[str, ...]] = {
    "triton-python": (),
    "triton-llmapi": (),
    "triton-engine": (),
    "trtllm-serve": ("chat", "response_format", "logprobs", "logit_bias"),
}
#: What a runtime does with special tokens when it takes a prompt in.
SPECIAL_TOKENS = {
    "triton-python": contract.SpecialTokens.NONE,
    "triton-llmapi": contract.SpecialTokens.ONCE,
    "triton-engine": contract.SpecialTokens.ONCE,
    "trtllm-serve": contract.SpecialTokens.ALWAYS,
}
DEFAULT_MAX_TOKENS = 256


def build_snapshot(gateway: Gateway) -> contract.Snapshot:
    """Build what ``gateway`` may serve: endpoints whose residency lets requests pass its region.

    Equal rows give an equal version.
    """
    region = gateway.region
    with scope.platform(f"snapshot for gateway {gateway.name}"):
        live = list(_live_endpoints())
        endpoints = [endpoint for endpoint in live if _serves(region, endpoint)]
        replicas = _routed_replicas(endpoints).order_by("revision_id", "index", "id")
        by_endpoint: dict = defaultdict(list)
        for replica in replicas:
            by_endpoint[replica.endpoint_id].append(replica)
        rollouts = active_rollouts(endpoints)
        wished = endpoints
        endpoints = [as_served(endpoint, rollouts.get(endpoint.id)) for endpoint in wished]
        now = timezone.now()
        active = {"tenant__state": Tenant.State.ACTIVE}
        tenants = list(Tenant.objects.filter(state=Tenant.State.ACTIVE).order_by("id"))
        projects = Project.objects.filter(**active).order_by("id")
        routes = split_routes(NamedRoute.objects.filter(**active).order_by("id"), endpoints)
        places = GatewayPlaces.read(gateway)
        classes = list(SloClass.objects.order_by("priority", "name"))
        books, sleepers = EndpointBooks(endpoints), Sleepers.read(endpoints)
        return contract.Snapshot.build(
            gateway=gateway.name,
            region=region.code,
            zones=tuple(sorted(region.zones)),
            keys=owners.keys(now),
            endpoints=tuple(
                _endpoint(
                    endpoint,
                    wish,
                    by_endpoint[endpoint.id],
                    rollouts.get(endpoint.id),
                    books.of(endpoint),
                    region,
                    classes,
                    sleepers,
                    now,
                )
                for endpoint, wish in zip(endpoints, wished, strict=True)
            ),
            classes=tuple(map(_class, classes)),
            tenants=tuple(map(owners.tenant, tenants)),
            projects=tuple(map(owners.project, projects)),
            named_routes=tuple(map(named_route, routes.here)),
            elsewhere=elsewhere(live, endpoints, routes, places),
            gateways=places.processes,
            gateways_here=places.processes_here,
            budgets=contract_budgets(_payers(tenants, endpoints)),
            allowed_origins=tuple(filter(None, [settings.PORTAL_PUBLIC_URL])),
        )


def served_endpoints(gateway: Gateway, **narrowed: object) -> list[Endpoint]:
    """Give the endpoints whose requests may pass the gateway's region. Call it in the platform's scope."""
    return [endpoint for endpoint in _live_endpoints(**narrowed) if _serves(gateway.region, endpoint)]


def served_replicas(endpoints: list[Endpoint]) -> QuerySet[Replica]:
    """Give the replicas that new requests to ``endpoints`` may be sent to. Call it in the platform's scope."""
    return _routed_replicas(endpoints).filter(phase=Replica.Phase.READY, revision__retired_at=None)


def _routed_replicas(endpoints: list[Endpoint]) -> QuerySet[Replica]:
    """Give those that requests may be sent to, and those that finish what they were sent before."""
    return Replica.objects.filter(
        gone_at=None, phase__in=(Replica.Phase.READY, Replica.Phase.DRAINING), endpoint__in=endpoints
    ).select_related("revision__cluster__region")


def _payers(tenants: Iterable[Tenant], endpoints: Iterable[Endpoint]) -> set[uuid.UUID]:
    """Give the tenants whose requests may come here: those of ``endpoints``, and all where one is shared."""
    if any(endpoint.shared for endpoint in endpoints):
        return {tenant.id for tenant in tenants}
    return {endpoint.tenant_id for endpoint in endpoints}


def _live_endpoints(**narrowed: object) -> QuerySet[Endpoint]:
    return (
        Endpoint.objects.live()
        .exclude(wanted=Wanted.DELETED)
        .select_related("tenant", "model", "slo_class")
        .filter(tenant__state=Tenant.State.ACTIVE, **narrowed)
        .order_by("id")
    )


def _serves(region: Region, endpoint: Endpoint) -> bool:
    return residency_allows(endpoint.residency, region.code, frozenset(region.zones))


def _class(slo: SloClass) -> contract.SloClass:
    return contract.SloClass(
        name=slo.name,
        priority=slo.priority,
        ttft_ms=slo.ttft_p95_ms,
        itl_ms=slo.itl_p95_ms,
        timeouts=contract.Timeouts(
            connect_s=slo.connect_timeout_s,
            first_token_s=slo.first_token_timeout_s,
            between_tokens_s=slo.between_tokens_timeout_s,
            total_s=slo.total_timeout_s,
            attempts=slo.attempts,
            backoff_s=slo.backoff_s,
            backoff_most_s=slo.backoff_most_s,
        ),
        queue_s=slo.queue_s,
        floor=slo.floor,
        context_tokens=slo.context_tokens,
        on_overload=contract.OnOverload(slo.on_overload),
        degraded_context_tokens=slo.degraded_context_tokens,
    )


def _terms(endpoint: Endpoint) -> contract.RevisionTerms:
    return contract.RevisionTerms(
        context_tokens=endpoint.context_cap,
        max_output_tokens=endpoint.answer_cap,
        default_max_tokens=min(DEFAULT_MAX_TOKENS, endpoint.answer_cap),
        chat_template=endpoint.model.chat_template,
        tokenizer=endpoint.model.tokenizer_id or "",
    )


def _endpoint(
    endpoint: Endpoint,
    wish: Endpoint,
    replicas: Iterable[Replica],
    rollout: Rollout | None,
    book: PriceBook,
    region: Region,
    classes: Iterable[SloClass],
    sleepers: Sleepers,
    now: dt.datetime,
) -> contract.Endpoint:
    routes: dict[str, list[contract.Replica]] = defaultdict(list)
    runtime = next(iter(endpoint.model.runtimes), "triton-llmapi")
    for replica in replicas:
        routes[str(replica.revision_id)].append(_replica(replica))
        runtime = replica.revision.runtime
    # A route is there as soon as an engine answers; "ready" waits for a gateway to confirm the route.
    serving = any(
        not replica.draining
        for revision, members in routes.items()
        if weight_of(revision, rollout)
        for replica in members
    )
    terms, new = _terms(endpoint), _terms(wish)
    state: str = endpoint.state
    if endpoint.wanted == Wanted.RUNNING:
        state = EndpointState.READY if serving else sleepers.state(endpoint)
    return contract.Endpoint(
        endpoint_id=str(endpoint.id),
        tenant_id=str(endpoint.tenant_id),
        project_id=str(endpoint.project_id),
        name=endpoint.name,
        created_at=endpoint.created_at,
        model=endpoint.model.name,
        slo_class=endpoint.slo_class.name,
        residency=endpoint.residency,
        context_tokens=terms.context_tokens,
        max_output_tokens=terms.max_output_tokens,
        default_max_tokens=terms.default_max_tokens,
        chat_template=terms.chat_template,
        state=str(state),
        routes=tuple(
            contract.Route(
                revision_id=revision,
                weight=weight_of(revision, rollout),
                replicas=tuple(members),
                terms=new if new != terms and rollout and revision == str(rollout.revision_id) else None,
            )
            for revision, members in sorted(routes.items())
        ),
        prices=token_prices(endpoint, book, now, region=region.code),
        lower_prices={
            other.name: prices
            for other in classes
            if other.priority > endpoint.slo_class.priority
            and (prices := token_prices(endpoint, book, now, slo_class=other.name, region=region.code))
            is not None
        },
        rates=owners.rates(endpoint),
        shared=endpoint.shared,
        fallbacks=tuple(map(str, endpoint.fallbacks)),
        tokenizer=terms.tokenizer,
        special_tokens=SPECIAL_TOKENS[runtime],
        wake_hold_s=sleepers.hold_s(endpoint),
        wake_refused=sleepers.refusal(endpoint),
    )


def _replica(replica: Replica) -> contract.Replica:
    region = replica.revision.cluster.region
    return contract.Replica(
        replica_id=replica.replica_id,
        url=replica.url,
        protocol=PROTOCOLS[replica.revision.runtime],
        engine_model=replica.engine_model,
        region=region.code,
        zones=tuple(sorted(region.zones)),
        metrics_url=_metrics_url(replica),
        concurrency=replica.revision.max_batch_size,
        draining=replica.phase == Replica.Phase.DRAINING or goes(replica.revision, replica.index),
        features=_features(replica.revision),
    )


def _features(revision: Revision) -> tuple[str, ...]:
    """Give what clients may ask of an engine: it takes tools where it was started with a parser of their calls."""
    features = FEATURES[revision.runtime]
    return (*features, "tools") if "chat" in features and revision.spec.get("tool_parser") else features


def _metrics_url(replica: Replica) -> str:
    """Where a pod shows its metrics; processes of a local cluster share a machine, and show none."""
    if replica.revision.cluster.driver != Cluster.DriverKind.KUBERNETES:
        return ""
    port, path = METRICS[replica.revision.runtime]
    parts = urlsplit(replica.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http://{host}:{port or parts.port}{path}"
