"""Replicas that follow the load, through the REST API: bounds, who decides, schedules, decisions."""

from __future__ import annotations

import pytest
from django.utils import timezone

from clusters.models import Cluster, Endpoint, ScalingDecision
from tenants import scope
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

OFFICE = {
    "name": "Office hours", "days": [5, 1, 2, 3, 4], "from_time": "08:00", "until_time": "18:00",
    "time_zone": "Europe/Berlin", "floor": 2, "ceiling": 4,
}  # fmt: skip


@pytest.fixture
def chat(owner) -> dict:
    return order(owner, replicas=1)


def path(made: dict, action: str = "/autoscaling") -> str:
    return f"{API}/endpoints/{made['id']}{action}"


def test_a_new_endpoint_has_what_was_set_and_says_so(owner, chat):
    shown = owner.get(path(chat)).json()
    assert (shown["decided_by"], shown["enabled"], shown["replicas"], shown["autoscaler"]) == (
        "by-hand", False, 1, "none",
    )  # fmt: skip
    assert (shown["floor"], shown["ceiling"], shown["planned_floor"], shown["planned_ceiling"]) == (
        None, None, 1, 1,
    )  # fmt: skip


def test_bounds_are_set_priced_and_honour_if_match(owner, chat):
    etag = owner.get(path(chat))["ETag"]
    stale = owner.put(path(chat), {"enabled": True}, headers={"If-Match": '"99"'})
    assert_problem(stale, 412, "stale")
    done = owner.put(
        path(chat), {"enabled": True, "floor": 0, "ceiling": 3, "idle_s": 600}, headers={"If-Match": etag}
    )
    assert done.status_code == 200, done.content
    shown = done.json()
    assert (shown["decided_by"], shown["floor_now"], shown["ceiling_now"], shown["idle_s_now"]) == (
        "berth", 0, 3, 600,
    )  # fmt: skip
    each = float(shown["price_now"])
    assert (float(shown["price_at_floor"]), float(shown["price_at_ceiling"])) == (0, pytest.approx(3 * each))
    assert done["ETag"] != etag
    again = owner.put(path(chat), {"enabled": True, "floor": 0, "ceiling": 3, "idle_s": 600})
    assert again["ETag"] == done["ETag"], "saying the same again changes nothing"
    lines = [each["message"] for each in owner.get(path(chat, "/events")).json()["results"]]
    assert "Autoscaling on, between 0 and 3 replicas." in lines


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"floor": 3, "ceiling": 2}, "floor"),
        ({"floor": 4}, "floor"),
        ({"floor": -1}, "floor"),
        ({"ceiling": 0}, "ceiling"),
        ({"ceiling": 65}, "ceiling"),
        ({"idle_s": 5}, "idle_s"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"most": 3}, "most"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(owner, chat, body, field):
    problem = assert_problem(owner.put(path(chat), {"enabled": True} | body), 422, "invalid")
    assert [name.split(".")[0] for name in problem["errors"]] == [field]


def test_a_class_that_keeps_one_is_not_scaled_to_zero(owner):
    made = order(owner, slo_class="interactive")
    problem = assert_problem(owner.put(path(made), {"enabled": True, "floor": 0}), 422, "invalid")
    assert "keep at least 1 replica" in problem["errors"]["floor"][0]
    refused = owner.post(path(made, "/schedules"), OFFICE | {"floor": 0})
    assert "floor" in assert_problem(refused, 422, "invalid")["errors"]


def test_an_order_may_say_so_at_once(owner):
    made = order(owner, name="follows", autoscaling={"enabled": True, "floor": 0, "ceiling": 2})
    shown = owner.get(path(made)).json()
    assert (shown["decided_by"], shown["floor"], shown["ceiling"]) == ("berth", 0, 2)


def test_where_the_cluster_decides_that_is_said(owner, chat):
    Cluster.objects.update(autoscaler=Cluster.Autoscaler.KEDA)
    shown = owner.put(path(chat), {"enabled": True, "floor": 0}).json()
    assert (shown["decided_by"], shown["autoscaler"]) == ("berth", "none"), "KEDA is not there"
    Cluster.objects.update(features=["scaledobjects.keda.sh"])
    shown = owner.get(path(chat)).json()
    assert (shown["decided_by"], shown["autoscaler"]) == ("cluster", "keda")


def test_scaling_by_hand_turns_it_off(owner, chat):
    owner.put(path(chat), {"enabled": True, "ceiling": 3})
    owner.patch(path(chat, ""), {"replicas": 1})
    assert owner.get(path(chat)).json()["decided_by"] == "by-hand"


def test_schedules_are_made_listed_changed_and_taken_away(owner, chat):
    made = owner.post(path(chat, "/schedules"), OFFICE)
    assert made.status_code == 201, made.content
    schedule = made.json()
    assert (schedule["days"], schedule["floor"]) == ([1, 2, 3, 4, 5], 2)
    assert owner.get(path(chat, "/schedules")).json()["results"] == [schedule]
    assert owner.get(made["Location"]).json() == schedule
    twice = owner.post(path(chat, "/schedules"), OFFICE | {"name": "office HOURS"})
    assert_problem(twice, 422, "invalid")
    always = OFFICE | {"days": [1, 2, 3, 4, 5, 6, 7], "from_time": "00:00", "until_time": "00:00", "floor": 3}
    own = path(chat, f"/schedules/{schedule['id']}")
    assert_problem(owner.put(own, always, headers={"If-Match": '"other"'}), 412, "stale")
    changed = owner.put(own, always, headers={"If-Match": owner.get(own)["ETag"]})
    assert changed.status_code == 200, changed.content
    shown = owner.put(path(chat), {"enabled": True, "ceiling": 9}).json()
    assert (shown["floor_now"], shown["ceiling_now"], shown["scheduled"]) == (3, 4, True)
    assert shown["bounds_until"] is not None
    assert owner.delete(path(chat, f"/schedules/{schedule['id']}")).status_code == 204
    assert owner.get(path(chat)).json()["scheduled"] is False
    assert_problem(owner.delete(path(chat, f"/schedules/{schedule['id']}")), 404, "not-found")


def test_schedules_are_named_once_in_an_endpoint_and_may_be_in_another(owner, chat):
    assert owner.post(path(chat, "/schedules"), OFFICE).status_code == 201
    again = owner.post(path(chat, "/schedules"), OFFICE | {"name": "office HOURS"})
    assert "name" in assert_problem(again, 422, "invalid")["errors"]
    assert owner.post(path(order(owner, replicas=1, name="other"), "/schedules"), OFFICE).status_code == 201


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"days": [8]}, "days"),
        ({"days": []}, "days"),
        ({"floor": 5}, "floor"),
        ({"ceiling": 0}, "ceiling"),
        ({"from_time": "25:00"}, "from_time"),
        ({"from_time": "8:00"}, "from_time"),
        ({"until_time": "18:00+02:00"}, "until_time"),
        ({"name": " "}, "name"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(owner, chat, wrong, field):
    problem = assert_problem(owner.post(path(chat, "/schedules"), OFFICE | wrong), 422, "invalid")
    assert [name.split(".")[0] for name in problem["errors"]] == [field]


def test_decisions_are_listed_newest_first_with_what_they_cost(owner, chat, tenant):
    with scope.tenant(tenant.id):
        endpoint = Endpoint.objects.get(id=chat["id"])
        for before, after in ((1, 3), (3, 2)):
            ScalingDecision.objects.create(
                endpoint=endpoint, at=timezone.now(), revision=1, before=before, after=after, outcome="done",
                why="load", reason="So it was.", currency="EUR", price_before=before, price_after=after,
            )  # fmt: skip
    found = owner.get(path(chat, "/scaling-decisions")).json()["results"]
    assert [(each["before"], each["after"]) for each in found] == [(3, 2), (1, 3)]
    assert float(found[0]["price_after"]) == 2
