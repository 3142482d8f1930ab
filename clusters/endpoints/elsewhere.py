"""What a gateway is told of other regions: what it may not serve, who may, and how many gateways there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from clusters.endpoints.routes import rules_of, target_ids
from clusters.models import Endpoint, Gateway, NamedRoute
from clusters.planning.residency import residency_allows
from gateway import contract


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewayPlaces:
    """All gateways that count, and how many processes of them share limits: in all, and in one region.

    Those count that Berth runs and those that were ever heard of: not whether they were heard of lately, for then
    the snapshot would change whenever one is late.
    """

    gateways: tuple[Gateway, ...]
    processes: int
    processes_here: int

    @classmethod
    def read(cls, here: Gateway) -> GatewayPlaces:
        """Read them as of ``here``; one query."""
        rows = Gateway.objects.exclude(state=Gateway.State.REMOVING).select_related("region").order_by("name")
        found = tuple(each for each in rows if each.cluster_id or each.last_seen_at or each.id == here.id)
        return cls(
            gateways=found,
            processes=max(1, sum(map(_processes, found))),
            processes_here=max(
                1, sum(_processes(each) for each in found if each.region_id == here.region_id)
            ),
        )

    def urls_for(self, residency: str) -> tuple[str, ...]:
        """Give what OpenAI clients are told as base URL of the gateways that ``residency`` allows."""
        return tuple(
            f"{each.public_url.rstrip('/')}/v1"
            for each in self.gateways
            if each.public_url and residency_allows(residency, each.region.code, frozenset(each.region.zones))
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routes:
    """Named routes with a target that may be served here, and those whose every target is elsewhere."""

    here: tuple[NamedRoute, ...]
    elsewhere: tuple[NamedRoute, ...]


def split_routes(routes: Iterable[NamedRoute], served: Iterable[Endpoint]) -> Routes:
    """Tell routes apart by whether one of their targets is among ``served``."""
    ids = {endpoint.id for endpoint in served}
    here, away = [], []
    for route in routes:
        (here if ids.intersection(target_ids(route)) else away).append(route)
    return Routes(here=tuple(here), elsewhere=tuple(away))


def named_route(route: NamedRoute) -> contract.NamedRoute:
    """Give a route as gateways get it, targets elsewhere included: a rule is never passed over for its place."""
    return contract.NamedRoute(
        route_id=str(route.id),
        tenant_id=str(route.tenant_id),
        project_id=str(route.project_id),
        name=route.name,
        created_at=route.created_at,
        rules=rules_of(route),
    )


def elsewhere(
    live: Sequence[Endpoint], served: Iterable[Endpoint], routes: Routes, places: GatewayPlaces
) -> tuple[contract.Elsewhere, ...]:
    """Give what of ``live`` is not ``served`` here, and the routes that lead nowhere else, with who serves them.

    A route whose targets are all gone is nowhere, and left out.
    """
    here = {endpoint.id for endpoint in served}
    away = {endpoint.id: endpoint for endpoint in live if endpoint.id not in here}
    found = [_elsewhere(endpoint, [endpoint.residency], places) for endpoint in away.values()]
    for route in routes.elsewhere:
        demands = [away[each].residency for each in target_ids(route) if each in away]
        if demands:
            found.append(_elsewhere(route, demands, places))
    return tuple(found)


def _elsewhere(
    named: Endpoint | NamedRoute, demands: Iterable[str], places: GatewayPlaces
) -> contract.Elsewhere:
    each_once = sorted(set(demands))
    urls = dict.fromkeys(url for residency in each_once for url in places.urls_for(residency))
    return contract.Elsewhere(
        tenant_id=str(named.tenant_id),
        project_id=str(named.project_id),
        name=named.name,
        residency=", ".join(each_once),
        urls=tuple(urls),
        shared=isinstance(named, Endpoint) and named.shared,
    )


def _processes(gateway: Gateway) -> int:
    return gateway.replicas if gateway.cluster_id else 1
