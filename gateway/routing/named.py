"""Named routes: which of a route's rules a request matches, and which target it goes to."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from gateway.contract import NamedRoute, RouteRule, RouteTarget
from gateway.routing.draw import draw


def measures(route: NamedRoute) -> bool:
    """Say whether some rule asks how long the prompt is."""
    return any(rule.min_input_tokens > 0 or rule.max_input_tokens is not None for rule in route.rules)


def match(
    route: NamedRoute,
    *,
    slo_class: str,
    input_tokens: int,
    key_ids: Sequence[str],
    headers: Mapping[str, str],
) -> RouteRule | None:
    """Give the first rule that matches, None if none does.

    ``key_ids`` are of the key and of those whose place it took; ``headers`` are looked up by lower-case name.
    """
    for rule in route.rules:
        if rule.slo_class and rule.slo_class != slo_class:
            continue
        if input_tokens < rule.min_input_tokens:
            continue
        if rule.max_input_tokens is not None and input_tokens > rule.max_input_tokens:
            continue
        if rule.key_ids and not any(key_id in rule.key_ids for key_id in key_ids):
            continue
        if rule.header and headers.get(rule.header) != rule.header_value:
            continue
        return rule
    return None


def draw_target(targets: Sequence[RouteTarget], *, session: str, rng: random.Random) -> RouteTarget | None:
    """Draw one of ``targets`` by weight, for a session always the same; None if none has a weight."""
    weighted = [target for target in targets if target.weight > 0]
    if len(weighted) < 2:
        return weighted[0] if weighted else None
    names = [target.endpoint_id for target in weighted]
    return weighted[draw(names, [target.weight for target in weighted], session=session, rng=rng)]
