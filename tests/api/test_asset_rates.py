"""What GPUs cost their owner, through the REST API: for operators alone, never edited."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from billing.models import AssetRate
from tenants import scope
from tenants.models import PlatformRole
from tests.api.contract import API, assert_problem
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

MISSING = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def finance(db) -> APIClient:
    client = APIClient()
    client.force_login(make_user("fay@example.org", platform_role=PlatformRole.FINANCE))
    return client


def rates():
    with scope.platform("a test"):
        return list(AssetRate.objects.all())


@pytest.mark.parametrize(
    ("method", "path"), [("get", "asset-rates"), ("post", "asset-rates"), ("get", f"asset-rates/{MISSING}")]
)
def test_only_operators_find_them(owner, anonymous, method, path):
    assert_problem(getattr(owner, method)(f"{API}/{path}", {}), 404, "not-found")
    assert_problem(getattr(anonymous, method)(f"{API}/{path}", {}), 401, "not-authenticated")


def test_a_rate_is_added_read_and_listed(finance):
    body = {
        "amount": "1.25",
        "gpu_type": "h100_sxm",
        "cluster": "de-a",
        "effective_from": "2026-01-01T00:00:00Z",
    }
    made = finance.post(f"{API}/asset-rates", body, format="json")
    assert made.status_code == 201, made.content
    assert made.json() | body == made.json() | {"amount": "1.25"}
    assert made.json()["currency"] == "EUR"
    assert finance.get(made["Location"]).json() == made.json()
    assert finance.get(f"{API}/asset-rates").json()["results"] == [made.json()]


def test_a_repeat_with_the_same_key_adds_one(finance):
    for _ in range(2):
        made = finance.post(f"{API}/asset-rates", {"amount": "1"}, format="json", HTTP_IDEMPOTENCY_KEY="k")
        assert made.status_code == 201
    assert len(rates()) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1", "currency": "euro"}, "currency"),
        ({"amount": "1", "currency": "eur"}, "currency"),
        ({"amount": "1", "gpu_type": "abacus"}, "gpu_type"),
        ({"amount": "1", "cluster": "nowhere"}, "cluster"),
        ({"amount": "1", "effective_from": "soon"}, "effective_from"),
        ({"amount": "1", "colour": "red"}, "colour"),
    ],
)
def test_what_is_malformed_is_refused_by_field(finance, body, field):
    problem = assert_problem(finance.post(f"{API}/asset-rates", body, format="json"), 422, "invalid")
    assert field in problem["errors"]
    assert rates() == []


def test_two_for_the_same_at_the_same_moment_are_refused(finance):
    body = {"amount": "1", "effective_from": "2026-01-01T00:00:00Z"}
    assert finance.post(f"{API}/asset-rates", body, format="json").status_code == 201
    assert_problem(finance.post(f"{API}/asset-rates", body | {"amount": "2"}, format="json"), 422, "invalid")


def test_there_is_no_way_to_change_or_remove_one(finance):
    made = finance.post(f"{API}/asset-rates", {"amount": "1"}, format="json")
    for method in ("put", "patch", "delete"):
        assert getattr(finance, method)(made["Location"], {}, format="json").status_code == 405
