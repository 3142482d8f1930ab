"""A small estate for tests: two regions, three clusters with declared GPUs, the catalog, prices, a gateway."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import models
from django.utils import timezone

from billing.models import GpuSupply, Price
from clusters.endpoints.planning import OrderTerms
from clusters.inventory import services
from clusters.inventory.gateways import gateway_register
from clusters.models import (
    CatalogModel,
    ClassTuning,
    Cluster,
    EngineImage,
    Gateway,
    GpuType,
    NodePool,
    Region,
    SloClass,
    Tokenizer,
)
from tenants import scope

MODEL = "berth-docs-ngram"

#: What ``manage.py bootstrap`` makes and what :func:`make_estate` makes with it, each after what it refers to.
BOOTSTRAP = (GpuType, SloClass, ClassTuning, EngineImage, Tokenizer, CatalogModel, Price)
ESTATE = (*BOOTSTRAP, Region, Cluster, NodePool, GpuSupply, Gateway)


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
    """Fill an empty database as ``manage.py bootstrap`` does."""
    _once(f"bootstrap in {settings.CURRENCY}", lambda: call_command("bootstrap", verbosity=0), BOOTSTRAP)


def make_estate() -> Estate:
    """Make ``de-a`` (8 H100, 4 L4) and ``fi-a`` (4 L4) in the EU and ``us-a`` (8 L4) in the US."""
    return _once(f"estate in {settings.CURRENCY}", make_estate_anew, ESTATE)


_kept: dict[str, tuple[Any, list[list[models.Model]]]] = {}


def _once(name: str, make: Callable[[], Any], tables: tuple[type[models.Model], ...]) -> Any:
    """Make something by its services once and copy its rows from then on, which takes a tenth of the time.

    Where the tables are not empty, the services make it.
    """
    if Price.objects.exists():
        return make()
    if name in _kept:
        made, kept = _kept[name]
        _write(kept)
        return copy.deepcopy(made)
    before = _read(tables)
    made = make()
    if not any(before):
        _kept[name] = copy.deepcopy((made, _read(tables)))
    return made


def _read(tables: tuple[type[models.Model], ...]) -> list[list[models.Model]]:
    with scope.platform("copy what tests begin with"):
        return [list(model.objects.all()) for model in tables]


def _write(tables: list[list[models.Model]]) -> None:
    now = timezone.now()
    with scope.platform("copy what tests begin with"):
        for rows in tables:
            for row in rows:
                if isinstance(row, GpuSupply):
                    row.started_at = now
            type(rows[0]).objects.bulk_create(rows)


def make_estate_anew() -> Estate:
    """Make the estate by its services."""
    call_command("bootstrap", verbosity=0)
    # Nobody asks these engines anything by which a canary could be judged; tests of rollouts set steps.
    SloClass.objects.update(rollout_steps=[])
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
