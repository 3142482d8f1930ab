"""Rollouts: a new revision beside what serves, its canary, and going back where it is worse."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import GpuClaim
from clusters.endpoints import restoring, services
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.rollouts.changing import change_plan
from clusters.endpoints.rollouts.deciding import (
    rollout_dismiss,
    rollout_promote_now,
    rollout_retry,
    rollout_roll_back,
)
from clusters.endpoints.snapshot import build_snapshot
from clusters.models import Endpoint, EndpointEvent, Reservation, Revision, Rollout
from tenants import scope
from tenants.errors import Conflict
from tenants.services import quota_set
from tests.clusters.endpoints.conftest import fresh
from tests.clusters.endpoints.rollouts import NIGHT, Rolling, at, canary, crowd

pytestmark = pytest.mark.django_db

H100 = {"pins": {"gpu": "h100_sxm"}}


@pytest.fixture
def rolling(order, settle, estate, cluster):
    """An endpoint that serves, in a class with a canary."""

    def rolling(policy=None, **terms):
        canary(**(policy or {}))
        return Rolling(estate=estate, cluster=cluster, endpoint=settle(order(**terms)))

    return rolling


def test_a_good_canary_is_promoted_step_by_step(rolling, cluster):
    it = rolling()
    it.change(**H100)
    first = it.look(passes=1)
    assert (first.phase, first.way, first.before.number, first.revision.number) == ("starting", "surge", 1, 2)
    assert it.weights() == {1: 100}
    held = it.look()
    assert (held.phase, held.step, held.weight) == ("canary", 0, 5)
    assert it.weights() == {1: 95, 2: 5}
    assert it.shown.state == "updating"
    assert "0 requests of 200" in it.shown.state_reason
    for weight in (25, 50):
        it.both()
        assert it.look(30).weight < weight  # a step takes its time, however good it looks
        found = it.look(31)
        assert (found.weight, it.weights()) == (weight, {1: 100 - weight, 2: weight})
    it.both()
    done = it.look(61)
    assert (done.phase, done.weight, done.ended_by) == ("promoted", 100, "")
    assert it.weights() == {2: 100}
    assert it.shown.state == "ready"
    assert set(cluster.specs) == {done.revision.deployment}
    numbers = {each["name"]: (each["old"], each["new"], each["finding"]) for each in done.verdict["criteria"]}
    assert set(numbers) == {"ttft_p95_ms", "itl_p95_ms", "errors_percent", "cost_per_million_tokens"}
    assert numbers["errors_percent"] == (0.0, 0.0, "kept")


def test_a_slow_canary_is_rolled_back_and_the_order_with_it(rolling, cluster, tenant):
    it = rolling()
    it.change(**H100)
    it.look()
    assert it.shown.pins == {"gpu": "h100_sxm"}
    it.both(ttft_ms=1400, itl_ms=18)
    found = it.look(5)
    assert (found.phase, found.weight) == ("rolled-back", 0)
    assert "time to first token" in found.reason
    assert it.weights() == {1: 100}
    shown = it.shown
    assert (shown.state, shown.pins) == ("update-failed", {})
    assert "revision 1" in shown.state_reason
    assert "400 of 400 requests" in shown.state_reason
    assert found.wish["pins"] == {"gpu": "h100_sxm"}
    assert set(cluster.specs) == {found.before.deployment}
    with scope.tenant(tenant.id):
        assert EndpointEvent.objects.filter(endpoint=shown, kind="rolled-back").count() == 1
        assert Reservation.objects.held().count() == 1
    reconcile_endpoint(shown.id)
    with CaptureQueriesContext(connection) as queries:
        assert reconcile_endpoint(shown.id) is None
    assert not [q for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]


def test_a_canary_whose_requests_fail_is_rolled_back_before_its_step_is_over(rolling):
    it = rolling()
    it.change(**H100)
    it.look()
    it.serve(it.rollout.before)
    it.serve(it.rollout.revision, 60, failed=12)
    found = it.look(1)
    assert found.phase == "rolled-back"
    assert "12 of its 60 requests failed; 0 of 400 did" in found.reason


def test_a_canary_whose_failures_clients_never_saw_is_rolled_back(rolling):
    it = rolling()
    it.tell_tried_again(r1=7)
    it.change(**H100)
    it.look()
    it.serve(it.rollout.before)
    it.tell_tried_again(r1=7, r2=4)
    assert it.look(1).phase == "canary", "four tell nothing"
    it.tell_tried_again(r1=7, r2=6)
    found = it.look(1)
    assert found.phase == "rolled-back"
    assert "6 of its 6 requests failed; 0 of 400 did" in found.reason
    assert "clients did not see" in found.reason


def test_one_failed_request_more_is_no_reason_to_go_back(rolling):
    it = rolling()
    it.change(**H100)
    it.look()
    it.serve(it.rollout.before, 4000, failed=20)
    it.serve(it.rollout.revision, 250, failed=4)
    assert it.look(61).weight == 25


def test_too_little_traffic_holds_a_canary_until_somebody_decides(rolling):
    it = rolling({"rollout_patience_s": 600})
    it.change(**H100)
    it.look()
    it.both(requests=150)
    assert it.look(599).weight == 5
    found = it.look(86_400)
    assert (found.phase, found.weight) == ("canary", 5)
    assert "It is held" in it.shown.state_reason
    assert "150 requests of 200" in it.shown.state_reason


def test_a_class_may_go_on_with_too_little_traffic(rolling):
    it = rolling({"rollout_patience_s": 600, "rollout_little_traffic": "promote", "rollout_steps": [10]})
    it.change(**H100)
    it.look()
    assert it.look(599).phase == "canary"
    found = it.look(2)
    assert (found.phase, found.reason) == ("promoted", "Too few requests came to tell.")


def test_engines_that_do_not_come_up_are_given_up(rolling, cluster):
    it = rolling({"rollout_start_s": 900})
    it.change(**H100)
    it.look(passes=2, ready=False)
    assert it.look(800, passes=2, ready=False).phase == "starting"
    found = it.look(101, passes=6, ready=False)
    assert found.phase == "failed"
    assert "did not serve within 15 min" in found.reason
    assert it.look().phase == "failed"
    assert it.shown.state == "update-failed"


def test_an_engine_that_gives_up_in_the_canary_takes_it_back(rolling, cluster):
    it = rolling()
    it.change(**H100)
    it.look()
    cluster.fail(it.rollout.revision.deployment, "CUDA out of memory")
    it.look(passes=2, ready=False)
    assert it.rollout.phase == "failed"
    assert "CUDA out of memory" in it.look().reason
    assert it.weights() == {1: 100}


def test_a_change_during_a_rollout_takes_its_place(rolling, cluster):
    it = rolling()
    it.change(**H100)
    first = it.look()
    it.change(pins={"gpu": "l4", "max_batch_size": 4})
    assert it.shown.state == "updating"
    with scope.tenant(it.endpoint.tenant_id):
        first.refresh_from_db()
        assert (first.phase, first.ended_by) == ("cancelled", "ann")
    second = it.look()
    assert (second.phase, second.before.number, second.revision.number) == ("canary", 1, 3)
    assert it.weights() == {1: 95, 3: 5}
    it.both(ttft_ms=1400)
    it.look(5)
    assert it.shown.pins == {}  # what runs, not what the first change wished


def test_the_same_change_again_is_refused(rolling):
    it = rolling()
    it.change(**H100)
    with pytest.raises(Conflict, match="Nothing would change"):
        it.change(**H100)
    it.look()
    with pytest.raises(Conflict, match="Nothing would change"):
        it.change(**H100)


@pytest.mark.parametrize("wish", ["pause", "delete"])
def test_a_pause_or_deletion_ends_a_rollout_and_leaves_nothing(rolling, cluster, tenant, wish):
    it = rolling()
    it.change(**H100)
    it.look()
    with scope.tenant(tenant.id):
        {"pause": services.endpoint_pause, "delete": services.endpoint_delete}[wish](
            endpoint=fresh(it.endpoint), actor="ann"
        )
    found = it.look()
    assert (found.phase, cluster.specs) == ("cancelled", {})
    assert it.shown.state == {"pause": "paused", "delete": "deleted"}[wish]
    with scope.tenant(tenant.id):
        assert not Reservation.objects.held().exists()


def test_an_earlier_revision_comes_back_by_a_canary_with_the_terms_of_then(rolling):
    it = rolling({"rollout_steps": [50]})
    it.change(context_tokens=256)
    it.look()
    it.both()
    assert it.look(61).phase == "promoted"
    assert it.shown.context_tokens == 256
    with scope.tenant(it.endpoint.tenant_id):
        restoring.endpoint_restore(endpoint=fresh(it.endpoint), number=1, actor="ann")
    assert it.look().phase == "canary"
    it.both()
    assert it.look(61).phase == "promoted"
    assert it.shown.context_tokens is None


def test_gateways_are_told_the_old_context_until_the_new_one_is_promoted(rolling, estate):
    it = rolling({"rollout_steps": [50]})
    it.change(context_tokens=256)
    it.look()
    assert build_snapshot(estate.gateway).endpoints[0].context_tokens != 256
    it.both()
    it.look(61)
    assert build_snapshot(estate.gateway).endpoints[0].context_tokens == 256


class Killed(Exception):
    """The worker dies here."""


def kill_at(write):
    """Die before the nth write of what is run within."""
    seen = 0

    def wrapper(execute, sql, params, many, context):
        nonlocal seen
        if sql.startswith(("INSERT", "UPDATE", "DELETE")):
            seen += 1
            if seen == write:
                raise Killed
        return execute(sql, params, many, context)

    return connection.execute_wrapper(wrapper)


def look_killed(it, *, ready=True):
    """One look that dies at its first write, then at its second, and so on, until one is through."""
    write = 1
    while True:
        try:
            with kill_at(write):
                reconcile_endpoint(it.endpoint.id, it.now)
        except Killed:
            write += 1
            continue
        break
    if ready:
        it.cluster.make_ready()
    it.estate.confirm_gateway()
    return write


@pytest.mark.parametrize("ttft_ms", [90, 1400])
def test_a_worker_killed_at_every_write_changes_nothing_of_the_outcome(rolling, cluster, tenant, ttft_ms):
    it = rolling({"rollout_steps": [50]})
    it.change(**H100)
    for _ in range(6):
        look_killed(it)
    assert it.rollout.phase == "canary"
    it.both(ttft_ms=ttft_ms)
    it.now += dt.timedelta(seconds=61)
    for _ in range(5):
        look_killed(it)
    good = ttft_ms == 90
    assert it.rollout.phase == ("promoted" if good else "rolled-back")
    assert it.weights() == ({2: 100} if good else {1: 100})
    assert it.shown.state == ("ready" if good else "update-failed")
    assert len(cluster.specs) == 1
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().count() == 1
        assert Rollout.objects.count() == 1
        assert Revision.objects.filter(retired_at=None).count() == 1


def first_revision(it):
    with scope.tenant(it.endpoint.tenant_id):
        return Revision.objects.select_related("pool").get(endpoint=it.endpoint, number=1)


def test_without_free_gpus_what_runs_is_replaced_in_the_window_of_its_class(rolling, cluster, tenant):
    it = rolling(NIGHT)
    it.now = at(12)
    old = first_revision(it)
    crowd(old)
    it.change(pins={"max_batch_size": 4})
    waits = it.look()
    assert (waits.phase, waits.way, waits.revision) == ("waiting", "replace", None)
    assert "02:00 to 05:00 UTC" in waits.reason
    assert waits.outage_s > 0
    assert f"starts of {it.endpoint.model.name} on" in waits.outage_from
    shown = it.shown
    assert (shown.state, it.weights()) == ("ready", {1: 100})
    assert "waits for its window" in shown.state_reason
    it.now = at(3)
    it.look(passes=1)
    assert it.shown.state == "updating"
    assert "nothing serves" in it.shown.state_reason
    found = it.look()
    assert (found.phase, found.revision.number) == ("promoted", 2)
    assert (it.weights(), it.shown.state) == ({2: 100}, "ready")
    assert set(cluster.specs) == {found.revision.deployment}
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().gpus() == 1


def test_gpus_that_a_replacement_waits_for_are_nobody_elses(rolling, order, cluster, tenant):
    it = rolling(NIGHT)
    it.now = at(3)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    it.look(passes=1)
    other = order("other")
    it.look(passes=1)
    reconcile_endpoint(other.id)
    assert fresh(other).state == "waiting-for-capacity"
    assert it.look().phase == "promoted"


def test_a_replacement_that_does_not_come_up_is_undone_in_place(rolling, cluster, tenant):
    it = rolling(NIGHT)
    it.now = at(3)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    it.look(passes=3, ready=False)
    cluster.fail(it.rollout.revision.deployment, "CUDA out of memory")
    it.look(passes=1, ready=False)
    found = it.look()
    assert (found.phase, found.revision.number) == ("failed", 2)
    shown = it.shown
    assert (shown.state, shown.pins, it.weights()) == ("update-failed", {}, {3: 100})
    with scope.tenant(tenant.id):
        assert Revision.objects.get(number=3).restored_from == 1


def test_a_replacement_is_not_changed_while_nothing_serves_but_can_be_paused(rolling, cluster, tenant):
    it = rolling(NIGHT)
    it.now = at(3)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    it.look(passes=2, ready=False)
    with pytest.raises(Conflict, match="being replaced in place"):
        it.change(pins={"max_batch_size": 8})
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=fresh(it.endpoint), actor="ann")
    assert it.look().phase == "cancelled"
    assert (it.shown.state, cluster.specs) == ("paused", {})
    with scope.tenant(tenant.id):
        assert not Reservation.objects.held().exists()


def test_a_waiting_replacement_gives_way_to_another_change(rolling):
    it = rolling(NIGHT)
    it.now = at(12)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    it.look()
    it.change(pins={"max_batch_size": 8})
    assert it.look().phase == "waiting"
    it.now = at(3)
    assert it.look().phase == "promoted"
    assert it.shown.pins == {"max_batch_size": 8}


def test_what_sleeps_is_replaced_without_waiting_for_the_window(rolling, cluster):
    it = rolling({"rollout_ways": ["replace"], **NIGHT}, slo_class="batch", replicas=1)
    it.sleep()
    it.now = at(12)
    with scope.tenant(it.endpoint.tenant_id):
        rows = Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
        change = {"pins": {"max_batch_size": 4}}
        plan = change_plan(endpoint=rows.get(id=it.endpoint.id), changes=change, now=it.now)
    assert (plan.way, plan.begins_at) == ("replace", it.now)
    it.change(**change)
    assert "window" not in it.rollout.reason
    found = it.look(passes=12)
    assert (found.phase, found.revision.number, it.weights()) == ("promoted", 2, {2: 100})
    assert (it.shown.state, set(cluster.specs)) == ("ready", {found.revision.deployment})


def test_what_sleeps_is_woken_while_its_change_starts(rolling, tenant):
    it = rolling(slo_class="batch", replicas=1)
    world = it.sleep()
    it.change(pins={"max_batch_size": 4}, replicas=2)
    with scope.tenant(tenant.id):
        quota_set(resource="gpus", limit=2)
    assert it.look(passes=2, ready=False).phase == "starting"
    assert world.look(it.endpoint) == 0, "nobody asks for it"
    world.tell(it.endpoint, in_flight=1)
    assert world.look(it.endpoint) == 1
    with scope.tenant(tenant.id):
        wanted = Revision.objects.filter(retired_at=None).order_by("number")
        assert [each.replicas for each in wanted] == [1, 2]
        assert GpuClaim.objects.get(endpoint_id=it.endpoint.id).gpus == 2, "a change counts once"
    found = it.look(passes=12)
    assert (found.phase, it.weights()) == ("canary", {1: 95, 2: 5})
    it.both(ttft_ms=1400)
    it.look(5)
    assert (it.rollout.phase, it.weights()) == ("rolled-back", {1: 100})


def test_a_waiting_replacement_that_is_changed_back_is_given_up(rolling, cluster, tenant):
    it = rolling(NIGHT)
    it.now = at(12)
    old = first_revision(it)
    crowd(old)
    it.change(pins={"max_batch_size": 4})
    it.look()
    it.change(pins={})
    assert it.look().phase == "cancelled"
    it.now = at(3)
    it.look()
    assert (it.weights(), it.shown.state, set(cluster.specs)) == ({1: 100}, "ready", {old.deployment})
    with scope.tenant(tenant.id):
        assert Revision.objects.count() == 1


def test_replicas_lent_to_a_change_come_back_when_it_is_changed_back(rolling, tenant):
    it = rolling(replicas=3)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    it.look(passes=1)
    assert (it.rollout.phase, replicas_of(tenant)) == ("waiting", {1: 2})
    it.change(pins={})
    assert it.look().phase == "cancelled"
    assert (replicas_of(tenant), it.shown.state) == ({1: 3}, "ready")


def test_a_class_without_that_way_refuses_what_has_no_room(rolling):
    it = rolling({"rollout_ways": ["surge"]})
    crowd(first_revision(it))
    with pytest.raises(Conflict, match="cannot be run so now"):
        it.change(pins={"max_batch_size": 4})


def test_replicas_of_its_own_make_room_one_by_one(rolling, cluster, tenant):
    it = rolling({"rollout_steps": [10, 50]}, replicas=3)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    assert (it.rollout.phase, it.rollout.way) == ("waiting", "borrow")
    held = it.look(passes=12)
    assert (held.phase, held.weight, held.lent) == ("canary", 10, 1)
    assert replicas_of(tenant) == {1: 2, 2: 1}
    it.both()
    it.look(61, passes=12)
    assert replicas_of(tenant) == {1: 1, 2: 2}
    assert (it.rollout.weight, it.weights()) == (50, {1: 50, 2: 50})
    it.both()
    assert it.look(61, passes=12).phase == "promoted"
    assert replicas_of(tenant) == {2: 3}
    assert it.shown.state == "ready"
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().gpus() == 3


def test_replicas_that_were_lent_come_back_when_it_is_undone(rolling, cluster, tenant):
    it = rolling({"rollout_steps": [10, 50]}, replicas=3)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    it.look(passes=12)
    it.both(ttft_ms=1400)
    assert it.look(5, passes=12).phase == "rolled-back"
    assert replicas_of(tenant) == {1: 3}
    assert len(cluster.replicas[first_revision(it).deployment]) == 3
    assert it.shown.state == "update-failed"
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().gpus() == 3


def replicas_of(tenant):
    with scope.tenant(tenant.id):
        return dict(Revision.objects.filter(retired_at=None).values_list("number", "replicas"))


def test_a_worker_killed_at_every_write_of_a_replacement_leaves_it_to_the_next(rolling, cluster, tenant):
    it = rolling(NIGHT)
    it.now = at(3)
    crowd(first_revision(it))
    it.change(pins={"max_batch_size": 4})
    for _ in range(8):
        look_killed(it)
    assert (it.rollout.phase, it.weights(), it.shown.state) == ("promoted", {2: 100}, "ready")
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().gpus() == 1


def test_people_promote_roll_back_try_again_and_dismiss(rolling, tenant):
    it = rolling()

    def decide(service):
        with scope.tenant(tenant.id):
            rows = Endpoint.objects.select_related("tenant", "slo_class", "model", "project", "cluster")
            return service(endpoint=rows.get(id=it.endpoint.id), rollout_id=it.rollout.id, actor="ann")

    it.change(**H100)
    with pytest.raises(Conflict, match="in its canary"):
        decide(rollout_promote_now)
    it.look()
    decide(rollout_roll_back)
    it.look()
    assert (it.rollout.phase, it.rollout.ended_by, it.shown.state) == ("rolled-back", "ann", "ready")
    decide(rollout_retry)
    it.look()
    it.both(ttft_ms=1400)
    it.look(5)
    assert it.shown.state == "update-failed"
    decide(rollout_dismiss)
    it.look()
    assert it.shown.state == "ready"
    with pytest.raises(Conflict, match="no failed update"):
        decide(rollout_dismiss)
    decide(rollout_retry)
    it.look()
    decide(rollout_promote_now)
    it.look()
    assert (it.rollout.phase, it.weights(), it.shown.pins) == ("promoted", {4: 100}, {"gpu": "h100_sxm"})
    with pytest.raises(Conflict, match="only one that was undone"):
        decide(rollout_retry)


def test_trying_again_keeps_what_was_changed_since(rolling, tenant):
    it = rolling()
    it.change(**H100)
    it.look()
    it.both(ttft_ms=1400)
    assert it.look(5).phase == "rolled-back"
    with scope.tenant(tenant.id):
        services.endpoint_scale(endpoint=fresh(it.endpoint), replicas=3, actor="ann")
    it.look()
    with scope.tenant(tenant.id):
        rows = Endpoint.objects.select_related("tenant", "slo_class", "model", "project", "cluster")
        rollout_retry(endpoint=rows.get(id=it.endpoint.id), rollout_id=it.rollout.id, actor="ann")
    assert it.look().phase == "canary"
    assert (it.shown.pins, it.shown.replicas) == ({"gpu": "h100_sxm"}, 3)
    assert replicas_of(tenant) == {1: 3, 3: 3}


def test_a_canary_that_does_not_get_its_share_says_so(rolling):
    it = rolling()
    it.change(**H100)
    it.look()
    it.serve(it.rollout.before, 4000)
    it.serve(it.rollout.revision, 20)
    assert it.look(5).weight == 5
    assert "its share of 5 % would be 201" in it.rollout.reason
