"""A tenant sees what its own endpoints could cost less, with where to act, if its role may look at cost."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from clusters.models import Endpoint, Saving
from tenants import scope

pytestmark = pytest.mark.django_db


def save(endpoint: Endpoint, kind: str, what: str) -> None:
    with scope.tenant(endpoint.tenant_id):
        Saving.objects.create(
            tenant_id=endpoint.tenant_id, endpoint=endpoint, kind=kind, what=what, amount=77, currency="EUR",
            gpu_hours=10, asset_amount=31, asset_currency="EUR", how=["So it was computed."],
            computed_at=timezone.now(),
        )  # fmt: skip


@pytest.fixture
def endpoint(world) -> Endpoint:
    endpoint = world.order("chat")
    save(endpoint, Saving.Kind.IDLE, "Idle by half.")
    save(endpoint, Saving.Kind.OVERSIZED, "Too large.")
    save(world.order("mail", tenant=world.other), Saving.Kind.IDLE, "Idle of a stranger.")
    return endpoint


def seen(world, who: str) -> str:
    return world.browser(who).get(reverse("tenant:endpoints", args=["nord"])).text


def test_savings_stand_below_the_endpoints_with_where_to_act(world, endpoint):
    shown = seen(world, "owner")
    for text in ("Idle by half.", "Too large.", "77.00 EUR in 30 days", "So it was computed."):
        assert text in shown
    for name in ("endpoint-scale", "endpoint-delete", "endpoint-replan"):
        assert reverse(f"tenant:{name}", args=["nord", endpoint.id]) in shown
    assert "Idle of a stranger." not in shown


def test_what_gpus_cost_their_owner_is_no_tenants_business(world, endpoint):
    shown = seen(world, "owner")
    assert "77.00 EUR" in shown
    assert "31.00 EUR" not in shown
    assert "cost their owner" not in shown


def test_who_may_not_order_is_led_to_the_endpoint_alone(world, endpoint):
    shown = seen(world, "billing")
    assert "Idle by half." in shown
    assert reverse("tenant:endpoint-replan", args=["nord", endpoint.id]) not in shown
