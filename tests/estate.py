"""A small estate for tests: two regions, three clusters with declared GPUs, the catalog, prices, a gateway."""

from __future__ import annotations

import dataclasses

from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from billing.models import Price
from clusters.endpoints.planning import OrderTerms
from clusters.inventory import services
from clusters.inventory.gateways import gateway_register
from clusters.models import CatalogModel, Cluster, Gateway, GpuType, Region, SloClass
from tenants import scope

MODEL = "berth-docs-ngram"

_opening_prices: dict[str, list[Price]] = {}


@dataclasses.dataclass
class Estate:
    """What was made; ``gateway_token`` authenticates the gateway ``gw-de``."""

    clusters: dict[str, Cluster]
    gateway: Gateway
    gateway_token: str

    def terms(self, **changes) -> OrderTerms:
        """Give the terms of a small order."""
        values = {
            "model": CatalogModel.objects.get(name=changes.pop("model", MODEL)),
            "slo_class": SloClass.objects.get(name=changes.pop("slo_class", "standard")),
            "residency": "zone:EU",
            "input_tokens": 100,
            "output_tokens": 50,
        }
        return OrderTerms(**values | changes)

    def confirm_gateway(self) -> None:
        """Let the gateway have confirmed the newest snapshot just now."""
        now = timezone.now()
        Gateway.objects.filter(id=self.gateway.id).update(confirmed_at=now, last_seen_at=now)


def bootstrap() -> None:
    """Fill the database as every installation is.

    Checking the opening prices one by one takes most of that, and is done once a run: later ones are copies.
    """
    known = _opening_prices.get(settings.CURRENCY)
    with scope.platform("copy the opening prices"):
        if known and not Price.objects.exists():
            Price.objects.bulk_create(known)
    call_command("bootstrap", verbosity=0)
    if not known:
        with scope.platform("keep the opening prices"):
            _opening_prices[settings.CURRENCY] = list(Price.objects.all())


def make_estate() -> Estate:
    """Make ``de-a`` (8 H100, 4 L4) and ``fi-a`` (4 L4) in the EU and ``us-a`` (8 L4) in the US."""
    bootstrap()
    regions = {
        code: services.region_register(
            code=code, name=code, country=country, zones=zones, certifications=held
        )
        for code, country, zones, held in [
            ("eu-de-1", "DE", ["EU", "EEA"], ["ISO27001", "C5"]),
            ("eu-fi-1", "FI", ["EU", "EEA"], ["ISO27001"]),
            ("us-east-1", "US", ["US"], ["ISO27001"]),
        ]
    }
    clusters = {}
    for name, region, pools in [
        ("de-a", "eu-de-1", [("h100", "h100_sxm", 1, 8), ("l4", "l4", 1, 4)]),
        ("fi-a", "eu-fi-1", [("l4", "l4", 2, 2)]),
        ("us-a", "us-east-1", [("l4", "l4", 1, 8)]),
    ]:
        cluster = services.cluster_register(
            name=name, region=regions[region], driver="local", runtimes=["triton-python"], declared=True
        )
        for pool, gpu_type, nodes, per_node in pools:
            services.pool_add(
                cluster=cluster,
                name=pool,
                gpu_type=GpuType.objects.get(name=gpu_type),
                nodes=nodes,
                gpus_per_node=per_node,
            )
        clusters[name] = cluster
    gateway, token = gateway_register(name="gw-de", region=Region.objects.get(code="eu-de-1"))
    return Estate(clusters=clusters, gateway=gateway, gateway_token=token)
