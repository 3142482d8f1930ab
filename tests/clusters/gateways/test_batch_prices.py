"""Gateways are told the prices of batch beside those of the endpoint's own class, as bills will have them."""

from __future__ import annotations

from decimal import Decimal

from billing.prices import price_set
from clusters.endpoints import services
from clusters.endpoints.snapshot import build_snapshot
from clusters.models import SloClass
from gateway import contract
from tenants import scope
from tests.estate import MODEL
from tests.factories import default_project, make_tenant


def test_an_endpoint_has_the_prices_of_its_class_and_those_of_batch(estate) -> None:
    tenant = make_tenant("acme", gpus=12)
    with scope.tenant(tenant.id):
        services.endpoint_order(
            project=default_project(tenant), name="docs", terms=estate.terms(), actor="a test"
        )
    for slo_class, factor in (("", 2), (contract.BATCH_CLASS, 1)):
        for kind in ("input_tokens", "output_tokens", "cached_tokens"):
            amount = Decimal(factor) * {"input_tokens": 4, "output_tokens": 8, "cached_tokens": 1}[kind]
            price_set(kind=kind, amount=amount, currency=tenant.currency, model=MODEL, slo_class=slo_class)

    (endpoint,) = build_snapshot(estate.gateway).endpoints

    assert endpoint.slo_class != contract.BATCH_CLASS
    assert [endpoint.prices, endpoint.batch_prices] == [
        contract.TokenPrices(currency=tenant.currency, input=first, output=second, cached=third)
        for first, second, third in (("8", "16", "2"), ("4", "8", "1"))
    ]
    assert SloClass.objects.filter(name=contract.BATCH_CLASS).exists()
