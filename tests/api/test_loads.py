"""Measured loads, planning anew and what-ifs through the REST API."""

from __future__ import annotations

import uuid

import pytest

from clusters.models import Endpoint
from tenants import scope
from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order
from tests.clusters.endpoints.loads import observe, rush_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]


@pytest.fixture
def drifting(owner, tenant) -> dict:
    """An endpoint whose load is far above the order, as the API shows it."""
    made = order(owner, requests_per_second=1.0, input_tokens=100, output_tokens=50, input_cv=1, output_cv=1)
    with scope.tenant(tenant.id):
        endpoint = Endpoint.objects.get(id=made["id"])
    rush = rush_of(endpoint)
    observe(endpoint, requests_per_second=rush)
    return made | {"rush": rush}


def path(made: dict, action: str) -> str:
    return f"{API}/endpoints/{made['id']}{action}"


def test_the_measured_load_is_read_beside_the_ordered_one(owner, drifting):
    found = owner.get(path(drifting, "/load")).json()
    assert found["ordered"]["requests_per_second"] == 1
    assert found["measured"] == found["ordered"] | {"requests_per_second": drifting["rush"]}
    assert found["drift"] == [{"name": "requests_per_second", "ordered": 1, "measured": drifting["rush"]}]
    assert (found["kept"], found["correction"]["itl_factor"], found["correction"]["reasons"]) == (
        False,
        1,
        [],
    )
    replan = found["replan"]
    assert (replan["status"], replan["changes"], replan["in_place"]) == ("placed", True, True)
    assert float(replan["price_after"]) > float(replan["price_now"])
    assert replan["after"]["replicas"] > replan["now"]["replicas"]


def test_before_there_is_a_load_there_is_none_to_read(owner):
    made = order(owner)
    assert "too few requests" in assert_problem(owner.get(path(made, "/load")), 404, "not-found")["detail"]
    assert "too few" in assert_problem(owner.post(path(made, ":replan"), {}), 409, "conflict")["detail"]


def test_a_replan_takes_the_measured_load_over_and_honours_if_match(owner, drifting):
    etag = owner.get(path(drifting, ""))["ETag"]
    stale = owner.post(path(drifting, ":replan"), {}, headers={"If-Match": '"99"'})
    assert_problem(stale, 412, "stale")
    done = owner.post(path(drifting, ":replan"), {}, headers={"If-Match": etag})
    assert done.status_code == 202, done.content
    assert done["ETag"] != etag
    assert done.json()["requests_per_second"] == drifting["rush"]
    assert done.json()["revision"]["replicas"] > 1
    condition = next(each for each in done.json()["conditions"] if each["type"] == "LoadDrift")
    assert condition["status"] == "false"
    assert (
        "Nothing would change"
        in assert_problem(owner.post(path(drifting, ":replan"), {}), 409, "conflict")["detail"]
    )
    assert_problem(owner.post(path(drifting, ":replan"), {}, headers={"If-Match": etag}), 412, "stale")


def test_a_replan_takes_numbers_and_pins_in_place_of_the_measured(owner, drifting):
    body = {"requests_per_second": 7.0, "pins": {"gpu": "h100_sxm"}}
    done = owner.post(path(drifting, ":replan"), body)
    assert done.status_code == 202, done.content
    assert done.json()["requests_per_second"] == 7
    assert done.json()["revision"]["gpu_type"] == "h100_sxm"
    both = owner.post(path(drifting, ":replan"), {"measured": True, "pins": {}})
    assert both.json()["requests_per_second"] == drifting["rush"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"burstiness": 0.5}, "burstiness"), ({"input_tokens": 0}, "input_tokens"), ({"colour": 1}, "colour"),
        ({"pins": {"gpu": "abacus"}}, "pins"), ({"slo_class": "batch"}, "slo_class"), ({"replicas": 0}, "replicas"),
    ],
)  # fmt: skip
def test_a_wrong_wish_is_named_and_nothing_is_changed(owner, drifting, body, field):
    errors = assert_problem(owner.post(path(drifting, ":replan"), body), 422, "invalid")["errors"]
    assert {name.split(".")[0] for name in errors} == {field}
    assert owner.get(path(drifting, "")).json()["generation"] == drifting["generation"]


def test_the_order_can_be_kept(owner, drifting):
    kept = owner.post(path(drifting, ":keep-order"))
    assert kept.status_code == 200, kept.content
    condition = next(each for each in kept.json()["conditions"] if each["type"] == "LoadDrift")
    assert (condition["status"], condition["reason"]) == ("false", "Kept")
    assert owner.get(path(drifting, "/load")).json()["kept"] is True
    assert_problem(owner.post(path(drifting, ":keep-order")), 409, "conflict")


def test_a_what_if_compares_and_changes_nothing(owner, drifting):
    answer = owner.post(path(drifting, ":what-if"), {"price_percent": "100", "slo_class": "batch"})
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert (found["currency"], found["measured"], found["hours"]) == ("EUR", False, 0)
    assert float(found["now"]["price_per_hour"]) == 0.45
    assert float(found["price_held_per_hour"]) == 0.9
    assert found["after"]["slo_class"] == "batch"
    assert found["after"]["configuration"]["cluster"]
    assert found["now"]["configuration"] is found["now"]["status"] is None
    assert float(found["after"]["price_per_month"]) == pytest.approx(
        720 * float(found["after"]["price_per_hour"])
    )
    assert owner.get(path(drifting, "")).json()["generation"] == drifting["generation"]
    more = {"added_gpus": {"cluster": "fi-a", "gpu_type": "h100_sxm", "nodes": 2}}
    assert owner.post(path(drifting, ":what-if"), more).json()["after"]["status"] == "placed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None), ({"price_percent": "-101"}, "price_percent"), ({"slo_class": "platinum"}, "slo_class"),
        ({"added_gpus": {"cluster": "fi-a"}}, "added_gpus"), ({"prices_at": "soon"}, "prices_at"),
        ({"precision": "int3"}, "precision"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_named(owner, drifting, body, field):
    problem = assert_problem(owner.post(path(drifting, ":what-if"), body), 422, "invalid")
    assert field is None or {name.split(".")[0] for name in problem["errors"]} == {field}


def test_roles(owner, tenant, drifting):
    for role in Role.values:
        client = client_of(tenant, role)
        assert client.get(path(drifting, "/load")).status_code == 200
        asked = client.post(path(drifting, ":what-if"), {"price_percent": "1"})
        assert asked.status_code == (403 if role == Role.VIEWER else 200)  # it tells cost
        if role in (Role.BILLING, Role.VIEWER):
            for action in (":replan", ":keep-order"):
                assert_problem(client.post(path(drifting, action), {}), 403, "forbidden")


def test_strangers_and_nobody_learn_nothing(stranger, anonymous, drifting):
    missing = {"id": str(uuid.uuid4())}
    for method, action in (
        ("get", "/load"),
        ("post", ":replan"),
        ("post", ":keep-order"),
        ("post", ":what-if"),
    ):
        theirs = getattr(stranger, method)(path(drifting, action))
        none = getattr(stranger, method)(path(missing, action))
        assert theirs.status_code == none.status_code == 404
        assert getattr(anonymous, method)(path(drifting, action)).status_code == 401
