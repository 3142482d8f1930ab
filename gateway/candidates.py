"""Which endpoints a request may go to: the target of a named route, an endpoint's fallbacks, or none yet."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Final

from gateway import errors, routing
from gateway.contract import Endpoint, Key, NamedRoute
from gateway.directory import Directory
from gateway.routing import named

#: States of an endpoint that should serve, and cannot: what is asked of it meanwhile has failed.
_DOWN: Final = frozenset({"degraded", "unreachable", "failed"})
_RETRY_AFTER_S: Final = {
    "provisioning": 10, "waiting-for-capacity": 30, "waiting-for-approval": 300, "paused": 60, "scaled-to-zero": 10,
}  # fmt: skip


def main_target(directory: Directory, key: Key, route: NamedRoute) -> Endpoint:
    """Give the first target of ``route`` that ``key`` may call here: its class and tokenizer stand for the route's.

    Raises:
        ApiError: there is none (503).
    """
    for rule in route.rules:
        for target in rule.targets:
            if (endpoint := directory.callable_by(key, target.endpoint_id)) is not None:
                return endpoint
    raise _served_nowhere(route)


def route_target(
    directory: Directory,
    key: Key,
    route: NamedRoute,
    *,
    slo_class: str,
    input_tokens: int,
    headers: Mapping[str, str],
    session: str,
    rng: random.Random,
) -> Endpoint:
    """Give the endpoint that a request to ``route`` goes to: of the first rule that matches, one by weight.

    Targets that are not served here, or that ``key`` may not call, are left out of the draw.

    Raises:
        ApiError: no rule matches (400), or no target of the one that does is left (503).
    """
    rule = named.match(
        route, slo_class=slo_class, input_tokens=input_tokens, key_ids=key.line, headers=headers
    )
    if rule is None:
        raise errors.invalid(
            f"No rule of the named route {route.name!r} takes this request: class {slo_class}, key {key.name!r},"
            f" a prompt of about {input_tokens} tokens. Add a rule without conditions at its end, or call one of"
            " its endpoints by name.",
            param="model",
            code="no_matching_rule",
        )
    there = [t for t in rule.targets if directory.callable_by(key, t.endpoint_id) is not None]
    salted = routing.salted(session, key.tenant_id, route.route_id)
    target = named.draw_target(there, session=salted, rng=rng)
    endpoint = None if target is None else directory.callable_by(key, target.endpoint_id)
    if endpoint is None:
        raise _served_nowhere(route)
    return endpoint


def fallbacks(directory: Directory, endpoint: Endpoint) -> Iterator[Endpoint]:
    """Give the endpoints that may stand in for ``endpoint``, in order: of the same tenant, or shared."""
    for endpoint_id in endpoint.fallbacks:
        other = directory.by_id(endpoint_id)
        if other is None or endpoint_id == endpoint.endpoint_id:
            continue
        if other.tenant_id == endpoint.tenant_id or other.shared:
            yield other


def not_ready(endpoint: Endpoint) -> errors.Unserved:
    """Nothing of ``endpoint`` may serve now (503)."""
    if endpoint.state == "ready":
        reason = f"has no replica that is ready and satisfies its residency ({endpoint.residency})"
    elif endpoint.state == "scaled-to-zero" and endpoint.wake_refused:
        reason = (
            f"is scaled to zero and could not be woken ({endpoint.wake_refused}): its page says what stands in the way."
            " Each request has that tried again"
        )
    elif endpoint.state == "scaled-to-zero":
        reason = (
            "is scaled to zero and is being woken: send the request again, or with the header"
            " X-Scale-Up-Timeout: <seconds> to be held until it is ready"
        )
    else:
        reason = f"is not ready: {endpoint.state}"
    return errors.not_ready(
        f"Endpoint {endpoint.name} {reason}.",
        retry_after_s=_RETRY_AFTER_S.get(endpoint.state, 5),
        kind=errors.Down if endpoint.state in _DOWN else errors.Unserved,
    )


def _served_nowhere(route: NamedRoute) -> errors.ApiError:
    return errors.not_ready(
        f"None of the endpoints that the named route {route.name!r} has for this request is served here for your"
        " key.",
        code="endpoint_not_ready",
        retry_after_s=30,
    )
