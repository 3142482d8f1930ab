"""What a wish comes to, in the figures by which rules judge it and people decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from clusters.endpoints.planning import Market
from clusters.endpoints.policy.in_force import HOURS_OF_MONTH
from clusters.endpoints.pricing import replica_price
from clusters.models import Cluster, Endpoint, Revision
from clusters.planning.plans import Configuration, price_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """An endpoint as it would run: money per hour in the tenant's currency, GPUs, place.

    ``tenant_gpus`` are what the tenant would hold in all, ``gpu_quota`` what it may, None without a quota.
    """

    price_per_hour: Decimal
    currency: str
    replicas: int
    gpus: int
    gpu: str
    precision: str
    pool: str
    cluster: str
    region: str
    zones: tuple[str, ...]
    residency: str
    slo_class: str
    model: str
    licence: str
    tenant_gpus: int
    gpu_quota: int | None
    home_zone: str = ""

    @property
    def price_per_month(self) -> Decimal:
        return self.price_per_hour * HOURS_OF_MONTH

    def to_document(self) -> dict[str, Any]:
        """Give them as JSON-ready builtins; money as decimal strings."""
        document = dataclasses.asdict(self) | {"zones": list(self.zones)}
        document["price_per_hour"] = price_text(self.price_per_hour)
        document["price_per_month"] = price_text(round(self.price_per_month, 2))
        return document


def price_of(quote: Mapping[str, Any]) -> Decimal | None:
    """Give the price per hour of a kept quote; None where there is none in it."""
    text = quote.get("price_per_hour")
    return None if text is None else Decimal(text)


def planned(endpoint: Endpoint, chosen: Configuration, market: Market) -> Figures:
    """Give the figures of a configuration that an endpoint would be placed as. ``market`` is read besides it."""
    zones = next((tuple(sorted(pool.zones)) for pool in market.pools if pool.id == chosen.pool), ())
    return _figures(
        endpoint,
        market,
        price_per_hour=chosen.price_per_hour,
        replicas=chosen.replicas,
        gpus=chosen.gpus,
        gpu=chosen.gpu,
        precision=chosen.precision.value,
        pool=chosen.pool,
        cluster=chosen.cluster,
        region=chosen.region,
        zones=zones,
    )


def running(
    endpoint: Endpoint, revision: Revision, market: Market, *, replicas: int | None = None
) -> Figures:
    """Give the figures of a revision, as it runs or with another number of replicas."""
    count = revision.replicas if replicas is None else replicas
    cluster = Cluster.objects.select_related("region").get(id=revision.cluster_id)
    each = replica_price(revision, market.pools)
    return _figures(
        endpoint,
        market,
        price_per_hour=each * count,
        replicas=count,
        gpus=count * revision.gpus_per_replica,
        gpu=revision.gpu_type,
        precision=revision.precision,
        pool=str(revision.pool),
        cluster=cluster.name,
        region=cluster.region.code,
        zones=tuple(sorted(cluster.region.zones)),
    )


def _figures(endpoint: Endpoint, market: Market, **values: Any) -> Figures:
    return Figures(
        currency=endpoint.tenant.currency,
        residency=endpoint.residency,
        slo_class=endpoint.slo_class.name,
        model=endpoint.model.name,
        licence=endpoint.model.licence,
        tenant_gpus=market.quota.gpus_used + values["gpus"],
        gpu_quota=market.quota.gpu_limit,
        home_zone=market.policy.home_zone if market.policy else "",
        **values,
    )
