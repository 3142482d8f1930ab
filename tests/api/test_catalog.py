"""Models, SLO classes and regions: the same for all tenants, to be read only."""

from __future__ import annotations

import pytest

from clusters.models import CatalogModel
from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.estate import MODEL

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

ONE_OF_EACH = [("models", MODEL), ("slo-classes", "standard"), ("regions", "eu-de-1")]


def names(response) -> list[str]:
    return [each.get("name") for each in response.json()["results"]]


@pytest.mark.parametrize(("path", "name"), ONE_OF_EACH)
def test_every_role_of_every_tenant_reads_the_same(owner, stranger, tenant, path, name):
    for where in (path, f"{path}/{name}"):
        read = [client.get(f"{API}/{where}") for client in (owner, stranger, client_of(tenant, Role.VIEWER))]
        assert {each.status_code for each in read} == {200}
        assert len({each.content for each in read}) == 1


@pytest.mark.parametrize(("path", "name"), ONE_OF_EACH)
def test_nobody_reads_without_a_key_and_nobody_writes(owner, anonymous, path, name):
    assert_problem(anonymous.get(f"{API}/{path}"), 401, "not-authenticated")
    assert_problem(owner.post(f"{API}/{path}", {"name": "x"}), 405, "method-not-allowed")
    assert_problem(owner.delete(f"{API}/{path}/{name}"), 405, "method-not-allowed")
    for wrong in ("unknown", "%00", "%2F", "x" * 500):
        assert_problem(owner.get(f"{API}/{path}/{wrong}"), 404, "not-found")
    assert_problem(owner.get(f"{API}/{path}?colour=blue"), 422, "invalid")


@pytest.mark.parametrize("path", ["models", "slo-classes", "regions"])
def test_lists_page_by_name(owner, path):
    everything = owner.get(f"{API}/{path}").json()["results"]
    seen, url = [], f"{API}/{path}?page_size=1"
    while url:
        page = owner.get(url).json()
        seen += page["results"]
        url = page["next"]
    assert seen == everything
    key = "code" if path == "regions" else "name"
    assert [each[key] for each in seen] == sorted(each[key] for each in seen)
    assert_problem(owner.get(f"{API}/{path}?cursor=cD0A"), 422, "invalid")


def test_a_model_shows_what_it_is(owner):
    model = owner.get(f"{API}/models/llama-3.1-8b-instruct").json()
    assert model["parameters"] == 8_030_261_248
    assert model["licence"] == "Llama 3.1 Community License"
    assert model["derived_from"] is None
    assert "chat_template" not in model
    assert model["precisions"] == ["bf16", "fp8"]
    assert model["precision_notes"]["fp8"]["note"]
    assert model["precision_notes"]["fp8"]["needs_approval"] is False


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("search=QWEN", ["qwen3-30b-a3b"]),
        ("runtime=triton-python", [MODEL]),
        ("min_context_tokens=100000", ["llama-3.1-8b-instruct", "llama-3.3-70b-instruct"]),
        ("precision=fp8&search=70B", ["llama-3.3-70b-instruct"]),
        ("search=%25", []),
        ("zone=US&search=qwen", []),
        ("zone=EU&search=qwen", ["qwen3-30b-a3b"]),
    ],
)
def test_models_filter(owner, query, expected):
    CatalogModel.objects.filter(name="qwen3-30b-a3b").update(allowed_zones=["EU"])
    assert names(owner.get(f"{API}/models?{query}")) == expected


def test_what_is_no_longer_offered_is_not_listed(owner):
    CatalogModel.objects.filter(name=MODEL).update(published=False)
    assert MODEL not in names(owner.get(f"{API}/models"))
    assert_problem(owner.get(f"{API}/models/{MODEL}"), 404, "not-found")


def test_a_class_shows_its_targets(owner):
    interactive = owner.get(f"{API}/slo-classes/interactive").json()
    assert (interactive["ttft_p95_ms"], interactive["itl_p95_ms"]) == (500, 40)
    assert interactive["availability"] == "0.99900"
    assert interactive["spare_replicas"] == 1
    batch = owner.get(f"{API}/slo-classes/batch").json()
    assert (batch["ttft_p95_ms"], batch["spare_replicas"]) == (None, 0)


def test_a_region_shows_what_orders_are_compared_with_and_no_more(owner):
    region = owner.get(f"{API}/regions/eu-de-1").json()
    assert region == {
        "code": "eu-de-1",
        "name": "eu-de-1",
        "country": "DE",
        "zones": ["EU", "EEA"],
        "certifications": ["ISO27001", "C5"],
    }
