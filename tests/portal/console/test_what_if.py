"""What operators may ask about prices and deliveries."""

from __future__ import annotations

import pytest
from django.urls import reverse

from clusters.endpoints.services import endpoint_order
from clusters.models import NodePool, Revision
from tenants import scope
from tests.factories import default_project, make_user

pytestmark = pytest.mark.django_db

PATH = "/console/what-if"


def test_a_change_of_prices_is_summed_by_tenant(console, endpoint):
    assert "What it holds" not in console.get(PATH).text
    text = console.post(PATH, {"price_percent": "-10"}).text
    assert "what they hold costs 0.045 EUR less per hour" in text
    assert "Acme &lt;b&gt;GmbH" in text
    assert reverse("console:tenant", args=["acme"]) in text


def test_a_delivery_places_who_waits(console, estate, acme):
    NodePool.objects.update(reserve=1000)
    with scope.tenant(acme.id):
        endpoint_order(project=default_project(acme), name="waits", terms=estate.terms(), actor="a test")
    text = console.post(PATH, {"cluster": "fi-a", "gpu_type": "l4", "nodes": "1"}).text
    assert "Waiting endpoints that could be placed (1)" in text
    assert "waits</a>" in text
    with scope.platform("a test"):
        assert not Revision.objects.exists()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "nothing was changed"),
        ({"cluster": "fi-a"}, "go together"),
        ({"price_percent": "x"}, "Enter a number"),
    ],
)
def test_what_cannot_be_asked_is_told_at_the_form(console, estate, asked, told):
    answer = console.post(PATH, asked)
    assert answer.status_code == 422
    assert told in answer.text


def test_it_is_there_for_operators_only(client, endpoint):
    client.force_login(make_user("ann@example.org"))
    assert client.get(PATH).status_code == 404
    assert client.post(PATH, {"price_percent": "5"}).status_code == 404
