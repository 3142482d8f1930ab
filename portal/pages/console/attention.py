"""What operators should look at first, worst first."""

from __future__ import annotations

import dataclasses
import datetime as dt

from django.urls import reverse

from clusters.inventory.selectors import is_silent, unpriced_pools
from clusters.models import Cluster, Endpoint, EndpointState, Gateway

#: So many endpoints of one state are named; the others are counted.
MOST_NAMED = 5

_ENDPOINTS = (
    (EndpointState.FAILED, "danger"),
    (EndpointState.UNREACHABLE, "danger"),
    (EndpointState.DEGRADED, "warn"),
    (EndpointState.WAITING_FOR_CAPACITY, "warn"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matter:
    """One thing to look at: what, why, since when, and where."""

    tone: str
    title: str
    text: str
    url: str
    since: dt.datetime | None = None


def matters(now: dt.datetime, *, currency: str) -> list[Matter]:
    """Find what needs attention: clusters away, silent gateways, endpoints in trouble, pools without a price.

    To be called in the platform's scope.
    """
    return [*_clusters(), *_gateways(now), *_endpoints(), *_prices(now, currency)]


def _clusters() -> list[Matter]:
    words = {
        Cluster.State.UNREACHABLE: ("danger", "does not answer"),
        Cluster.State.CORDONED: ("info", "is cordoned"),
    }
    return [
        Matter(
            tone=words[Cluster.State(cluster.state)][0],
            title=f"Cluster {cluster.name} {words[Cluster.State(cluster.state)][1]}",
            text=cluster.state_reason,
            url=reverse("console:cluster", args=[cluster.name]),
            since=cluster.last_seen_at if cluster.state == Cluster.State.UNREACHABLE else None,
        )
        for cluster in Cluster.objects.filter(state__in=words).order_by("-state", "name")
    ]


def _gateways(now: dt.datetime) -> list[Matter]:
    gateways = Gateway.objects.select_related("region").order_by("name")
    return [
        Matter(
            tone="danger" if gateway.last_seen_at else "warn",
            title=f"Gateway {gateway.name} {'is silent' if gateway.last_seen_at else 'was never heard of'}",
            text="It goes on serving from the snapshot it holds, and ships its usage when it is back."
            if gateway.last_seen_at
            else "Start it with the token that was shown when it was registered.",
            url=reverse("console:gateways"),
            since=gateway.last_seen_at,
        )
        for gateway in gateways
        if is_silent(gateway, now)
    ]


def _endpoints() -> list[Matter]:
    found: list[Matter] = []
    for state, tone in _ENDPOINTS:
        rows = Endpoint.objects.live().filter(state=state).select_related("tenant").order_by("state_since")
        found += [
            Matter(
                tone=tone,
                title=f"{endpoint.name} of {endpoint.tenant.name}: {state.label.lower()}",
                text=endpoint.state_reason,
                url=reverse("console:endpoint", args=[endpoint.id]),
                since=endpoint.state_since,
            )
            for endpoint in rows[:MOST_NAMED]
        ]
        more = rows.count() - MOST_NAMED
        if more > 0:
            found.append(
                Matter(
                    tone=tone,
                    title=f"{more} more endpoints: {state.label.lower()}",
                    text="",
                    url=f"{reverse('console:endpoints')}?state={state.value}",
                )
            )
    return found


def _prices(now: dt.datetime, currency: str) -> list[Matter]:
    return [
        Matter(
            tone="warn",
            title=f"Pool {pool} is not for sale",
            text=f"There is no price for {pool.gpu_type.title} in {pool.cluster.region.code}.",
            url=f"{reverse('console:price-add')}?kind=gpu_hour&gpu_type={pool.gpu_type.name}",
        )
        for pool in unpriced_pools(currency=currency, now=now)
    ]
