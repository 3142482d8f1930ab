"""Ordering by the form: without scripts, with mistakes, and the live quote."""

from __future__ import annotations

import re

import pytest

from clusters.models import Endpoint
from tenants import scope
from tenants.services import quota_set
from tests.estate import MODEL

pytestmark = pytest.mark.django_db

ORDER = {
    "model": MODEL,
    "project": "default",
    "slo_class": "standard",
    "residency": "zone:EU",
    "requests_per_second": "1",
    "input_tokens": "100",
    "output_tokens": "50",
    "name": "chat",
}


def endpoints(world) -> list[Endpoint]:
    with scope.tenant(world.tenant.id):
        return list(Endpoint.objects.all())


def test_from_the_catalog_to_an_endpoint_in_two_steps(world):
    browser = world.browser("developer")
    catalog = browser.get("/t/nord/catalog").content.decode()
    link = re.search(rf'href="(/t/nord/order\?model={MODEL})"', catalog).group(1)
    page = browser.get(link)
    form = page.context["form"]
    assert form.data["name"] == f"{MODEL}-standard"
    sent = {name: form.data.get(name) for name in form.fields if form.data.get(name) is not None}
    answer = browser.post("/t/nord/order", sent, follow=True)
    (endpoint,) = endpoints(world)
    assert answer.redirect_chain == [(f"/t/nord/endpoints/{endpoint.id}", 302)]
    assert f"{MODEL}-standard is ordered." in answer.content.decode()
    assert endpoint.created_by == world.people["developer"]


def test_the_quote_comes_with_the_form_and_by_a_button(world):
    browser = world.browser("owner")
    text = browser.get(f"/t/nord/order?model={MODEL}").content.decode()
    assert "EUR per hour" in text
    answer = browser.post("/t/nord/order", {**ORDER, "slo_class": "interactive", "intent": "quote"})
    assert answer.status_code == 200
    quote = answer.context["quote"]
    assert quote["price_unit"] == "EUR per hour"
    assert {figure["label"] for figure in quote["figures"]} >= {"First token", "Between tokens"}
    assert [effect["label"] for effect in quote["effects"]] == [
        "Endpoint quota",
        "GPU quota",
        "Memory of each GPU",
    ]
    refused = {refusal["candidate"].split(":")[0] for refusal in quote["refusals"]}
    assert "us-a/l4" in refused
    assert endpoints(world) == []


@pytest.mark.parametrize(
    ("changes", "field", "complaint"),
    [
        ({"model": "gpt-9"}, "model", "not offered"),
        ({"slo_class": "fastest"}, "slo_class", "not offered"),
        ({"input_tokens": "many"}, "input_tokens", "whole number"),
        ({"input_tokens": "5000"}, "input_tokens", "does not fit"),
        ({"context_tokens": "999999"}, "context_tokens", "tokens of context"),
        ({"replicas": "0"}, "replicas", "greater than or equal to 1"),
        ({"name": "Not A Name"}, "name", "lower-case"),
        ({"project": "nobody"}, "project", "not one of the available choices"),
        ({"requests_per_second": "nan"}, "requests_per_second", "Enter a number"),
        ({"certifications": ["FedRAMP"]}, "certifications", "not one of the available choices"),
    ],
)
def test_a_mistake_is_shown_at_its_field_and_loses_nothing(world, changes, field, complaint):
    sent = {**ORDER, "name": "kept-name", "output_tokens": "77", **changes}
    answer = world.browser("owner").post("/t/nord/order", sent)
    assert answer.status_code == 422
    form = answer.context["form"]
    assert complaint in " ".join(form.errors[field])
    for name, value in sent.items():
        kept = form.data.getlist(name) if isinstance(value, list) else form.data[name]
        assert kept == value
    assert 'value="77"' in answer.content.decode()
    assert endpoints(world) == []


def test_a_name_that_is_taken(world):
    world.order("chat")
    answer = world.browser("owner").post("/t/nord/order", ORDER)
    assert "exists already" in " ".join(answer.context["form"].errors["name"])
    fresh = world.browser("owner").post("/t/nord/order", {**ORDER, "name": ""}, follow=True)
    assert fresh.status_code == 200
    assert {endpoint.name for endpoint in endpoints(world)} == {"chat", f"{MODEL}-standard"}


def test_a_residency_that_no_cluster_satisfies(world):
    answer = world.browser("owner").post("/t/nord/order", {**ORDER, "residency": "zone:Mars"})
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "No cluster can run this" in text
    assert "No such place is known here." in text
    options = answer.context["quote"]["alternatives"]
    assert any(
        option["url"].startswith("/t/nord/order?") and "residency=region" in option["url"]
        for option in options
    )
    chosen = world.browser("owner").get(options[0]["url"])
    assert chosen.context["form"].data["name"] == "chat"
    assert chosen.context["quote"]["price"]


def test_over_quota_is_told_with_its_limit(world):
    with scope.tenant(world.tenant.id):
        quota_set(resource="gpus", limit=0)
    answer = world.browser("owner").post("/t/nord/order", ORDER)
    assert answer.status_code == 422
    assert "Over your quota" in answer.content.decode()
    assert "quota allows 0 GPUs" in answer.content.decode()
    assert endpoints(world) == []


def test_places_that_cannot_be_had_are_greyed_with_the_reason(world):
    page = world.browser("owner").post(
        "/t/nord/order", {**ORDER, "residency": "global", "certifications": ["C5"], "intent": "quote"}
    )
    tiles = {tile["value"]: tile for tile in page.context["residency_tiles"]}
    assert not tiles["region:eu-de-1"]["disabled"]
    assert tiles["region:eu-fi-1"]["disabled"]
    assert tiles["region:eu-fi-1"]["reason"] == "No cluster there holds C5."
    none = world.browser("owner").get("/t/nord/order?model=llama-3.1-8b-instruct")
    assert all(tile["reason"] for tile in none.context["residency_tiles"])


def test_the_fragment_sends_the_panel_and_only_what_changed_of_the_form(world):
    browser = world.browser("owner")
    htmx = {"HX-Request": "true"}
    page = browser.get(f"/t/nord/order?model={MODEL}").context
    state = {**ORDER, "places_seen": page["places_seen"], "suggested": page["suggested"], "name": "my-own"}
    same = browser.post("/t/nord/order/quote", state, headers=htmx).content.decode()
    assert "EUR per hour" in same
    assert "hx-swap-oob" not in same
    assert "<html" not in same
    other = {**state, "model": "llama-3.1-8b-instruct", "name": page["suggested"]}
    text = browser.post("/t/nord/order/quote", other, headers=htmx).content.decode()
    assert 'id="order-places" hx-swap-oob="true"' in text
    assert 'value="llama-3-1-8b-instruct-standard"' in text
    wrong = browser.post("/t/nord/order/quote", {**state, "input_tokens": ""}, headers=htmx).content.decode()
    assert "Input tokens: This field is required." in wrong


def test_the_catalog_says_why_a_model_cannot_run_here(world):
    cards = {
        card["model"].name: card for card in world.browser("viewer").get("/t/nord/catalog").context["cards"]
    }
    assert cards[MODEL]["price"] > 0
    assert not cards["llama-3.1-8b-instruct"]["possible"]
    assert "triton-llmapi" in cards["llama-3.1-8b-instruct"]["reason"]
