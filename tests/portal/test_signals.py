"""What the endpoint's page says of now."""

from __future__ import annotations

import pytest
from django.utils import timezone

from clusters.endpoints.signals import keep_signals
from gateway import contract

pytestmark = pytest.mark.django_db


def tell(world, endpoint, *, gateway: str = "gw-de/0a", **numbers: object) -> None:
    signal = contract.EndpointSignal(endpoint_id=str(endpoint.id), **numbers)
    message = contract.EndpointSignals(gateway=gateway, signals=(signal,))
    assert keep_signals(gateway=world.estate.gateway, message=message, now=timezone.now()) == 1


def test_the_page_says_what_runs_and_waits_now_at_which_gateway(world):
    endpoint = world.order("chat")
    page = f"/t/nord/endpoints/{endpoint.id}"
    assert 'id="now"' not in world.browser("viewer").get(page).text

    tell(world, endpoint, in_flight=7, queued={"interactive": 2, "batch": 3}, oldest_wait_s=1.5, shed=11)
    text = world.browser("viewer").get(page).text
    assert 'id="now"' in text
    for said in ("1.5 s", "3 batch, 2 interactive", ">11<", "gw-de/0a"):
        assert said in text
    assert "By gateway" not in text

    tell(
        world,
        endpoint,
        gateway="gw-de/0b",
        in_flight=1,
        ttft_ms=(0, 0, 5),
        prefills=5,
        queue_s=0.1,
        prefill_s=0.4,
    )
    text = world.browser("viewer").get(page).text
    for said in ("By gateway", "gw-de/0b", "First token, p95", "mean 20 ms waiting, 80 ms prefill"):
        assert said in text
