"""What a request asks of an endpoint."""

from __future__ import annotations

import msgspec

from gateway.contract import Key, SloClass, TokenPrices
from gateway.demand import Demand
from tests.gateway.world import World


def test_prices_are_those_of_the_requests_class() -> None:
    dear = TokenPrices(currency="EUR", input="2", output="4", cached="1")
    cheap = TokenPrices(currency="EUR", input="1", output="2", cached="0.5")
    endpoint = World().endpoint("http://engine", prices=dear, lower_prices={"batch": cheap})
    demand = Demand(
        key=Key(key_id="k", pepper_id=1, digest="", tenant_id="t1", project_id="p1", name="k"),
        endpoint=endpoint,
        slo_class=SloClass(name="interactive", priority=1),
        prompt="",
        input_tokens=1,
        exact=True,
        max_tokens=1,
    )
    batch = msgspec.structs.replace(demand, slo_class=SloClass(name="batch", priority=3))

    between = msgspec.structs.replace(demand, slo_class=SloClass(name="standard", priority=2))

    assert (demand.prices, batch.prices, between.prices) == (dear, cheap, None)
    unpriced = msgspec.structs.replace(batch, endpoint=World().endpoint("http://engine", prices=dear))
    assert unpriced.prices is None
