"""Ordering by the form: without scripts, with mistakes, and the live quote."""

from __future__ import annotations

import re

import pytest

from clusters.models import CatalogModel, Endpoint
from portal.pages.order_profile import TYPED
from tenants import scope
from tenants.services import quota_set
from tests.estate import MODEL

pytestmark = pytest.mark.django_db

ORDER = {
    "model": MODEL,
    "project": "default",
    "slo_class": "standard",
    "residency": "zone:EU",
    "profile": "",
    "requests_per_second": "1",
    "burstiness": "1",
    "input_tokens": "100",
    "input_cv": "1",
    "output_tokens": "50",
    "output_cv": "1",
    "prefix_share": "0",
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
    assert [line["label"] for line in quote["lines"]] == [
        "1 replica for the mean load",
        "Headroom: 1 spare",  # the class keeps one
    ]
    expected = {row["what"]: row["target"] for row in quote["times"]["rows"]}
    assert expected == {
        "First token, p95": "500 ms",
        "Between tokens, p95": "40 ms",
        "Whole answer, mean": "none",
    }
    assert [effect["label"] for effect in quote["effects"]] == ["Endpoint quota", "GPU quota"]
    assert [part["label"] for part in quote["memory"]["segments"]] == [
        "Weights", "KV cache", "Activations", "Framework",
    ]  # fmt: skip
    assert "Chunked prefill" in {each["name"] for each in quote["techniques"]}
    refused = {refusal["where"]: refusal["reason"] for refusal in quote["refusals"]}
    assert refused["us-a/l4"] == "Residency"
    text = answer.content.decode()
    for told in ("Headroom: 1 spare", "What was ruled out", "Residency", "How the engines run", "KV cache"):
        assert told in text
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
        ({"output_limit": "999999"}, "output_limit", "as many as the context"),
        ({"burstiness": "0.5"}, "burstiness", "greater than or equal to 1"),
        ({"input_cv": "11"}, "input_cv", "less than or equal to 10"),
        ({"prefix_share": "100"}, "prefix_share", "less than or equal to 99"),
        ({"profile": "weird"}, "profile", "no such profile"),
        ({"near": "mars"}, "near", "not offered"),
        ({"gpu": "abacus"}, "gpu", "not offered"),
        ({"cluster": "nowhere"}, "cluster", "not offered"),
        ({"precision": "fp8"}, "precision", "not offered"),
        ({"tp": "0"}, "tp", "greater than or equal to 1"),
        ({"max_batch_size": "9999"}, "max_batch_size", "less than or equal to"),
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
    form = page["form"]
    state = {**as_sent(form), "places_seen": page["places_seen"], "name": "my-own"}
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


def shape(form) -> dict[str, str]:
    """The numbers of a profile as the form shows them."""
    return {name: form.data[name] for name in TYPED}


def as_sent(form) -> dict[str, list[str]]:
    """What a browser sends of the form as it is shown, without a touch."""
    names = (*form.fields, "profile_seen", "model_seen")
    return {name: form.data.getlist(name) for name in names if name in form.data} | {
        "caps_seen": [form.caps_seen]
    }


@pytest.fixture
def long_model(world) -> CatalogModel:
    """A model that takes 32,768 tokens of context, and is made in fp8 by a job."""
    model = CatalogModel.objects.get(name="llama-3.1-8b-instruct")
    model.runtimes, model.context_tokens = ["triton-python"], 32_768
    model.weights_kind, model.weights_uri = CatalogModel.WeightsKind.PVC, "weights/llama"
    model.save()
    return model


def test_a_profile_fills_the_numbers_and_ones_own_numbers_leave_it(world, long_model):
    browser = world.browser("owner")
    page = browser.get(f"/t/nord/order?model={long_model.name}&profile=chat").context
    assert page["form"].data["profile"] == "chat"
    assert [tile["value"] for tile in page["profile_tiles"] if tile["checked"]] == ["chat"]
    sent = {**as_sent(page["form"]), "intent": "quote", "profile": "long-input"}
    other = browser.post("/t/nord/order", sent).context["form"]
    assert shape(other) != shape(page["form"])
    assert other.data["profile_seen"] == "long-input"
    assert other.data["requests_per_second"] == page["form"].data["requests_per_second"]
    own = {**sent, **shape(other), "profile_seen": "long-input", "input_tokens": "777"}
    kept = browser.post("/t/nord/order", own).context["form"]
    assert (kept.data["profile"], kept.data["input_tokens"]) == ("", "777")
    back = browser.post("/t/nord/order", {**own, "profile": "long-input", "profile_seen": ""}).context["form"]
    assert shape(back) == shape(other)


def test_numbers_of_a_profile_follow_the_model_until_somebody_changes_them(world, long_model):
    browser = world.browser("owner")
    form = browser.get(f"/t/nord/order?model={long_model.name}&profile=long-input").context["form"]
    sent = as_sent(form)
    small = browser.post("/t/nord/order", {**sent, "model": MODEL, "intent": "quote"}).context["form"]
    assert small.data["profile"] == "long-input"
    assert int(small.data["input_tokens"]) < int(form.data["input_tokens"])
    assert small.is_valid()


def test_an_order_is_not_taken_on_numbers_that_nobody_has_seen(world, long_model):
    browser = world.browser("owner")
    form = browser.get(f"/t/nord/order?model={MODEL}&residency=zone:EU").context["form"]
    sent = as_sent(form)
    answer = browser.post("/t/nord/order", {**sent, "profile": "long-output"})
    assert answer.status_code == 422
    assert "Look at the price, then order." in answer.content.decode()
    assert endpoints(world) == []
    again = as_sent(answer.context["form"])
    assert browser.post("/t/nord/order", again).status_code == 302
    (endpoint,) = endpoints(world)
    assert endpoint.profile == "long-output"
    assert [str(endpoint.input_tokens)] == again["input_tokens"]


def test_the_whole_order_is_kept_with_the_endpoint(world):
    sent = {
        **ORDER, "burstiness": "1.5", "input_cv": "0.5", "output_cv": "0.25", "prefix_share": "25",
        "context_tokens": "512", "output_limit": "128", "near": "eu-de-1", "gpu": "l4", "cluster": "de-a",
        "precision": "", "tp": "1", "pp": "1", "max_batch_size": "8",
    }  # fmt: skip
    assert world.browser("developer").post("/t/nord/order", sent).status_code == 302
    (endpoint,) = endpoints(world)
    assert (endpoint.profile, endpoint.burstiness, endpoint.prefix_share) == ("", 1.5, 0.25)
    assert (endpoint.input_cv, endpoint.output_cv) == (0.5, 0.25)
    assert (endpoint.context_tokens, endpoint.output_limit, endpoint.near) == (512, 128, "eu-de-1")
    assert endpoint.pins == {"gpu": "l4", "cluster": "de-a", "tp": 1, "pp": 1, "max_batch_size": 8}
    page = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}").content.decode()
    for told in (
        "512 tokens with its answer",
        "128 tokens",
        "GPU type l4, Cluster de-a",
        "25 % of the input",
    ):
        assert told in page


def test_caps_are_proposed_where_none_are_typed(world, long_model):
    form = world.browser("owner").get(f"/t/nord/order?model={long_model.name}&profile=chat").context["form"]
    context, answer = form.proposed_caps()
    assert f"Empty: {context:,} tokens." in form.fields["context_tokens"].help_text
    terms = form.terms()
    assert (terms.context_tokens, terms.output_limit) == (context, answer)
    assert answer < context < long_model.context_tokens


def test_pins_are_priced_and_can_be_taken_back(world):
    page = world.browser("owner").post(
        "/t/nord/order", {**ORDER, "gpu": "h100_sxm", "cluster": "de-a", "intent": "quote"}
    )
    costs = {each["pin"]: each for each in page.context["quote"]["pin_costs"]}
    assert "per hour" in costs["GPU type h100_sxm"]["cost"]
    assert costs["Cluster de-a"]["cost"] == "costs nothing"
    assert "What your pins cost" in page.content.decode()
    free = world.browser("owner").get(costs["GPU type h100_sxm"]["url"]).context
    assert free["form"].data.get("gpu", "") == ""
    assert free["form"].data["cluster"] == "de-a"
    assert float(free["quote"]["price"]) < float(page.context["quote"]["price"])


def test_places_that_a_pinned_cluster_leaves_out_are_greyed(world):
    page = world.browser("owner").post(
        "/t/nord/order", {**ORDER, "residency": "global", "cluster": "de-a", "intent": "quote"}
    )
    tiles = {tile["value"]: tile for tile in page.context["residency_tiles"]}
    assert not tiles["region:eu-de-1"]["disabled"]
    assert "keeps to cluster de-a" in tiles["region:us-east-1"]["reason"]


def test_faster_configurations_and_more_context_lead_to_the_form(world, long_model):
    sent = {
        **ORDER, "model": long_model.name, "residency": "global", "context_tokens": "4096", "input_tokens": "500",
        "slo_class": "batch", "intent": "quote",
    }  # fmt: skip
    quote = world.browser("owner").post("/t/nord/order", sent).context["quote"]
    assert [point["chosen"] for point in quote["front"]][:2] == [True, False]
    faster = world.browser("owner").get(quote["front"][1]["url"]).context
    assert faster["form"].data["gpu"] in quote["front"][1]["what"]
    assert faster["quote"]["price"] == quote["front"][1]["price"]
    assert faster["quote"]["pin_costs"]
    assert "8,192 tokens" in quote["next_context"]["label"]
    larger = world.browser("owner").get(quote["next_context"]["url"]).context["form"]
    assert larger.data["context_tokens"] == "8192"
    assert "not deployable yet" in world.browser("owner").post("/t/nord/order", sent).content.decode().lower()


def test_quality_is_accepted_by_a_tick_where_the_catalog_demands_it(world, long_model):
    long_model.precisions, long_model.weights_quantize = ["bf16", "fp8"], {"fp8": "fp8"}
    long_model.precision_notes = {"fp8": {"note": "Two points worse at arithmetic.", "needs_approval": True}}
    long_model.save()
    browser = world.browser("owner")
    sent = {**ORDER, "model": long_model.name, "residency": "global", "gpu": "h100_sxm", "precision": "fp8"}
    page = browser.post("/t/nord/order", {**sent, "intent": "quote"})
    assert "Two points worse at arithmetic." in page.content.decode()
    assert "has to be accepted first" in page.content.decode()
    (option,) = [each for each in page.context["quote"]["alternatives"] if "fp8 accepted" in each["label"]]
    accepted = browser.get(option["url"])
    assert accepted.context["form"].data.getlist("approved_precisions") == ["fp8"]
    assert accepted.context["quote"]["quality"]["text"] == "Two points worse at arithmetic."
    assert browser.post("/t/nord/order", {**sent, "approved_precisions": ["fp8"]}).status_code == 302
    (endpoint,) = endpoints(world)
    assert endpoint.approved_precisions == ["fp8"]


def test_the_fragment_follows_profile_model_and_caps(world, long_model):
    browser, htmx = world.browser("owner"), {"HX-Request": "true"}
    page = browser.get(f"/t/nord/order?model={long_model.name}&profile=chat").context
    form = page["form"]
    state = {**as_sent(form), "places_seen": page["places_seen"]}

    def parts(**changes) -> set[str]:
        text = browser.post("/t/nord/order/quote", {**state, **changes}, headers=htmx).content.decode()
        return set(re.findall(r'id="([a-z_-]+)" (?:hidden )?hx-swap-oob', text)) - {"order-places"}

    assert parts() == set()
    caps = {"id_context_tokens_helptext", "id_output_limit_helptext"}
    assert parts(profile="long-input") == {"order-numbers", "order-seen"} | caps
    assert parts(input_tokens="9000") == {"order-profile", "order-seen"} | caps
    assert {"order-quality", "order-precision", "order-seen"} <= parts(model=MODEL)
