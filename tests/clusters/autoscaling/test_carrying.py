"""Carrying decisions out: rows, prices, refusals, zero and waking, and who else decides."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import msgspec
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.budgets.services import budget_create
from billing.models import Allocation, GpuClaim
from clusters.endpoints import services, tasks
from clusters.endpoints.approvals.rules import rule_create
from clusters.endpoints.autoscaling import carrying
from clusters.endpoints.autoscaling.selectors import scaling_shown
from clusters.endpoints.autoscaling.setting import endpoint_scaling_set
from clusters.endpoints.autoscaling.sweeping import autoscaling_sweep
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.models import Cluster, Condition, EndpointScaling, Gateway, Revision, ScalingDecision
from gateway import contract
from tenants import scope
from tenants.services import quota_set
from tests.clusters.endpoints.conftest import fresh

pytestmark = pytest.mark.django_db


@pytest.fixture
def chat(order, settle, world):
    """A batch endpoint of one L4 that may have 0 to 3 replicas."""
    endpoint = settle(order(slo_class="batch", replicas=1, residency="region:eu-de-1", pins={"gpu": "l4"}))
    world.autoscale(endpoint, floor=0, ceiling=3, idle_s=600)
    return settle(endpoint)


def condition(endpoint) -> Condition | None:
    with scope.tenant(endpoint.tenant_id):
        return Condition.objects.filter(endpoint=endpoint, type=Condition.Type.SCALING).first()


def at_once(endpoint) -> int:
    with scope.tenant(endpoint.tenant_id):
        return Revision.objects.get(endpoint=endpoint, retired_at=None).max_batch_size


def test_load_brings_replicas_and_says_what_they_cost(chat, world, settle):
    world.tell(chat, in_flight=3 * at_once(chat))

    assert world.look(chat) == 3

    (done,) = world.decisions(chat)
    assert (done.before, done.after, done.outcome, done.why) == (1, 3, "done", "load")
    assert done.price_after == 3 * done.price_before > 0
    assert done.price_before == Decimal("0.45") * Decimal("0.6")
    assert fresh(chat).generation == chat.generation, "what people read to edit it has not changed"
    assert world.holds(chat) == 3
    reconcile_endpoint(chat.id)
    assert fresh(chat).state == "updating", "it serves as before while more are started"
    assert settle(chat).state == "ready"


def test_a_look_that_changes_nothing_writes_nothing(chat, world):
    world.tell(chat, in_flight=1, requests=5)
    world.look(chat)
    world.look(chat)
    with CaptureQueriesContext(connection) as queries:
        assert world.look(chat) == 1
    written = [q["sql"] for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert all("clusters_endpointscaling" in sql and "due_at" in sql for sql in written)
    assert world.decisions(chat) == []


def test_a_quiet_while_gives_one_back_and_its_gpus_once_they_are_released(chat, world, settle):
    world.tell(chat, in_flight=3 * at_once(chat))
    world.look(chat)
    settle(chat)
    world.tell(chat, in_flight=1, requests=5)
    world.look(chat)
    assert world.scaling(chat).quiet_since is not None

    world.since(chat, minutes=6)
    assert world.look(chat) == 2

    assert world.decisions(chat)[0].why == "quiet"
    assert world.holds(chat) == 3, "its cluster has not let go yet"
    settle(chat)
    assert world.holds(chat) == 2


def to_zero(chat, world) -> None:
    world.tell(chat)
    world.look(chat)
    world.since(chat, minutes=11)
    assert world.look(chat) == 0


def test_an_idle_one_goes_to_zero_holds_nothing_and_costs_nothing(chat, world, settle, cluster):
    to_zero(chat, world)
    assert world.serving(chat) == 0, "gateways send it nothing before its cluster is told"
    assert world.shown(chat).state == "scaled-to-zero", "so that a request wakes it from now on"
    assert world.shown(chat).wake_hold_s == 300

    endpoint = settle(chat)

    assert (endpoint.state, endpoint.due_at) == ("scaled-to-zero", None)
    assert endpoint.state_reason == "No replica runs until a request comes."
    assert world.holds(chat) == 0
    with scope.tenant(chat.tenant_id):
        assert not Allocation.objects.filter(ended_at=None).exists()
        assert GpuClaim.objects.get(endpoint_id=chat.id).gpus == 0
        statuses = dict(Condition.objects.filter(endpoint=chat).values_list("type", "status"))
    assert "false" not in statuses.values()
    assert world.decisions(chat)[0].price_after == 0
    before = list(cluster.writes)
    with CaptureQueriesContext(connection) as queries:
        assert reconcile_endpoint(chat.id) is None
    assert [q["sql"] for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))] == []
    assert cluster.writes == before
    world.look(chat)
    assert world.scaling(chat).due_at is None, "one that sleeps is not looked at"


def test_a_request_wakes_it_and_it_serves_again(chat, world, settle, estate, client):
    to_zero(chat, world)
    settle(chat)
    body = msgspec.json.encode(contract.Wakes(endpoint_ids=(str(chat.id),))).decode()
    headers = {"HTTP_AUTHORIZATION": f"Bearer {estate.gateway_token}"}
    assert client.post(contract.WAKES_PATH, body, "application/json", **headers).status_code == 204
    assert world.scaling(chat).wanted_at is not None

    assert autoscaling_sweep(now=timezone.now()) == 1

    assert (world.wants(chat), world.decisions(chat)[0].why) == (1, "wanted")
    reconcile_endpoint(chat.id)
    assert fresh(chat).state == "provisioning"
    assert world.shown(chat).wake_hold_s == 300, "requests go on being held while it starts"
    assert settle(chat).state == "ready"
    assert world.serving(chat) == 1
    assert world.scaling(chat).wanted_at is None


def test_held_requests_wake_it_though_the_word_was_lost(chat, world, settle):
    to_zero(chat, world)
    settle(chat)
    world.tell(chat, in_flight=2)
    assert world.scaling(chat).due_at is not None
    assert world.look(chat) == 1


def test_one_that_wakes_where_there_is_no_room_is_placed_elsewhere_or_waits(order, settle, world):
    endpoint = settle(
        order("sleepy", slo_class="batch", replicas=1, residency="region:eu-de-1", pins={"gpu": "l4"})
    )
    world.autoscale(endpoint, floor=0, ceiling=2, idle_s=600)
    settle(endpoint)
    to_zero(endpoint, world)
    settle(endpoint)
    others = settle(order("others", replicas=4, residency="region:eu-de-1", pins={"gpu": "l4"}))
    world.tell(endpoint, in_flight=1)

    world.look(endpoint)

    reconcile_endpoint(endpoint.id)
    for _ in range(3):
        reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "waiting-for-capacity"
    assert world.shown(endpoint).wake_hold_s == 300
    with scope.tenant(others.tenant_id):
        services.endpoint_pause(endpoint=others, actor="a test")
    settle(others)
    assert settle(endpoint, passes=20).state == "ready"


@pytest.fixture
def sleepy(order, settle, world):
    """One that sleeps where the four L4 are taken now; beside them are eight H100, which are dearer."""
    endpoint = settle(order("sleepy", slo_class="batch", replicas=1, residency="region:eu-de-1"))
    world.autoscale(endpoint, floor=0, ceiling=2, idle_s=600)
    settle(endpoint)
    to_zero(endpoint, world)
    settle(endpoint)
    settle(order("others", replicas=4, residency="region:eu-de-1", pins={"gpu": "l4"}))
    world.tell(endpoint, in_flight=1)
    return endpoint


def test_placed_anew_where_it_is_dearer_its_price_is_in_the_decision(sleepy, world, settle):
    world.look(sleepy)
    (done, *_) = world.decisions(sleepy)
    assert (done.before, done.after, done.outcome, done.why) == (0, 1, "done", "wanted")
    assert "placed anew" in done.reason
    assert "h100" in done.reason
    assert settle(sleepy, passes=20).state == "ready"
    world.look(sleepy)
    with scope.tenant(sleepy.tenant_id):
        assert scaling_shown(fresh(sleepy), now=timezone.now()).price_now == done.price_after > 1


def test_it_is_not_placed_anew_where_nobody_agreed_to_the_price(sleepy, world, settle):
    with scope.tenant(sleepy.tenant_id):
        rule_create(kind="price-above", amount=Decimal("0.3"))
    assert world.look(sleepy) == 0
    assert world.look(sleepy) == 0
    (refused, slept) = world.decisions(sleepy)
    assert (refused.outcome, slept.why) == ("refused", "idle")
    assert condition(sleepy).reason == "NeedsApproval"
    assert "has 0 free GPUs" in condition(sleepy).message
    assert settle(sleepy).state == "scaled-to-zero", "it stays where it was agreed to"


def test_one_that_waits_to_be_placed_anew_is_asked_about_where_it_gets_dearer(sleepy, world, settle, order):
    dear = settle(order("dear", replicas=8, residency="region:eu-de-1", pins={"gpu": "h100_sxm"}))
    with scope.tenant(sleepy.tenant_id):
        rule_create(kind="price-above", amount=Decimal("0.3"))
    world.look(sleepy)
    for _ in range(4):
        reconcile_endpoint(sleepy.id)
    assert fresh(sleepy).state == "waiting-for-capacity"
    with scope.tenant(sleepy.tenant_id):
        services.endpoint_pause(endpoint=fresh(dear), actor="a test")
    settle(dear)
    assert settle(sleepy).state == "waiting-for-approval"
    assert world.holds(sleepy) == 0


def test_nothing_is_given_back_while_a_gateway_is_silent(chat, world):
    world.tell(chat)
    world.look(chat)
    world.since(chat, minutes=11)
    Gateway.objects.update(last_seen_at=timezone.now() - dt.timedelta(minutes=3))
    assert world.look(chat) == 1
    assert world.look(chat, after_s=3600) == 1


def test_a_process_that_fell_silent_with_requests_keeps_them(chat, world):
    world.tell(chat)
    world.look(chat)
    world.since(chat, minutes=11)
    with scope.tenant(chat.tenant_id):
        chat.signals.update(in_flight=3, heard_at=timezone.now() - dt.timedelta(minutes=2))
    assert world.look(chat) == 1


def quota(tenant, gpus: int) -> None:
    with scope.tenant(tenant.id):
        quota_set(resource="gpus", limit=gpus)


def test_a_quota_refuses_once_says_so_and_more_come_when_it_is_raised(chat, world, tenant):
    quota(tenant, 1)
    world.tell(chat, in_flight=3 * at_once(chat))

    assert world.look(chat) == 1
    assert world.look(chat) == 1

    (refused,) = world.decisions(chat)
    assert (refused.outcome, refused.before, refused.after) == ("refused", 1, 3)
    told = condition(chat)
    assert (told.status, told.reason) == ("false", "OverQuota")
    assert "quota is 1 GPUs" in told.message
    quota(tenant, 2)
    assert world.look(chat) == 2, "as many as may be"
    quota(tenant, 9)
    settled = world.look(chat)
    assert (settled, condition(chat).status) == (3, "true")


def test_a_budget_without_room_refuses(chat, world, tenant):
    with scope.tenant(tenant.id):
        budget_create(name="gpus", unit="gpu_hours", limit=Decimal("0.1"), period="month")
    world.tell(chat, in_flight=3 * at_once(chat))
    assert world.look(chat) == 1
    assert condition(chat).reason == "BudgetSpent"


def test_a_rule_of_approval_stops_what_nobody_agreed_to_and_nothing_else(chat, world, settle):
    with scope.tenant(chat.tenant_id):
        rule_create(kind="price-above", amount=Decimal("0.1"))
    world.tell(chat, in_flight=3 * at_once(chat))
    assert world.look(chat) == 1
    assert condition(chat).reason == "NeedsApproval"
    assert "by hand" in condition(chat).message
    to_zero(chat, world)
    settle(chat)
    world.tell(chat, in_flight=1)
    assert world.look(chat) == 1, "it was ordered with one"


def test_a_full_pool_gives_as_many_as_it_has(order, settle, world):
    endpoint = settle(
        order("grows", slo_class="batch", replicas=1, residency="region:eu-de-1", pins={"gpu": "l4"})
    )
    world.autoscale(endpoint, floor=1, ceiling=6)
    settle(endpoint)
    settle(order("other", replicas=1, residency="region:eu-de-1", pins={"gpu": "l4"}))
    world.tell(endpoint, in_flight=6 * at_once(endpoint))
    assert world.look(endpoint) == 3
    assert "6 would be right" in world.decisions(endpoint)[0].reason
    assert world.scaling(endpoint).wants == 6


def hand_over(**changes) -> None:
    served = {"autoscaler": Cluster.Autoscaler.KEDA, "features": ["scaledobjects.keda.sh"]}
    Cluster.objects.filter(name="de-a").update(**served | changes)


def test_where_the_cluster_scales_berth_reserves_up_to_the_ceiling_whatever_the_load(chat, world, settle):
    hand_over()
    world.tell(chat, in_flight=100 * at_once(chat))
    assert world.look(chat) == 3
    (done,) = world.decisions(chat)
    assert (done.before, done.after, done.why) == (1, 3, "cluster")
    world.tell(chat)
    assert world.look(chat, after_s=3600) == 3
    assert (world.holds(chat), len(world.decisions(chat))) == (3, 1)


def test_what_slept_as_its_cluster_took_over_is_reserved_for_it(chat, world, settle, cluster):
    to_zero(chat, world)
    settle(chat)
    hand_over()
    assert world.look(chat) == 3
    settle(chat)
    (spec,) = cluster.specs.values()
    assert (spec.scaling.least, spec.scaling.most) == (0, 3)


def test_a_cluster_keeps_to_a_ceiling_below_what_is_reserved(chat, world, settle, cluster):
    world.tell(chat, in_flight=3 * at_once(chat))
    world.look(chat)
    settle(chat)
    hand_over()
    world.autoscale(chat, floor=0, ceiling=2)
    reconcile_endpoint(chat.id)
    (spec,) = cluster.specs.values()
    assert (spec.scaling.least, spec.scaling.most) == (0, 2)
    assert world.look(chat) == 2
    settle(chat)
    assert world.holds(chat) == 2, "nobody pays for what may not run"


def test_what_is_refused_for_a_cluster_makes_nobody_else_wait(chat, world, tenant):
    quota(tenant, 1)
    hand_over()
    assert world.look(chat) == 1
    assert (condition(chat).reason, world.scaling(chat).wants) == ("OverQuota", 0)


def test_where_the_cluster_does_not_serve_the_chosen_autoscaler_berth_decides(chat, world):
    hand_over(features=[])
    world.tell(chat, in_flight=2 * at_once(chat))
    assert world.look(chat) == 3
    assert world.decisions(chat)[0].why == "load"


def test_a_cluster_that_scales_to_none_is_followed(chat, world, settle, cluster):
    hand_over()
    world.look(chat)
    settle(chat)
    (spec,) = cluster.specs.values()
    assert (spec.scaling.least, spec.scaling.most) == (0, 3)
    cluster.replicas[spec.name] = cluster.replicas[spec.name][:1]
    assert settle(chat).state == "ready", "as many as the cluster wants"
    cluster.replicas[spec.name] = []
    reconcile_endpoint(chat.id)
    assert world.shown(chat).state == "scaled-to-zero"
    assert settle(chat).state == "scaled-to-zero"
    assert world.look(chat) == 3, "reserved; how many run is its cluster's to say"


def test_one_that_cannot_be_woken_says_why_and_holds_nobody_until_it_can(chat, world, settle, tenant):
    to_zero(chat, world)
    settle(chat)
    quota(tenant, 0)
    world.tell(chat, in_flight=1)

    assert world.look(chat) == 0

    shown = world.shown(chat)
    assert (shown.state, shown.wake_hold_s, shown.wake_refused) == ("scaled-to-zero", 0, "OverQuota")
    assert "Your quota is 0 GPUs" in settle(chat).state_reason

    quota(tenant, 4)
    assert world.look(chat) == 1
    assert (world.shown(chat).wake_hold_s, world.shown(chat).wake_refused) == (300, "")


def test_a_refusal_is_forgotten_with_the_request(chat, world, settle, tenant):
    to_zero(chat, world)
    settle(chat)
    quota(tenant, 0)
    world.tell(chat, in_flight=1)
    world.look(chat)
    settle(chat)
    world.tell(chat)

    assert world.look(chat) == 0

    assert world.shown(chat).wake_hold_s == 300
    assert settle(chat).state_reason == "No replica runs until a request comes."


def test_replicas_set_by_hand_stay_as_they_were_set(chat, world):
    with scope.tenant(chat.tenant_id):
        services.endpoint_scale(endpoint=fresh(chat), replicas=2, actor="ann")
    assert not world.scaling(chat).enabled
    world.tell(chat, in_flight=100 * at_once(chat))
    assert world.look(chat) is None
    assert world.wants(chat) == 2


def test_switched_off_while_it_sleeps_it_comes_up(chat, world, settle):
    to_zero(chat, world)
    settle(chat)
    with scope.tenant(chat.tenant_id):
        endpoint_scaling_set(endpoint=fresh(chat), actor="ann", enabled=False, floor=0, ceiling=3)
    assert settle(chat).state == "ready"


def test_switched_off_while_it_sleeps_it_comes_up_with_no_more_than_was_agreed_to(chat, world, settle):
    with scope.tenant(chat.tenant_id):
        rule_create(kind="price-above", amount=Decimal("0.3"))
    to_zero(chat, world)
    settle(chat)
    with scope.tenant(chat.tenant_id):
        endpoint_scaling_set(endpoint=fresh(chat), actor="ann", enabled=False, floor=3, ceiling=3)
    assert (world.wants(chat), world.holds(chat)) == (1, 1), "it was ordered with one"


def meanwhile(monkeypatch, change) -> None:
    """Let somebody who held the endpoint be done with ``change`` just as a look gets hold of it."""
    was = carrying.for_update

    def for_update(endpoint, if_generation):
        monkeypatch.setattr(carrying, "for_update", was)
        change()
        return was(endpoint, if_generation)

    monkeypatch.setattr(carrying, "for_update", for_update)


def test_a_look_that_waited_for_its_turn_does_not_overrule_what_was_set_meanwhile(chat, world, monkeypatch):
    world.tell(chat)
    world.look(chat)
    world.since(chat, minutes=11)

    meanwhile(monkeypatch, lambda: world.autoscale(chat, floor=1, ceiling=3))
    world.look(chat)
    assert (world.wants(chat), world.decisions(chat)) == (1, []), "a floor"
    assert world.look(chat) == 1

    world.autoscale(chat, floor=0, ceiling=3, idle_s=600)
    world.look(chat)
    world.since(chat, minutes=11)
    meanwhile(monkeypatch, lambda: switch_off(chat))
    world.look(chat)
    assert (world.wants(chat), world.decisions(chat)) == (1, []), "that its replicas stay as they are"


def switch_off(endpoint) -> None:
    with scope.tenant(endpoint.tenant_id):
        endpoint_scaling_set(endpoint=fresh(endpoint), actor="ann", enabled=False, floor=0, ceiling=3)


def test_paused_ones_are_left_alone_and_looked_at_again_once_ready(chat, world, settle):
    with scope.tenant(chat.tenant_id):
        services.endpoint_pause(endpoint=fresh(chat), actor="ann")
    assert world.look(chat) is None
    assert world.scaling(chat).due_at is None, "nobody looks at what is paused"
    settle(chat)
    with scope.tenant(chat.tenant_id):
        services.endpoint_resume(endpoint=fresh(chat), actor="ann")
    settle(chat)
    assert world.scaling(chat).due_at is not None


def test_the_sweep_looks_at_who_is_due_and_one_failure_holds_up_nobody(chat, world, monkeypatch):
    with scope.tenant(chat.tenant_id):
        EndpointScaling.objects.update(due_at=timezone.now() - dt.timedelta(seconds=1))
    monkeypatch.setattr("clusters.endpoints.autoscaling.sweeping.endpoint_autoscale", lambda **_: 1 / 0)
    now = timezone.now()
    assert autoscaling_sweep(now=now) == 1
    assert autoscaling_sweep(now=now) == 0, "it is put off a little"


def test_on_the_way_down_the_highest_are_sent_nothing_before_the_cluster_is_told(
    chat, world, settle, cluster, estate
):
    world.tell(chat, in_flight=3 * at_once(chat))
    world.look(chat)
    settle(chat)
    world.tell(chat, in_flight=1, requests=5)
    world.look(chat)
    world.since(chat, minutes=6)
    Gateway.objects.update(confirmed_at=timezone.now() - dt.timedelta(minutes=1))

    assert world.look(chat) == 2

    assert world.serving(chat) == 2
    before = list(cluster.writes)
    assert reconcile_endpoint(chat.id) is not None
    assert reconcile_endpoint(chat.id) is not None
    assert cluster.writes == before, "no gateway has confirmed yet that it sends it nothing"
    estate.confirm_gateway()
    reconcile_endpoint(chat.id)
    assert len(cluster.writes) == len(before) + 1


def test_an_engine_may_finish_any_answer_that_its_class_allows(chat, cluster):
    (spec,) = cluster.specs.values()
    assert spec.tuning.drain_s == 3600, "as long as a whole answer of class batch may take"


def test_a_gateway_that_does_not_confirm_holds_it_up_for_ten_seconds_only(chat, world, settle, cluster):
    to_zero(chat, world)
    Gateway.objects.update(confirmed_at=timezone.now() - dt.timedelta(minutes=1))
    reconcile_endpoint(chat.id)
    before = list(cluster.writes)
    with scope.tenant(chat.tenant_id):
        Revision.objects.update(shrunk_at=timezone.now() - dt.timedelta(seconds=11))
    reconcile_endpoint(chat.id)
    assert len(cluster.writes) == len(before) + 1


def test_decisions_can_be_looked_up_for_a_year_and_no_longer(chat, world):
    world.tell(chat, in_flight=3 * at_once(chat))
    world.look(chat)
    for days, removed in ((0, 0), (399, 0), (401, 1)):
        with scope.platform("a test"):
            ScalingDecision.objects.update(at=timezone.now() - dt.timedelta(days=days))
        assert tasks.expire_decisions() == removed
    assert world.decisions(chat) == []
