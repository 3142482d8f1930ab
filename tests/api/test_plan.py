"""Planning through the REST API: profiles, pins, prices, what could be had instead."""

from __future__ import annotations

from decimal import Decimal

import pytest

from clusters.models import CatalogModel, Endpoint
from tenants import scope
from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.orders import ORDER, order
from tests.estate import MODEL

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]


def test_a_pin_that_is_wrong_is_named_in_its_place(owner):
    body = {**ORDER, "name": "chat", "pins": {"gpu": "l4", "tp": "two"}}
    assert list(assert_problem(owner.post(f"{API}/endpoints", body), 422, "invalid")["errors"]) == ["pins.tp"]


def test_an_answer_cannot_be_longer_than_the_context(owner):
    body = {
        **ORDER,
        "name": "chat",
        "context_tokens": 128,
        "output_limit": 256,
        "input_tokens": 8,
        "output_tokens": 8,
    }
    assert "output_limit" in assert_problem(owner.post(f"{API}/endpoints", body), 422, "invalid")["errors"]


def test_a_profile_fills_what_is_not_given_and_numbers_that_are_given_win(owner):
    profiles = {each["name"]: each for each in owner.get(f"{API}/profiles").json()["results"]}
    chat = profiles["chat"]
    model = CatalogModel.objects.get(name=MODEL)
    CatalogModel.objects.filter(id=model.id).update(context_tokens=10 * chat["context_tokens"])
    made = order(owner, profile="chat")
    for name in ("burstiness", "input_tokens", "input_cv", "output_tokens", "output_cv", "prefix_share"):
        assert made[name] == chat[name], name
    assert (made["context_tokens"], made["output_limit"]) == (chat["context_tokens"], chat["output_limit"])
    own = order(owner, "own", profile="chat", input_tokens=77, prefix_share=0, output_limit=None)
    assert (own["profile"], own["input_tokens"], own["prefix_share"]) == ("chat", 77, 0)
    assert (own["output_limit"], own["output_tokens"]) == (None, chat["output_tokens"])
    all_of_it = order(owner, "all", context_tokens=None)
    assert (all_of_it["profile"], all_of_it["context_tokens"]) == ("", None)


def test_a_profile_is_shortened_to_what_the_model_takes(owner):
    made = order(owner, profile="long-input", residency="global")
    limit = CatalogModel.objects.get(name=MODEL).context_tokens
    assert made["context_tokens"] == limit
    assert made["input_tokens"] + made["output_tokens"] <= limit


def test_profiles_are_listed_for_everybody_with_a_key(owner, stranger, tenant, anonymous):
    path = f"{API}/profiles"
    read = [client.get(path) for client in (owner, stranger, client_of(tenant, Role.VIEWER))]
    assert {each.status_code for each in read} == {200}
    assert len({each.content for each in read}) == 1
    listed = read[0].json()["results"]
    assert {each["name"] for each in listed} == {"chat", "long-input", "long-output", "retrieval", "batch"}
    assert all(each["description"] for each in listed)
    assert all(each["output_limit"] < each["context_tokens"] for each in listed)
    assert_problem(anonymous.get(path), 401, "not-authenticated")
    assert_problem(owner.post(path, {}), 405, "method-not-allowed")
    assert_problem(owner.get(f"{path}?colour=blue"), 422, "invalid")


def test_the_plan_answers_without_spending(owner, tenant):
    response = owner.post(f"{API}/endpoints:plan", {name: ORDER[name] for name in ORDER if name != "project"})
    assert response.status_code == 200, response.content
    plan = response.json()
    assert plan["status"] == "placed"
    assert plan["currency"] == "EUR"
    assert plan["configuration"]["region"].startswith("eu-")
    assert {each["reason"] for each in plan["refusals"]} >= {"residency"}
    assert {"resource": "gpus", "limit": 8, "used": plan["configuration"]["replicas"]} in plan["quota"]
    chosen = plan["configuration"]
    assert {each["name"] for each in chosen["techniques"]} >= {"Weights", "KV cache", "In-flight batching"}
    headroom = chosen["headroom"]
    assert (headroom["for_load"], headroom["for_peak"], headroom["spare"]) == (1, 0, 0)
    assert Decimal(headroom["price_per_hour"]) == 0
    assert chosen["tuning"]["max_batch_size"] == chosen["max_batch_size"]
    assert chosen["memory"]["needed_gib"] <= chosen["memory"]["available_gib"]
    assert [point["chosen"] for point in plan["front"]][:1] == [True]
    assert plan["pin_costs"] == []
    assert plan["disaggregated"]["message"]
    refusal = plan["headlines"][0]
    assert set(refusal) == {
        "gpu", "pools", "clusters", "reason", "message", "precision", "tp", "pp", "memory", "dearer_by_per_hour",
    }  # fmt: skip
    with scope.tenant(tenant.id):
        assert Endpoint.objects.count() == 0


def test_a_plan_prices_spare_replicas_pins_and_the_next_context(owner):
    CatalogModel.objects.filter(name=MODEL).update(context_tokens=32_768)
    body = {**ORDER, "slo_class": "interactive", "pins": {"gpu": "h100_sxm", "cluster": "de-a"}}
    plan = owner.post(f"{API}/endpoints:plan", body).json()
    chosen = plan["configuration"]
    assert (chosen["gpu"], chosen["replicas"], chosen["headroom"]["spare"]) == ("h100_sxm", 2, 1)
    assert 2 * Decimal(chosen["headroom"]["price_per_hour"]) == Decimal(chosen["price_per_hour"])
    costs = {each["pin"]: each for each in plan["pin_costs"]}
    assert Decimal(costs["gpu"]["saves_per_hour"]) > 0
    assert Decimal(costs["cluster"]["saves_per_hour"]) == 0
    assert plan["next_context"]["context_tokens"] == 8192
    assert {each["reason"] for each in plan["headlines"]} >= {"residency", "pinned_otherwise"}


def test_a_precision_that_must_be_accepted_is_given_only_then(owner):
    note = {"note": "Two points worse at arithmetic.", "needs_approval": True}
    CatalogModel.objects.filter(name=MODEL).update(
        precisions=["bf16", "fp8"], weights_quantize={"fp8": "fp8"}, precision_notes={"fp8": note}
    )
    assert owner.get(f"{API}/models/{MODEL}").json()["precision_notes"] == {"fp8": note}
    body = {**ORDER, "name": "chat", "pins": {"precision": "fp8"}}
    plan = owner.post(f"{API}/endpoints:plan", body).json()
    assert plan["configuration"] is None
    assert "quality_not_accepted" in {each["reason"] for each in plan["headlines"]}
    assert ("quality", "fp8") in {(each["relaxation"], each["value"]) for each in plan["alternatives"]}
    made = order(owner, pins={"precision": "fp8"}, approved_precisions=["fp8"])
    assert made["revision"]["precision"] == "fp8"
    assert made["approved_precisions"] == ["fp8"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"residency": "region:eu-at-9"}, "impossible"),
        ({"residency": "nonsense"}, "impossible"),
        ({"certifications": ["HIPAA"]}, "impossible"),
    ],
)
def test_a_plan_that_cannot_be_placed_is_an_answer(owner, changes, status):
    response = owner.post(f"{API}/endpoints:plan", {**ORDER, **changes})
    assert response.status_code == 200, response.content
    plan = response.json()
    assert (plan["status"], plan["configuration"]) == (status, None)
    assert plan["message"]
    assert plan["refusals"]


def test_planning_is_open_to_every_role_and_closed_to_others(tenant, anonymous):
    assert client_of(tenant, Role.VIEWER).post(f"{API}/endpoints:plan", ORDER).status_code == 200
    assert_problem(anonymous.post(f"{API}/endpoints:plan", ORDER), 401, "not-authenticated")
