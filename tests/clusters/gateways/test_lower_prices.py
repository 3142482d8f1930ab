"""Gateways are told the prices of lower classes beside those of the endpoint's own, as bills will have them."""

from __future__ import annotations

from decimal import Decimal

from billing.prices import price_set
from clusters.endpoints import services
from clusters.endpoints.limits import endpoint_share
from clusters.endpoints.shared import shared_endpoints
from clusters.endpoints.snapshot import build_snapshot
from gateway import contract
from tenants import scope
from tests.estate import MODEL
from tests.factories import default_project, make_tenant

KINDS = ("input_tokens", "output_tokens", "cached_tokens")


def test_an_endpoint_has_the_prices_of_its_class_and_those_of_lower_ones(estate) -> None:
    tenant = make_tenant("acme", gpus=12)
    with scope.tenant(tenant.id):
        ordered = services.endpoint_order(
            project=default_project(tenant), name="docs", terms=estate.terms(), actor="a test"
        )
    own = ordered.slo_class.name
    assert own != contract.BATCH_CLASS
    amounts = {own: ("8", "16", "2"), contract.BATCH_CLASS: ("4", "8", "1")}
    for slo_class, of_class in amounts.items():
        for kind, amount in zip(KINDS, of_class, strict=True):
            price_set(
                kind=kind,
                amount=Decimal(amount),
                currency=tenant.currency,
                model=MODEL,
                slo_class=slo_class,
            )

    (endpoint,) = build_snapshot(estate.gateway).endpoints

    assert own not in endpoint.lower_prices
    told = [
        [Decimal(amount) for amount in (prices.input, prices.output, prices.cached)]
        for prices in (endpoint.prices, endpoint.lower_prices[contract.BATCH_CLASS])
    ]
    assert told == [[Decimal(amount) for amount in of_class] for of_class in amounts.values()]


def test_a_gateway_holds_a_tenants_own_price_for_its_endpoint_and_the_list_price_for_a_shared_one(
    estate,
) -> None:
    tenant = make_tenant("acme", gpus=12)
    with scope.tenant(tenant.id):
        ordered = services.endpoint_order(
            project=default_project(tenant), name="docs", terms=estate.terms(), actor="a test"
        )
    for kind in KINDS:
        price_set(kind=kind, amount=Decimal("8"), currency=tenant.currency, model=MODEL)
        price_set(kind=kind, amount=Decimal("6"), currency=tenant.currency, tenant=tenant)
        price_set(kind=kind, amount=Decimal("1"), currency=tenant.currency, tenant=make_tenant())
    price_set(
        kind="class_factor", amount=Decimal("1.5"), currency=tenant.currency, slo_class=ordered.slo_class.name
    )

    (own,) = build_snapshot(estate.gateway).endpoints
    with scope.tenant(tenant.id):
        endpoint_share(endpoint=ordered, shared=True, actor="a test")
    (shared,) = build_snapshot(estate.gateway).endpoints

    assert Decimal(own.prices.input) == Decimal("9")
    assert shared.prices.input != own.prices.input
    with scope.tenant(tenant.id):
        (told,) = shared_endpoints()
    with scope.tenant(make_tenant().id):
        (others,) = shared_endpoints()
    assert Decimal(told.prices.input) == Decimal("9")
    assert Decimal(others.prices.input) == Decimal(shared.prices.input)
