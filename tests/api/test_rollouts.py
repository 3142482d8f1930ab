"""Changing an order and its rollouts through the REST API."""

from __future__ import annotations

import uuid

import pytest

from clusters.models import Endpoint
from tenants import scope
from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order
from tests.clusters.endpoints.rollouts import Rolling, canary
from tests.fakes.cluster import FakeCluster

pytestmark = pytest.mark.django_db
CHANGE = {"pins": {"gpu": "h100_sxm"}}


@pytest.fixture
def rolling(owner, tenant, estate, monkeypatch) -> Rolling:
    """An endpoint of two tenants' API that serves, in a class with a canary."""
    cluster = FakeCluster(ready_at_once=True)
    monkeypatch.setattr("clusters.inventory.drivers.driver_for", lambda *args, **values: cluster)
    canary()
    made = order(owner, input_tokens=100, output_tokens=50)
    with scope.tenant(tenant.id):
        endpoint = Endpoint.objects.select_related("tenant").get(id=made["id"])
    it = Rolling(estate=estate, cluster=cluster, endpoint=endpoint)
    it.look(ready=False)
    return it


def path(it: Rolling, action: str = "") -> str:
    return f"{API}/endpoints/{it.endpoint.id}{action}"


def test_a_change_is_planned_with_its_price_and_way_and_changes_nothing(owner, rolling):
    before = owner.get(path(rolling)).json()
    found = owner.post(path(rolling, ":plan-change"), CHANGE)
    assert found.status_code == 200, found.content
    plan = found.json()
    assert (plan["status"], plan["way"], plan["in_place"], plan["deploys"]) == (
        "placed",
        "surge",
        False,
        True,
    )
    assert plan["configuration"]["gpu"] == "h100_sxm"
    assert float(plan["price_after"]) > float(plan["price_now"])
    assert (plan["steps"], plan["expected_outage_s"], plan["evaluation_needed"]) == ([5, 25, 50], None, [])
    assert owner.get(path(rolling)).json() == before
    longer = owner.post(path(rolling, ":plan-change"), {"context_tokens": 256}).json()
    assert longer["evaluation_needed"] == []  # a lower cap changes no answer


def test_what_cannot_be_changed_or_is_nothing_is_refused(owner, rolling):
    assert_problem(owner.post(path(rolling, ":change"), {}), 422, "invalid")
    assert_problem(owner.post(path(rolling, ":change"), {"residency": "global"}), 422, "invalid")
    other = owner.post(path(rolling, ":change"), {"model": "llama-3.1-8b-instruct"})
    assert "is no variant of" in assert_problem(other, 422, "invalid")["detail"]


def test_a_change_is_rolled_out_and_promoted_by_hand(owner, rolling):
    etag = owner.get(path(rolling))["ETag"]
    assert_problem(owner.post(path(rolling, ":change"), CHANGE, headers={"If-Match": '"99"'}), 412, "stale")
    headers = {"If-Match": etag, "Idempotency-Key": str(uuid.uuid4())}
    done = owner.post(path(rolling, ":change"), CHANGE, headers=headers)
    assert done.status_code == 202, done.content
    assert done.json()["pins"]["gpu"] == "h100_sxm"
    assert owner.post(path(rolling, ":change"), CHANGE, headers=headers).json() == done.json()
    rolling.look(ready=False)
    (found,) = owner.get(path(rolling, "/rollouts")).json()["results"]
    assert (found["phase"], found["step"], found["weight"]) == ("canary", 1, 5)
    assert (found["before"], found["revision"], found["way"]) == (1, 2, "surge")
    rolling.both()
    rolling.look(5, ready=False)
    one = owner.get(path(rolling, f"/rollouts/{found['id']}")).json()
    assert (one["verdict"]["finding"], one["verdict"]["new_requests"]) == ("kept", 400)
    assert {each["name"] for each in one["verdict"]["criteria"]} >= {"ttft_p95_ms", "errors_percent"}
    promoted = owner.post(path(rolling, f"/rollouts/{found['id']}:promote"))
    assert promoted.status_code == 202, promoted.content
    rolling.look(ready=False)
    assert owner.get(path(rolling)).json()["state"] == "ready"
    again = owner.post(path(rolling, f"/rollouts/{found['id']}:rollback"))
    assert "is over: it is promoted" in assert_problem(again, 409, "conflict")["detail"]


def test_a_failed_update_is_shown_dismissed_and_tried_again(owner, rolling):
    owner.post(path(rolling, ":change"), CHANGE)
    rolling.look(ready=False)
    rolling.both(ttft_ms=1400)
    rolling.look(5, ready=False)
    shown = owner.get(path(rolling)).json()
    assert (shown["state"], shown["pins"]) == ("update-failed", {})
    assert "time to first token" in shown["reason"]
    assert "try the change again" in shown["next_action"]
    (found,) = owner.get(path(rolling, "/rollouts")).json()["results"]
    again = owner.post(path(rolling, f"/rollouts/{found['id']}:retry"))
    assert again.status_code == 202, again.content
    assert again.json()["pins"]["gpu"] == "h100_sxm"
    rolling.look(ready=False)
    newest = owner.get(path(rolling, "/rollouts")).json()["results"][0]
    assert owner.post(path(rolling, f"/rollouts/{newest['id']}:rollback")).status_code == 202
    rolling.look(ready=False)
    assert owner.get(path(rolling)).json()["state"] == "ready"


def test_viewers_look_and_strangers_see_nothing(tenant, stranger, rolling):
    viewer = client_of(tenant, Role.VIEWER)
    assert viewer.get(path(rolling, "/rollouts")).json()["results"] == []
    assert viewer.post(path(rolling, ":plan-change"), CHANGE).status_code == 200
    assert_problem(viewer.post(path(rolling, ":change"), CHANGE), 403, "forbidden")
    assert_problem(stranger.get(path(rolling, "/rollouts")), 404, "not-found")
    assert_problem(viewer.get(path(rolling, f"/rollouts/{uuid.uuid4()}")), 404, "not-found")


def test_classes_tell_how_their_endpoints_change(owner, rolling):
    found = owner.get(f"{API}/slo-classes/standard").json()
    assert (found["rollout_ways"], found["rollout_steps"]) == (["surge", "borrow", "replace"], [5, 25, 50])
    assert (found["rollout_from_hour"], found["rollout_until_hour"]) == (2, 5)
