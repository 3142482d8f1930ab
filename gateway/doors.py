"""The gateway's HTTP doors. Only what is listed here exists; no path of an engine is passed on."""

from __future__ import annotations

import datetime as dt
import logging
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway import errors, keys, requests
from gateway.addresses import Addresses
from gateway.batches import BatchDoors
from gateway.budgets.gate import ALERT_HEADER
from gateway.contract import Endpoint, Key, NamedRoute, Verb
from gateway.directory import Directory
from gateway.freshness import TOLD_FROM_S, Freshness
from gateway.inference import Arrival, Inference, no_snapshot
from gateway.metering.meter import Meter
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.passage import FALLBACK_HEADER, SHORTENED_HEADER
from gateway.protocol import REQUEST_ID, continue_anyway, new_request_id, refusal
from gateway.snapshots import SnapshotKeeper

_log = logging.getLogger(__name__)
_Handler = Callable[[web.Request, dict[str, str]], Awaitable[web.StreamResponse]]
_SNAPSHOT_AGE: Final = "x-berth-snapshot-age"
#: What a client calls its request: given back if it is harmless, and used for nothing.
_CLIENT_REQUEST_ID: Final = "x-client-request-id"
_HARMLESS_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_CORS_EXPOSED: Final = ", ".join(
    [
        "x-request-id", "x-client-request-id", "x-should-retry", "retry-after", "retry-after-ms",
        "x-berth-endpoint", FALLBACK_HEADER, SHORTENED_HEADER, ALERT_HEADER, _SNAPSHOT_AGE, errors.REGION_URLS_HEADER,
        *(f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in ("requests", "tokens")),
    ]
)  # fmt: skip


class Doors:
    """Binds paths to what answers them."""

    def __init__(
        self,
        *,
        keeper: SnapshotKeeper,
        inference: Inference,
        meter: Meter,
        metrics: Metrics,
        freshness: Freshness,
        gateway: str,
        batches: BatchDoors,
        limits_shared: Callable[[], bool],
        addresses: Addresses,
    ) -> None:
        self._addresses = addresses
        self._keeper = keeper
        self._inference = inference
        self._meter = meter
        self._metrics = metrics
        self._freshness = freshness
        self._gateway = gateway
        self._batches = batches
        self._limits_shared = limits_shared
        self.draining = False

    def routes(self) -> list[web.RouteDef]:
        """Give all routes, the refusal of every other path last."""
        doors: list[tuple[str, str, _Handler]] = [
            ("GET", "/healthz", self._healthz),
            ("GET", "/readyz", self._readyz),
            ("GET", "/metrics", self._show_metrics),
            ("GET", "/v1/models", self._list_models),
            ("GET", "/v1/models/{model:.+}", self._show_model),
            ("POST", "/v1/chat/completions", self._chat),
            ("POST", "/v1/completions", self._complete),
            ("POST", "/v1/embeddings", self._embed),
            *self._batches.doors(self._authenticate),
            ("OPTIONS", "/v1/{path:.*}", self._preflight),
            ("*", "/{path:.*}", self._unknown),
        ]
        return [
            web.route(method, path, self._api(handler), expect_handler=continue_anyway)
            for method, path, handler in doors
        ]

    def _api(self, handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            headers = {REQUEST_ID: new_request_id(), **self._cors(request), **self._age()}
            theirs = request.headers.get(_CLIENT_REQUEST_ID)
            if theirs is not None and _HARMLESS_ID.fullmatch(theirs):
                headers[_CLIENT_REQUEST_ID] = theirs
            try:
                response = await handler(request, headers)
            except errors.ApiError as error:
                response = refusal(error)
            except (ConnectionError, web.HTTPException):
                raise
            except Exception:  # noqa: BLE001 - whatever went wrong, the client gets an answer
                _log.exception("request %s failed inside the gateway", headers[REQUEST_ID])
                response = refusal(errors.internal())
            if not response.prepared:
                response.headers.update(headers)
            if self.draining:
                response.force_close()
            return response

        return answer

    async def _chat(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        arrival = Arrival(request, headers[REQUEST_ID], headers, requests.read_chat, Verb.CHAT)
        return await self._inference.serve(arrival)

    async def _complete(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        arrival = Arrival(request, headers[REQUEST_ID], headers, requests.read_completion, Verb.COMPLETIONS)
        return await self._inference.serve(arrival)

    async def _embed(self, request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        arrival = Arrival(request, headers[REQUEST_ID], headers, requests.read_embedding, Verb.EMBEDDINGS)
        return await self._inference.serve(arrival)

    async def _list_models(self, request: web.Request, _: dict[str, str]) -> web.StreamResponse:
        directory, key = self._authenticate(request, Verb.MODELS)
        routes = directory.named_routes(key)
        endpoints = directory.endpoints(key).values()
        models = [
            _model(endpoint)
            for endpoint in endpoints
            if endpoint.name not in routes and keys.may_call(key, endpoint.endpoint_id)
        ]
        models += [
            _route(directory, key, route) for route in routes.values() if keys.may_call(key, route.route_id)
        ]
        return _json({"object": "list", "data": models})

    async def _show_model(self, request: web.Request, _: dict[str, str]) -> web.StreamResponse:
        directory, key = self._authenticate(request, Verb.MODELS)
        name = request.match_info["model"]
        if (route := directory.named_routes(key).get(name)) is not None:
            keys.require_target(key, route.route_id, name)
            return _json(_route(directory, key, route))
        endpoint = directory.endpoint(key, name)
        keys.require_target(key, endpoint.endpoint_id, name)
        return _json(_model(endpoint))

    async def _unknown(self, request: web.Request, _: dict[str, str]) -> web.StreamResponse:
        raise errors.ApiError(
            status=404,
            message=f"There is nothing at {request.method} {request.path[:200]}.",
            type="invalid_request_error",
            code="unknown_url",
        )

    async def _healthz(self, request: web.Request, _: dict[str, str]) -> web.StreamResponse:
        return _json({"status": "live", "gateway": self._gateway})

    async def _readyz(self, request: web.Request, _: dict[str, str]) -> web.StreamResponse:
        directory = self._keeper.directory
        age = self._keeper.contact_age_s()
        reasons = []
        if directory is None:
            reasons.append("no snapshot: the control plane was never reached")
        if self.draining:
            reasons.append("stopping")
        if not self._meter.writable:
            reasons.append("the usage log cannot be written")
        document = {
            "status": "not ready" if reasons else "ready",
            "reasons": reasons,
            "snapshot_version": directory.snapshot.version if directory else None,
            "control_plane_contact_age_s": None if age is None or math.isinf(age) else round(age, 1),
            "tenants_refused": sum(map(self._freshness.refuses, directory.tenants())) if directory else 0,
            "unacknowledged_segments": self._meter.spool.segments_pending,
            "limits": "shared" if self._limits_shared() else "local",
        }
        return _json(document, status=503 if reasons else 200)

    async def _show_metrics(self, request: web.Request, _: dict[str, str]) -> web.StreamResponse:
        return web.Response(body=self._metrics.render(), headers={"content-type": CONTENT_TYPE})

    async def _preflight(self, request: web.Request, _: dict[str, str]) -> web.StreamResponse:
        cors = self._cors(request)
        if not cors:
            raise errors.ApiError(
                status=403,
                message="This origin may not call the gateway from a browser.",
                type="invalid_request_error",
                code="origin_not_allowed",
            )
        asked = request.headers.get("access-control-request-headers", "authorization, content-type")
        allowed = {
            "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
            "access-control-allow-headers": asked,
            "access-control-max-age": "600",
        }
        return web.Response(status=204, headers={**cors, **allowed})

    def _cors(self, request: web.Request) -> dict[str, str]:
        origin = request.headers.get("origin")
        directory = self._keeper.directory
        if origin is None or directory is None or origin not in directory.allowed_origins:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": _CORS_EXPOSED,
            "vary": "Origin",
        }

    def _age(self) -> dict[str, str]:
        age = self._keeper.contact_age_s()
        if age is None or age <= TOLD_FROM_S:
            return {}
        return {_SNAPSHOT_AGE: "unknown" if math.isinf(age) else str(int(age))}

    def _authenticate(self, request: web.Request, verb: Verb) -> tuple[Directory, Key]:
        directory = self._keeper.directory
        if directory is None:
            raise no_snapshot()
        key = directory.key(request.headers.get("authorization"))
        keys.require_current(key, now=dt.datetime.now(dt.UTC))
        self._freshness.require(directory.tenant(key))
        keys.require_place(key, self._addresses.of(request) if key.networks else "")
        keys.require_verb(key, verb)
        return directory, key


def _model(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.name,
        "object": "model",
        "created": int(endpoint.created_at.timestamp()),
        "owned_by": "berth",
        "max_model_len": endpoint.context_tokens,
    }


def _route(directory: Directory, key: Key, route: NamedRoute) -> dict[str, Any]:
    targets = [
        endpoint
        for rule in route.rules
        for target in rule.targets
        if (endpoint := directory.callable_by(key, target.endpoint_id)) is not None
    ]
    return {
        "id": route.name,
        "object": "model",
        "created": int(route.created_at.timestamp()),
        "owned_by": "berth",
        "max_model_len": max((endpoint.context_tokens for endpoint in targets), default=0),
    }


def _json(document: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
