"""Endpoints that the platform publishes to every tenant, as any of them may know them."""

from __future__ import annotations

import dataclasses
import uuid

from django.utils import timezone

from billing.prices import price_book
from clusters.endpoints.pricing import EndpointBooks, token_prices
from clusters.endpoints.selectors import CallableAt, endpoint_urls, gateway_list
from clusters.models import Endpoint, NamedRoute, Wanted
from gateway.contract import TokenPrices
from tenants import scope
from tenants.models import Tenant


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedEndpoint:
    """What is told of a shared endpoint: never whose it is, nor where it runs."""

    id: uuid.UUID
    name: str
    model: str
    title: str
    slo_class: str
    residency: str
    context_tokens: int
    state: str
    prices: TokenPrices | None
    urls: list[CallableAt]


def callable_targets(project_id: uuid.UUID) -> dict[uuid.UUID, str]:
    """Give the names, by id, of what keys of a project of the open tenant may call: its endpoints and named routes,
    and the endpoints that are published to every tenant."""
    own = Endpoint.objects.live().exclude(wanted=Wanted.DELETED).filter(project=project_id)
    found = dict(own.values_list("id", "name"))
    found |= dict(NamedRoute.objects.filter(project=project_id).values_list("id", "name"))
    with scope.platform("name the endpoints that are published to every tenant"):
        shared = Endpoint.objects.live().exclude(wanted=Wanted.DELETED).filter(shared=True)
        return dict(shared.values_list("id", "name")) | found


def shared_endpoints() -> list[SharedEndpoint]:
    """Give the shared endpoints by name; the queries do not grow with their number.

    To a tenant the prices are those that it is charged: its own, in its currency.
    """
    now = timezone.now()
    asking = scope.current().tenant_id
    with scope.platform("show the endpoints that are published to every tenant"):
        rows = list(
            Endpoint.objects.live()
            .exclude(wanted=Wanted.DELETED)
            .filter(shared=True)
            .select_related("tenant", "model", "slo_class")
            .order_by("name")
        )
        gateways = gateway_list() if rows else []
        caller = Tenant.objects.get(id=asking) if asking else None
        own = price_book(caller.currency, tenant_id=caller.id) if caller else None
        books = EndpointBooks(rows)
        return [
            SharedEndpoint(
                id=row.id,
                name=row.name,
                model=row.model.name,
                title=row.model.title,
                slo_class=row.slo_class.name,
                residency=row.residency,
                context_tokens=row.context_cap,
                state=row.state,
                prices=token_prices(
                    row, own or books.of(row), now, currency=caller.currency if caller else ""
                ),
                urls=endpoint_urls(row, gateways),
            )
            for row in rows
        ]
