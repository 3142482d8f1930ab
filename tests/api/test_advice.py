"""The advisor and the queue for capacity through the REST API."""

from __future__ import annotations

from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from billing.prices import price_set
from clusters.endpoints.advisor.runs import advice_run_execute
from clusters.models import AdviceMove, AdvicePolicy, Endpoint
from tenants import scope
from tenants.models import PlatformRole
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import ORDER, order
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

MISSING = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def operator(db) -> APIClient:
    client = APIClient()
    client.force_login(make_user("olga@example.org", platform_role=PlatformRole.OPERATOR))
    return client


@pytest.fixture
def planned(operator, owner, tenant) -> str:
    """The address of a finished run with one move: H100 have become cheap."""
    made = order(owner)
    with scope.tenant(tenant.id):
        Endpoint.objects.filter(id=made["id"]).update(state="ready")
    price_set(kind="gpu_hour", amount=Decimal("0.01"), currency="EUR", gpu_type="h100_sxm")
    started = operator.post(f"{API}/advice-runs")
    assert started.status_code == 202, started.content
    assert started.json()["state"] == "waiting"
    advice_run_execute(started.json()["id"])
    return started["Location"].removeprefix("http://testserver")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "advice-runs"), ("post", "advice-runs"), ("get", f"advice-runs/{MISSING}"),
        ("post", f"advice-runs/{MISSING}:apply"), ("post", f"advice-runs/{MISSING}:dismiss"),
        ("get", "advice-policy"), ("patch", "advice-policy"),
    ],
)  # fmt: skip
def test_only_operators_find_the_advisor(owner, anonymous, method, path):
    assert_problem(getattr(owner, method)(f"{API}/{path}", {}), 404, "not-found")
    assert_problem(getattr(anonymous, method)(f"{API}/{path}", {}), 401, "not-authenticated")


def test_a_run_is_read_with_its_moves(operator, planned):
    run = operator.get(planned).json()
    assert (run["state"], run["endpoints"], run["started_by"]) == ("finished", 1, "operator olga@example.org")
    (move,) = run["moves"]
    assert (move["tenant"], move["after"]["pool"], move["saving"]) == ("acme", "de-a/h100", "0.440000")
    listed = operator.get(f"{API}/advice-runs").json()["results"]
    assert [each["id"] for each in listed] == [run["id"]]
    assert "moves" not in listed[0]


def test_a_second_run_at_the_same_time_is_refused_and_a_repeat_is_not(operator):
    first = operator.post(f"{API}/advice-runs", HTTP_IDEMPOTENCY_KEY="one")
    again = operator.post(f"{API}/advice-runs", HTTP_IDEMPOTENCY_KEY="one")
    assert again.json() == first.json()
    assert_problem(operator.post(f"{API}/advice-runs"), 409, "conflict")


def test_moves_are_applied_and_dismissed(operator, planned):
    accepted = operator.post(f"{planned}:apply", {"moves": [1]}, format="json")
    assert accepted.status_code == 202, accepted.content
    assert accepted.json()["moves"][0]["state"] == "accepted"
    assert_problem(operator.post(f"{planned}:apply", {"moves": [1]}, format="json"), 409, "conflict")
    dismissed = operator.post(f"{planned}:dismiss", {"moves": [1]}, format="json")
    assert dismissed.json()["moves"][0]["state"] == "dismissed"


def test_without_numbers_all_that_are_proposed_are_meant(operator, planned):
    assert operator.post(f"{planned}:apply").json()["moves"][0]["state"] == "accepted"


@pytest.mark.parametrize("body", [{"moves": [2]}, {"moves": [0]}, {"moves": "1"}, {"all": True}])
def test_moves_that_are_not_there_are_refused(operator, planned, body):
    refused = operator.post(f"{planned}:apply", body, format="json")
    assert refused.status_code in (400, 422)
    with scope.platform("a test"):
        assert AdviceMove.objects.get().state == "proposed"


def test_the_policy_is_read_and_changed(operator):
    assert operator.get(f"{API}/advice-policy").json()["automatic"] is False
    changed = operator.patch(f"{API}/advice-policy", {"automatic": True, "days": [6, 5, 5]}, format="json")
    assert changed.status_code == 200, changed.content
    assert changed.json()["days"] == [5, 6]
    assert AdvicePolicy.current().automatic


@pytest.mark.parametrize(
    "body", [{"until_hour": 25}, {"days": [9]}, {"single": False}, {"moves_per_day": "x"}]
)
def test_a_policy_that_cannot_be_is_refused(operator, body):
    assert operator.patch(f"{API}/advice-policy", body, format="json").status_code in (400, 422)
    assert not AdvicePolicy.objects.exists()


def test_one_that_waits_tells_its_place_in_the_queue(owner, tenant):
    there = {"residency": "region:eu-fi-1"}
    full, waits = order(owner, "full", replicas=4, **there), order(owner, "waits", **there)
    assert full["capacity"] is None
    told = waits["capacity"]
    assert (told["position"], told["waiting"], told["pools"]) == (1, 1, ["fi-a/l4"])
    assert told["estimate"].startswith("unknown")
    assert "region:eu-de-1" in [each["value"] for each in told["alternatives"]]
    quoted = owner.post(f"{API}/endpoints:plan", ORDER | there).json()
    assert (quoted["status"], quoted["capacity"]["position"]) == ("no_capacity", 2)
    elsewhere = owner.post(f"{API}/endpoints:plan", ORDER).json()
    assert elsewhere["capacity"] is None
