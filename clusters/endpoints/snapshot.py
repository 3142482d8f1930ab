"""The snapshot that a gateway serves from: keys, endpoints, routes, prices."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from billing.budgets.selectors import contract_budgets
from billing.prices import price_book
from billing.rating.prices import MissingPrice, PriceBook
from clusters.models import Cluster, Endpoint, EndpointState, Gateway, Replica, SloClass, Wanted
from clusters.planning.residency import residency_allows
from gateway import contract
from tenants import scope
from tenants.models import ApiKey, KeyScope, Tenant

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
        endpoints = served_endpoints(gateway)
        replicas = served_replicas(endpoints).order_by("revision_id", "index", "id")
        by_endpoint: dict = defaultdict(list)
        for replica in replicas:
            by_endpoint[replica.endpoint_id].append(replica)
        now = timezone.now()
        keys = (
            ApiKey.objects.usable(now)
            .filter(scope=KeyScope.INFERENCE, tenant__state=Tenant.State.ACTIVE)
            .order_by("id")
        )
        books = {currency: price_book(currency) for currency in {e.tenant.currency for e in endpoints}}
        served = tuple(
            _endpoint(endpoint, by_endpoint[endpoint.id], books[endpoint.tenant.currency], now)
            for endpoint in endpoints
        )
        # Who may call pays: everybody where an endpoint is shared, else those whose endpoints these are.
        payers = {each.tenant_id for each in (keys if any(one.shared for one in served) else endpoints)}
        return contract.Snapshot.build(
            gateway=gateway.name,
            region=region.code,
            zones=tuple(sorted(region.zones)),
            keys=tuple(map(_key, keys)),
            endpoints=served,
            classes=tuple(map(_class, SloClass.objects.order_by("priority", "name"))),
            budgets=contract_budgets(payers),
            allowed_origins=tuple(filter(None, [settings.PORTAL_PUBLIC_URL])),
        )


def served_endpoints(gateway: Gateway, **narrowed: object) -> list[Endpoint]:
    """Give the endpoints whose requests may pass the gateway's region. Call it in the platform's scope."""
    region = gateway.region
    return [
        endpoint
        for endpoint in Endpoint.objects.live()
        .exclude(wanted=Wanted.DELETED)
        .select_related("tenant", "model", "slo_class")
        .filter(tenant__state=Tenant.State.ACTIVE, **narrowed)
        .order_by("id")
        if residency_allows(endpoint.residency, region.code, frozenset(region.zones))
    ]


def served_replicas(endpoints: list[Endpoint]) -> QuerySet[Replica]:
    """Give the replicas that requests to ``endpoints`` may be sent to. Call it in the platform's scope."""
    return Replica.objects.filter(
        gone_at=None, phase=Replica.Phase.READY, revision__retired_at=None, endpoint__in=endpoints
    ).select_related("revision__cluster__region")


def _key(key: ApiKey) -> contract.Key:
    return contract.Key(
        key_id=str(key.id),
        pepper_id=key.pepper_id,
        digest=key.digest,
        tenant_id=str(key.tenant_id),
        project_id=str(key.project_id),
        name=key.name,
        expires_at=key.expires_at,
    )


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
        ),
    )


def _endpoint(
    endpoint: Endpoint, replicas: Iterable[Replica], book: PriceBook, now: dt.datetime
) -> contract.Endpoint:
    routes: dict[str, list[contract.Replica]] = defaultdict(list)
    runtime = next(iter(endpoint.model.runtimes), "triton-llmapi")
    for replica in replicas:
        routes[str(replica.revision_id)].append(_replica(replica))
        runtime = replica.revision.runtime
    # A route is there as soon as an engine answers; "ready" waits for a gateway to confirm the route.
    state = EndpointState.READY if routes and endpoint.wanted == Wanted.RUNNING else endpoint.state
    return contract.Endpoint(
        endpoint_id=str(endpoint.id),
        tenant_id=str(endpoint.tenant_id),
        project_id=str(endpoint.project_id),
        name=endpoint.name,
        created_at=endpoint.created_at,
        model=endpoint.model.name,
        slo_class=endpoint.slo_class.name,
        residency=endpoint.residency,
        context_tokens=endpoint.context_cap,
        max_output_tokens=endpoint.answer_cap,
        default_max_tokens=min(DEFAULT_MAX_TOKENS, endpoint.answer_cap),
        chat_template=endpoint.model.chat_template,
        state=str(state),
        routes=tuple(
            contract.Route(revision_id=revision, weight=100, replicas=tuple(members))
            for revision, members in sorted(routes.items())
        ),
        prices=_prices(endpoint, endpoint.slo_class.name, book, now),
        batch_prices=_prices(endpoint, contract.BATCH_CLASS, book, now),
        tokenizer=endpoint.model.tokenizer_id or "",
        special_tokens=SPECIAL_TOKENS[runtime],
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
    )


def _metrics_url(replica: Replica) -> str:
    """Where a pod shows its metrics; processes of a local cluster share a machine, and show none."""
    if replica.revision.cluster.driver != Cluster.DriverKind.KUBERNETES:
        return ""
    port, path = METRICS[replica.revision.runtime]
    parts = urlsplit(replica.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http://{host}:{port or parts.port}{path}"


def _prices(
    endpoint: Endpoint, slo_class: str, book: PriceBook, now: dt.datetime
) -> contract.TokenPrices | None:
    def amount(kind: str) -> str:
        price = book.at(kind, now, model=endpoint.model.name, slo_class=slo_class)
        return f"{price.amount:f}"

    try:
        return contract.TokenPrices(
            currency=endpoint.tenant.currency,
            input=amount("input_tokens"),
            output=amount("output_tokens"),
            cached=amount("cached_tokens"),
        )
    except MissingPrice:
        return None
