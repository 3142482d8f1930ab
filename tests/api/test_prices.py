"""Prices, books, commitments and credits through REST: who may see and do what."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.orders import ORDER
from tests.billing.prices import hold, label
from tests.estate import MODEL
from tests.factories import default_project

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def anything_is_there(estate):
    """All tests have GPU types, regions, models and a price list."""


@pytest.fixture
def soon() -> str:
    return (timezone.now() + dt.timedelta(days=1)).isoformat()


def commitment(**changes) -> dict:
    start = timezone.now() + dt.timedelta(days=1)
    facts = {
        "name": "Four L4", "gpu_type": "l4", "gpus": 4, "rate": "0.75", "starts_at": start.isoformat(),
        "ends_at": (start + dt.timedelta(days=365)).isoformat(),
    }  # fmt: skip
    return facts | changes


def post(client: APIClient, path: str, body: dict | None = None, *, status: int = 201) -> dict:
    answer = client.post(f"{API}/{path}", body or {})
    assert answer.status_code == status, answer.content
    return answer.json() if answer.content else {}


def results(client: APIClient, path: str) -> list[dict]:
    answer = client.get(f"{API}/{path}")
    assert answer.status_code == 200, answer.content
    return answer.json()["results"]


OPERATORS = ["tenants/acme/commitments", "tenants/acme/credits", "list-prices", "price-books"]


@pytest.mark.parametrize("path", OPERATORS)
def test_what_is_the_operators_does_not_exist_for_others(path, finance, owner, stranger, anonymous):
    assert finance.get(f"{API}/{path}").status_code == 200
    for client in (owner, stranger):
        assert_problem(client.get(f"{API}/{path}"), 404, "not-found")
        assert_problem(client.post(f"{API}/{path}", {}), 404, "not-found")
    assert_problem(anonymous.get(f"{API}/{path}"), 401, "not-authenticated")


@pytest.mark.parametrize("path", ["commitments", "commitments/use", "credits", "prices"])
def test_only_roles_that_see_cost_read_what_was_agreed(path, tenant, anonymous):
    for role in Role.values:
        answer = client_of(tenant, role).get(f"{API}/{path}")
        if role == Role.VIEWER:
            assert_problem(answer, 403, "forbidden")
        else:
            assert answer.status_code == 200, answer.content
    assert_problem(anonymous.get(f"{API}/{path}"), 401, "not-authenticated")


def test_a_commitment_is_agreed_read_by_its_tenant_and_ended(finance, owner, stranger, soon):
    made = post(finance, "tenants/acme/commitments", commitment(note="between us"))
    (seen,) = results(owner, "commitments")
    assert seen["id"] == made["id"]
    assert (seen["rate"], seen["currency"], seen["region"]) == ("0.7500000000", "EUR", "")
    assert "note" not in seen
    assert owner.get(f"{API}/commitments/{made['id']}").json() == seen
    assert results(stranger, "commitments") == []
    theirs = stranger.get(f"{API}/commitments/{made['id']}")
    assert_problem(theirs, 404, "not-found")
    assert theirs.content.replace(made["id"].encode(), b"") == stranger.get(
        f"{API}/commitments/{(other := uuid.uuid4())}"
    ).content.replace(str(other).encode(), b"")
    ended = post(
        finance, f"tenants/acme/commitments/{made['id']}:end", {"ends_at": made["starts_at"]}, status=200
    )
    assert ended["ends_at"] == made["starts_at"]
    again = finance.post(f"{API}/tenants/acme/commitments/{made['id']}:end", {"ends_at": soon})
    assert "ends_at" in assert_problem(again, 422, "invalid")["errors"]
    # Another tenant's path does not lead to it.
    assert_problem(finance.get(f"{API}/tenants/other/commitments/{made['id']}"), 404, "not-found")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gpu_type": "no-such"}, "gpu_type"),
        ({"region": "no-such"}, "region"),
        ({"gpus": 0}, "gpus"),
        ({"rate": "-1"}, "rate"),
        ({"rate": "cheap"}, "rate"),
        ({"starts_at": "2020-01-01T00:00:00Z"}, "starts_at"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_what_is_wrong_with_a_commitment_is_named(finance, tenant, changes, field):
    answer = finance.post(f"{API}/tenants/acme/commitments", commitment(**changes))
    assert field in assert_problem(answer, 422, "invalid")["errors"]


def test_how_commitments_are_used_is_told(finance, owner):
    post(finance, "tenants/acme/commitments", commitment(starts_at=timezone.now().isoformat()))
    found = owner.get(f"{API}/commitments/use").json()
    assert [each["commitment"]["gpu_type"] for each in found["results"]] == ["l4"]
    assert found["overflow"] == []


def test_a_repeated_grant_grants_once(finance, owner, stranger):
    body, key = {"amount": "250.00", "reason": "Migration"}, {"HTTP_IDEMPOTENCY_KEY": "k"}
    first = finance.post(f"{API}/tenants/acme/credits", body, **key)
    again = finance.post(f"{API}/tenants/acme/credits", body, **key)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    (seen,) = results(owner, "credits")
    assert (seen["amount"], seen["left"], seen["state"]) == ("250.0000", "250.0000", "available")
    assert owner.get(f"{API}/credits/{seen['id']}").json() == seen
    assert results(stranger, "credits") == []
    assert_problem(stranger.get(f"{API}/credits/{seen['id']}"), 404, "not-found")


def test_an_operator_asks_for_a_tenant_that_is_there(finance):
    assert_problem(
        finance.post(f"{API}/tenants/nobody/credits", {"amount": "1", "reason": "x"}), 404, "not-found"
    )
    assert_problem(finance.get(f"{API}/tenants/nobody/commitments"), 404, "not-found")


def test_a_tenants_own_price_is_shown_to_it_alone(finance, owner, stranger):
    before = len(results(stranger, "prices"))
    made = post(
        finance,
        "list-prices",
        {"kind": "gpu_hour", "amount": "0.60", "currency": "EUR", "tenant": "acme", "gpu_type": "l4"},
    )
    assert made["tenant"] == "acme"
    own = [each for each in results(owner, "prices?page_size=200") if each["own"]]
    assert [each["id"] for each in own] == [made["id"]]
    assert owner.get(f"{API}/prices/{made['id']}").status_code == 200
    assert len(results(stranger, "prices")) == before
    assert_problem(stranger.get(f"{API}/prices/{made['id']}"), 404, "not-found")
    assert [each["id"] for each in results(finance, "list-prices?tenant=acme")] == [made["id"]]


def test_a_book_is_tried_and_published(finance, owner, soon):
    before = results(owner, "prices?page_size=200")
    book = post(finance, "price-books", {"name": "Spring", "copy_list": True})
    assert book["prices"] > 0
    path = f"price-books/{book['id']}"
    body = {"kind": "gpu_hour", "amount": "0.10", "currency": "EUR", "gpu_type": "l4", "region": "eu-fi-1"}
    price = post(finance, f"{path}/prices", body)
    token = {
        "kind": "input_tokens",
        "amount": "0.10",
        "currency": "EUR",
        "model": MODEL,
        "slo_class": "batch",
    }
    gone = post(finance, f"{path}/prices", token)
    assert finance.delete(f"{API}/price-books/prices/{gone['id']}").status_code == 204
    assert results(owner, "prices?page_size=200") == before
    assert_problem(owner.get(f"{API}/prices/{price['id']}"), 404, "not-found")
    assert post(finance, f"{path}:copy-list", status=200)["copied"] <= 1
    done = post(finance, f"{path}:publish", {"effective_from": soon}, status=200)
    assert [each["amount"] for each in done["added"]] == ["0.1000000000"]
    assert finance.delete(f"{API}/{path}").status_code == 204
    assert len(results(owner, "prices?page_size=200")) == len(before) + 1


def test_a_price_on_the_list_is_not_taken_out_by_way_of_books(finance, owner):
    listed = results(owner, "prices")[0]["id"]
    assert_problem(finance.delete(f"{API}/price-books/prices/{listed}"), 404, "not-found")


def test_what_is_wrong_with_a_price_is_named(finance):
    body = {"kind": "gpu_hour", "amount": "1", "currency": "EUR", "model": MODEL}
    assert "model" in assert_problem(finance.post(f"{API}/list-prices", body), 422, "invalid")["errors"]
    body = {"kind": "gpu_hour", "amount": "1", "currency": "EUR", "effective_from": "2020-01-01T00:00:00Z"}
    answer = finance.post(f"{API}/list-prices", body)
    assert "effective_from" in assert_problem(answer, 422, "invalid")["errors"]


def test_a_month_is_rated_by_a_book(finance, owner, anonymous, tenant):
    first = timezone.now().astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = (first - dt.timedelta(days=1)).replace(day=1)
    project = default_project(tenant)
    hold(project, label(project, "chat"), f"{start:%Y-%m-%d}T00:00", f"{start:%Y-%m-%d}T10:00", gpu_type="l4")
    book = post(finance, "price-books", {"name": "Spring"})
    post(
        finance,
        f"price-books/{book['id']}/prices",
        {"kind": "gpu_hour", "amount": "0.10", "currency": "EUR", "gpu_type": "l4"},
    )
    path = f"{API}/price-books/{book['id']}/rerate"
    found = finance.get(f"{path}?month={start:%Y-%m}").json()
    assert [(each["tenant"], each["after"]) for each in found["tenants"]] == [("acme", "1.0000")]
    assert found["totals"][0]["before"] == found["tenants"][0]["before"]
    assert found["skus"] == []
    one = finance.get(f"{path}?month={start:%Y-%m}&tenant=acme").json()
    assert [each["after"] for each in one["skus"]] == ["1.0000"]
    for query in (
        "",
        "month=2026-13",
        f"month={start:%Y-%m}&tenant=nobody",
        f"month={start:%Y-%m}&colour=blue",
    ):
        assert_problem(finance.get(f"{path}?{query}"), 422, "invalid")
    assert_problem(finance.get(f"{API}/price-books/{uuid.uuid4()}/rerate?month=2026-05"), 404, "not-found")
    assert_problem(owner.get(f"{path}?month=2026-05"), 404, "not-found")
    assert_problem(anonymous.get(f"{path}?month=2026-05"), 401, "not-authenticated")


def test_a_plan_costs_a_tenant_its_own_price(finance, owner, stranger):
    def planned(client: APIClient) -> Decimal:
        plan = post(client, "endpoints:plan", ORDER | {"pins": {"gpu": "l4"}}, status=200)
        return Decimal(plan["configuration"]["price_per_hour"])

    before = planned(owner)
    body = {"kind": "gpu_hour", "amount": "0.05", "currency": "EUR", "tenant": "acme"}
    post(finance, "list-prices", body)
    assert planned(owner) < before / 4
    assert planned(stranger) == before
