"""The advisor: what it proposes for a whole fleet, and how moves are carried out, unasked too."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.prices import price_set
from clusters.endpoints import services
from clusters.endpoints.advisor.moves import moves_accept, moves_advance, moves_dismiss
from clusters.endpoints.advisor.policy import advice_keep, policy_set
from clusters.endpoints.advisor.runs import advice_run_execute, advice_run_start, advice_runs_revive
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.inventory.services import cluster_register, pool_add
from clusters.models import (
    AdviceMove,
    AdvicePolicy,
    AdviceRun,
    ClassTuning,
    Cluster,
    Endpoint,
    EndpointEvent,
    GpuType,
    LoadObservation,
    Region,
    Reservation,
    Revision,
)
from tenants import scope
from tenants.errors import Conflict, Invalid
from tenants.services import quota_set
from tests.clusters.endpoints.conftest import fresh
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db

L4, H100 = Decimal("0.45"), Decimal("2.99")
OPERATOR = "operator olga@example.org"


@pytest.fixture
def tenant(db):
    return make_tenant("acme", gpus=40)


@pytest.fixture
def blocker(order, settle):
    """An endpoint that holds the only cheap GPUs in Germany."""
    return settle(order("blocker", replicas=4, residency="region:eu-de-1"))


@pytest.fixture
def dear(order, settle, blocker):
    """An endpoint that had to take an H100 for want of an L4."""
    endpoint = settle(order("dear", residency="region:eu-de-1"))
    assert running(endpoint) == ("de-a/h100", 1)
    return endpoint


@pytest.fixture
def cheaper(dear, blocker, settle):
    """The same, now that cheap GPUs are free."""
    with scope.tenant(blocker.tenant_id):
        services.endpoint_delete(endpoint=blocker, actor="a test")
    settle(blocker)
    return dear


def running(endpoint) -> tuple[str, int]:
    with scope.tenant(endpoint.tenant_id):
        revision = Revision.objects.select_related("pool__cluster").get(endpoint=endpoint, retired_at=None)
        return str(revision.pool), revision.replicas


def held(endpoint) -> int:
    with scope.tenant(endpoint.tenant_id):
        return Reservation.objects.held().filter(endpoint=endpoint).gpus()


def advise(**options) -> AdviceRun:
    run = advice_run_start(actor=OPERATOR, **options)
    assert advice_run_execute(run.id)
    with scope.platform("a test"):
        return AdviceRun.objects.get(id=run.id)


def moves(run: AdviceRun) -> list[AdviceMove]:
    with scope.platform("a test"):
        return list(run.moves.select_related("endpoint").order_by("number"))


def policy(**values) -> AdvicePolicy:
    with scope.platform("a test"):
        return policy_set(**values)


def accept(run: AdviceRun) -> None:
    moves_accept(run=run, moves=moves(run), actor=OPERATOR)


def test_a_cheap_pool_that_frees_up_is_worth_a_move(cheaper):
    run = advise()
    (move,) = moves(run)
    assert (move.kind, move.state, move.step) == ("move", "proposed", 1)
    assert (move.before["pool"], move.after["pool"]) == ("de-a/h100", "de-a/l4")
    assert (move.cost_before, move.cost_after, move.saving) == (H100, L4, H100 - L4)
    assert any("Another GPU type" in risk for risk in move.risks)
    assert any("One replica" in risk for risk in move.risks)
    # Both are held while the new engine loads, then the old one drains for 60 s.
    assert move.load_s == 60
    assert move.rollout_cost == ((L4 + H100) * 60 / 3600).quantize(Decimal("0.000001"))
    assert move.payback_h == pytest.approx(float(move.rollout_cost / move.saving))
    (total,) = run.totals
    assert (total["currency"], total["cost_now"], total["saving"]) == ("EUR", "2.99", "2.54")
    assert Decimal(total["bound"]) <= Decimal(total["objective"])
    assert (run.state, run.endpoints) == ("finished", 1)


def test_where_everything_is_well_placed_nothing_is_proposed(order, settle):
    settle(order("well"))
    run = advise()
    assert moves(run) == []
    assert run.totals[0]["saving"] == "0.00"


def test_an_accepted_move_serves_from_the_new_pool_and_then_leaves_the_old_one(cheaper, settle):
    run = advise()
    accept(run)
    assert moves_advance() == 1
    assert moves(run)[0].state == "applying"
    with scope.tenant(cheaper.tenant_id):
        wanted = Revision.objects.filter(endpoint=cheaper, retired_at=None).order_by("number")
        assert [(each.number, str(each.pool)) for each in wanted] == [(1, "de-a/h100"), (2, "de-a/l4")]
    assert held(cheaper) == 2
    assert moves_advance() == 0, "it is not over before the old engines are let go of"
    assert settle(cheaper).state == "ready"
    assert running(cheaper) == ("de-a/l4", 1)
    assert held(cheaper) == 1
    assert moves_advance() == 1
    (move,) = moves(run)
    assert (move.state, move.revision, move.decided_by) == ("applied", 2, OPERATOR)
    with scope.tenant(cheaper.tenant_id):
        told = EndpointEvent.objects.filter(endpoint=cheaper, kind="move").get()
    assert told.actor == OPERATOR
    assert "saves 2.54 EUR per hour" in told.message
    assert fresh(cheaper).cluster_id is None, "Berth goes on choosing its cluster"


def test_a_second_plan_proposes_nothing_and_a_moved_endpoint_rests(cheaper, settle, order):
    run = advise()
    accept(run)
    moves_advance()
    settle(cheaper)
    moves_advance()
    again = advise()
    assert moves(again) == []
    assert again.kept == {"it was changed a short while ago": 1}
    # Even where another place became much cheaper.
    price_set(kind="gpu_hour", amount=Decimal("0.01"), currency="EUR", gpu_type="h100_sxm")
    assert moves(advise()) == []
    policy(cool_down_hours=0)
    assert [move.after["pool"] for move in moves(advise())] == ["de-a/h100"]


@pytest.mark.parametrize(
    "rule",
    [
        {"least_saving_percent": Decimal(90)},
        {"least_saving_per_hour": Decimal(3)},
    ],
)
def test_what_saves_too_little_is_not_proposed(cheaper, rule):
    policy(**rule)
    run = advise()
    assert moves(run) == []


def test_what_pays_back_too_late_is_not_proposed(cheaper):
    with scope.tenant(cheaper.tenant_id):
        model = cheaper.model
    model.weights_kind, model.weights_size_gib = "pvc", 1e9
    model.save()
    policy(payback_days=1)
    ClassTuning.objects.update(load_s=14_400)
    price_set(kind="gpu_hour", amount=Decimal("2.60"), currency="EUR", gpu_type="l4")
    assert moves(advise()) == []
    policy(payback_days=7)
    assert len(moves(advise())) == 1


def test_what_operators_placed_by_hand_stays(cheaper):
    with scope.tenant(cheaper.tenant_id):
        Endpoint.objects.filter(id=cheaper.id).update(cluster=Cluster.objects.get(name="de-a"))
    run = advise()
    assert moves(run) == []
    assert run.kept == {"operators chose its cluster": 1}


def test_what_is_being_changed_stays(cheaper):
    with scope.tenant(cheaper.tenant_id):
        services.endpoint_move(endpoint=cheaper, cluster=Cluster.objects.get(name="de-a"), actor="a test")
        Endpoint.objects.filter(id=cheaper.id).update(cluster=None, state="updating")
    assert moves(advise()) == []


def test_residency_is_never_left(order, settle, estate):
    price_set(kind="gpu_hour", amount=Decimal("0.01"), currency="EUR", gpu_type="l4", region="us-east-1")
    settle(order("eu", residency="zone:EU"))
    settle(order("here", residency="region:eu-de-1", certifications=("C5",)))
    assert moves(advise()) == []
    free = order("anywhere", residency="global")
    assert running(settle(free))[0] == "us-a/l4"


def test_a_quota_is_never_exceeded(estate, settle, cluster):
    poor = make_tenant("globex", gpus=1)
    with scope.tenant(poor.id):
        endpoint = services.endpoint_order(
            project=default_project(poor), name="small", terms=estate.terms(residency="region:eu-de-1"),
            actor="a test",
        )  # fmt: skip
        quota_set(resource="gpus:l4", limit=1)
    endpoint = settle(endpoint)
    assert running(endpoint)[0] == "de-a/l4"
    price_set(kind="gpu_hour", amount=Decimal("0.01"), currency="EUR", gpu_type="h100_sxm")
    with scope.tenant(poor.id):
        quota_set(resource="gpus:h100_sxm", limit=0)
    assert moves(advise()) == []
    with scope.tenant(poor.id):
        quota_set(resource="gpus:h100_sxm", limit=1)
    run = advise()
    assert [move.after["pool"] for move in moves(run)] == ["de-a/h100"]
    with scope.tenant(poor.id):
        quota_set(resource="gpus:h100_sxm", limit=0)
    accept(run)
    moves_advance()
    (move,) = moves(run)
    assert move.state == "refused"
    assert "quota" in move.state_reason
    assert running(endpoint)[0] == "de-a/l4"


def test_a_precision_is_changed_only_where_its_note_was_accepted(cheaper):
    model = cheaper.model
    run = advise()
    before = moves(run)[0].before["precision"]
    made = next(each for each in ("int4", "fp8") if each != before)
    model.precisions = [made]
    model.weights_quantize = {made: "fp8"}
    model.precision_notes = {made: {"note": "Loses a little.", "needs_approval": True}}
    model.save()
    assert moves(advise()) == []
    with scope.tenant(cheaper.tenant_id):
        Endpoint.objects.filter(id=cheaper.id).update(approved_precisions=[made])
    (move,) = moves(advise())
    assert move.after["precision"] == made
    assert any("Answers may change" in risk and "Loses a little" in risk for risk in move.risks)


def test_no_more_are_moved_at_a_time_than_the_policy_says(order, settle, blocker):
    policy(concurrent_moves=1)
    both = [settle(order(name, residency="region:eu-de-1")) for name in ("one", "two")]
    with scope.tenant(blocker.tenant_id):
        services.endpoint_delete(endpoint=blocker, actor="a test")
    settle(blocker)
    run = advise()
    accept(run)
    moves_advance()
    assert sorted(move.state for move in moves(run)) == ["accepted", "applying"]
    moves_advance()
    assert sorted(move.state for move in moves(run)) == ["accepted", "applying"]
    for endpoint in both:
        settle(endpoint)
    moves_advance()
    assert sorted(move.state for move in moves(run)) == ["applied", "applying"]
    for endpoint in both:
        settle(endpoint)
    moves_advance()
    assert {running(endpoint)[0] for endpoint in both} == {"de-a/l4"}
    assert [move.state for move in moves(run)] == ["applied", "applied"]


def test_a_move_whose_saving_is_gone_is_outdated(cheaper):
    run = advise()
    price_set(kind="gpu_hour", amount=Decimal("2.95"), currency="EUR", gpu_type="l4")
    accept(run)
    moves_advance()
    (move,) = moves(run)
    assert move.state == "outdated"
    assert "save only 0.04 EUR" in move.state_reason
    assert running(cheaper)[0] == "de-a/h100"


def test_a_move_whose_room_is_gone_is_outdated(cheaper, order, settle):
    run = advise()
    settle(order("quick", replicas=4, residency="region:eu-de-1"))
    accept(run)
    moves_advance()
    (move,) = moves(run)
    assert move.state == "outdated"
    assert "no capacity now" in move.state_reason


def test_a_move_of_what_was_changed_meanwhile_is_outdated(cheaper):
    run = advise()
    with scope.tenant(cheaper.tenant_id):
        services.endpoint_pause(endpoint=cheaper, actor="a test")
    accept(run)
    moves_advance()
    assert (moves(run)[0].state, moves(run)[0].state_reason) == ("outdated", "It is paused.")


def test_a_move_that_is_given_up_by_its_tenant_ends_refused(cheaper):
    run = advise()
    accept(run)
    moves_advance()
    with scope.tenant(cheaper.tenant_id):
        services.endpoint_pause(endpoint=cheaper, actor="a test")
    moves_advance()
    assert moves(run)[0].state == "refused"


def test_engines_that_do_not_come_up_are_given_up_and_what_ran_goes_on(cheaper, settle):
    run = advise()
    accept(run)
    now = timezone.now()
    moves_advance(now)
    reconcile_endpoint(cheaper.id)
    limit_s = cheaper.slo_class.rollout_start_s
    reconcile_endpoint(cheaper.id, now + dt.timedelta(seconds=limit_s - 60))
    assert moves_advance(now) == 0
    reconcile_endpoint(cheaper.id, now + dt.timedelta(seconds=limit_s + 60))
    moves_advance(now)
    (move,) = moves(run)
    assert move.state == "refused"
    assert "what ran before goes on" in move.state_reason
    assert settle(cheaper).state == "update-failed"
    assert running(cheaper)[0] == "de-a/h100"


def test_a_new_plan_outdates_the_proposals_of_the_one_before(cheaper):
    first = advise()
    advise()
    assert moves(first)[0].state == "outdated"
    with pytest.raises(Conflict, match="outdated already"):
        accept(first)


def test_a_dismissed_move_is_not_carried_out(cheaper):
    run = advise()
    accept(run)
    moves_dismiss(run=run, moves=moves(run), actor=OPERATOR)
    assert moves_advance() == 0
    assert moves(run)[0].state == "dismissed"
    assert running(cheaper)[0] == "de-a/h100"


def test_only_one_plan_is_made_at_a_time(estate):
    advice_run_start(actor=OPERATOR)
    with pytest.raises(Conflict, match="being planned already"):
        advice_run_start(actor=OPERATOR)


def test_a_run_whose_worker_is_gone_ends_and_one_that_waits_is_woken(estate):
    run = advice_run_start(actor=OPERATOR)
    with scope.platform("a test"):
        AdviceRun.objects.filter(id=run.id).update(state="running")
    assert advice_runs_revive() == 1
    with scope.platform("a test"):
        assert AdviceRun.objects.get(id=run.id).state == "failed"
    assert not advice_run_execute(run.id)


def test_a_plan_that_fails_says_so(estate, monkeypatch):
    def fail(*_args):
        raise ValueError("no")

    monkeypatch.setattr("clusters.endpoints.advisor.runs.read_fleet", fail)
    run = advice_run_start(actor=OPERATOR)
    with pytest.raises(ValueError, match="no"):
        advice_run_execute(run.id)
    with scope.platform("a test"):
        assert AdviceRun.objects.get(id=run.id).state_reason == "ValueError: no"


def test_room_is_made_for_one_that_waits(order, settle, estate):
    """An endpoint that may run anywhere in the EU sits on the GPUs that another one needs."""
    Cluster.objects.filter(name="fi-a").update(state="cordoned")
    mobile = settle(order("mobile", residency="zone:EU", replicas=1))
    assert running(mobile)[0] == "de-a/l4"
    Cluster.objects.filter(name="fi-a").update(state="active")
    price_set(kind="gpu_hour", amount=Decimal("0.50"), currency="EUR", gpu_type="l4", region="eu-fi-1")
    waiter = order("waiter", residency="region:eu-de-1", replicas=4, pins={"gpu": "l4"})
    reconcile_endpoint(waiter.id)
    assert fresh(waiter).state == "waiting-for-capacity"
    run = advise()
    first, second = moves(run)
    assert (first.kind, first.step, first.after["pool"]) == ("move", 1, "fi-a/l4")
    assert first.saving == Decimal("-0.05")
    assert "Costs 0.05 EUR more per hour, to make room for 1 endpoint waiting." in first.risks
    assert (second.kind, second.step, second.endpoint.name) == ("place", 2, "waiter")
    accept(run)
    moves_advance()
    assert [move.state for move in moves(run)] == ["applying", "accepted"]
    settle(mobile)
    moves_advance()
    assert moves(run)[1].state == "applying"
    settle(waiter)
    moves_advance()
    assert [move.state for move in moves(run)] == ["applied", "applied"]
    assert running(waiter) == ("de-a/l4", 4)


def test_each_currency_is_planned_by_its_own_prices(cheaper, estate, settle):
    for gpu_type, amount in (("l4", "9"), ("h100_sxm", "5")):
        price_set(kind="gpu_hour", amount=Decimal(amount), currency="USD", gpu_type=gpu_type)
    american = make_tenant("globex", gpus=8, currency="USD")
    with scope.tenant(american.id):
        settle(
            services.endpoint_order(
                project=default_project(american), name="dollar",
                terms=estate.terms(residency="region:eu-de-1"), actor="a test",
            )
        )  # fmt: skip
    run = advise()
    assert {(each["currency"], each["saving"]) for each in run.totals} == {("EUR", "2.54"), ("USD", "0.00")}
    assert [(move.endpoint.name, move.currency) for move in moves(run)] == [("dear", "EUR")]


def test_nothing_is_applied_unasked_by_default(cheaper):
    advise()
    assert advice_keep() == 0
    with scope.platform("a test"):
        assert AdviceRun.objects.count() == 1
    assert running(cheaper)[0] == "de-a/h100"


MONDAY_NOON = dt.datetime(2030, 1, 7, 12, 30, tzinfo=dt.UTC)


def test_a_policy_plans_and_applies_within_its_window_and_limits(cheaper, settle):
    policy(automatic=True, from_hour=12, until_hour=13, days=[0])
    now = timezone.now()
    noon = now.replace(hour=12, minute=30)
    noon -= dt.timedelta(days=noon.weekday())
    advice_keep(noon + dt.timedelta(hours=1))
    advice_keep(noon + dt.timedelta(days=1))
    with scope.platform("a test"):
        assert AdviceRun.objects.count() == 0, "the window was closed"
    advice_keep(noon)
    with scope.platform("a test"):
        run = AdviceRun.objects.get()
        assert run.automatic
    advice_run_execute(run.id)
    with scope.platform("a test"):
        AdviceRun.objects.filter(id=run.id).update(finished_at=noon, created_at=noon)
    advice_keep(noon)
    (move,) = moves(run)
    assert (move.state, move.begun_unasked) == ("applying", True)
    assert move.decided_by.startswith("advisor")
    settle(cheaper)
    advice_keep(noon)
    assert moves(run)[0].state == "applied"


def test_a_policy_leaves_small_savings_and_other_precisions_to_people(cheaper):
    policy(automatic=True, automatic_saving_per_hour=Decimal("2.55"))
    run = advise(automatic=True)
    advice_keep()
    assert moves(run)[0].state == "proposed"
    policy(automatic_saving_per_hour=Decimal("2.54"))
    with scope.platform("a test"):
        move = moves(run)[0]
        AdviceMove.objects.filter(id=move.id).update(after={**move.after, "precision": "int4"})
    advice_keep()
    assert moves(run)[0].state == "proposed"


def test_a_policy_begins_so_many_moves_a_day(order, settle, blocker):
    policy(automatic=True, moves_per_day=1, concurrent_moves=5)
    for name in ("one", "two"):
        settle(order(name, residency="region:eu-de-1"))
    with scope.tenant(blocker.tenant_id):
        services.endpoint_delete(endpoint=blocker, actor="a test")
    settle(blocker)
    run = advise(automatic=True)
    advice_keep()
    advice_keep()
    assert sorted(move.state for move in moves(run)) == ["applying", "proposed"]


def test_switching_the_policy_off_takes_back_what_has_not_begun(cheaper):
    policy(automatic=True)
    run = advise(automatic=True)
    moves_accept(run=run, moves=moves(run), actor="advisor", unasked=True)
    policy(automatic=False)
    assert (moves(run)[0].state, moves(run)[0].begun_unasked) == ("proposed", False)


@pytest.mark.parametrize(
    ("values", "moment", "is_open"),
    [
        ({}, MONDAY_NOON, True),
        ({"days": [1]}, MONDAY_NOON, False),
        ({"from_hour": 13}, MONDAY_NOON, False),
        ({"from_hour": 22, "until_hour": 6, "days": [0]}, MONDAY_NOON.replace(hour=23), True),
        ({"from_hour": 22, "until_hour": 6, "days": [0]}, MONDAY_NOON.replace(day=8, hour=5), True),
        ({"from_hour": 22, "until_hour": 6, "days": [0]}, MONDAY_NOON.replace(hour=5), False),
        ({"from_hour": 22, "until_hour": 6, "days": [0]}, MONDAY_NOON, False),
    ],
)
def test_a_window_is_of_days_and_hours_and_may_pass_midnight(values, moment, is_open):
    assert AdvicePolicy(**values).is_open(moment) is is_open


@pytest.mark.parametrize(
    "values", [{"nonsense": 1}, {"days": [7]}, {"until_hour": 25}, {"concurrent_moves": 0}]
)
def test_a_policy_that_cannot_be_is_refused(values, db):
    with pytest.raises(Invalid):
        policy(**values)


def test_no_tenant_sees_the_advisors_rows(cheaper):
    advise()
    with scope.tenant(cheaper.tenant_id):
        assert AdviceMove.objects.count() == 0
        assert AdviceRun.objects.count() == 0


def test_moves_that_would_have_to_change_places_are_left_out(order, settle, estate):
    """Two endpoints fill the only two pools that either may use: neither can go first."""
    region = Region.objects.get(code="eu-de-1")
    for name in ("x", "y"):
        made = cluster_register(
            name=f"de-{name}", region=region, driver="local", runtimes=["triton-python"], declared=True
        )
        pool_add(cluster=made, name="l4", gpu_type=GpuType.objects.get(name="l4"), nodes=1, gpus_per_node=2)
    one = settle(order("one", replicas=2, pins={"cluster": "de-x"}, residency="region:eu-de-1"))
    two = settle(order("two", replicas=2, pins={"cluster": "de-y"}, residency="region:eu-de-1"))
    with scope.tenant(one.tenant_id):
        Endpoint.objects.filter(id=one.id).update(pins={"cluster": "de-y"})
        Endpoint.objects.filter(id=two.id).update(pins={"cluster": "de-x"})
    assert moves(advise()) == []


@pytest.fixture
def drifting(order, settle):
    """An endpoint ordered with three replicas whose load needs one."""
    endpoint = settle(order("drifting", replicas=3))
    now = timezone.now()
    with scope.tenant(endpoint.tenant_id):
        endpoint = Endpoint.objects.select_related("model", "slo_class", "cluster").get(id=endpoint.id)
        revision = Revision.objects.select_related("pool__cluster").get(endpoint=endpoint)
        load = dataclasses.replace(OrderTerms.of(endpoint).load, requests_per_second=0.5)
        LoadObservation.objects.create(
            endpoint=endpoint, since=now - dt.timedelta(days=1), until=now, hours=24, requests=1000,
            drifting_since=now - dt.timedelta(hours=8),
            drift=[{"name": "requests_per_second", "ordered": 1.0, "measured": 0.5, "fallen": True}],
            replan={
                "status": "placed", "changes": True, "in_place": True,
                "after": {
                    "pool": str(revision.pool), "gpu": revision.gpu_type, "precision": revision.precision,
                    "tp": 1, "pp": 1, "replicas": 1,
                },
            },
            **dataclasses.asdict(load),
        )  # fmt: skip
    return endpoint


def test_a_drifted_load_is_planned_anew_where_that_saves(drifting, settle):
    run = advise()
    (move,) = moves(run)
    assert (move.kind, move.saving, move.rollout_cost) == ("replan", 2 * L4, 0)
    assert (move.before["replicas"], move.after["replicas"]) == (3, 1)
    assert "Its order takes over the load that was measured." in move.risks
    accept(run)
    moves_advance()
    moves_advance()
    assert moves(run)[0].state == "applied"
    settle(drifting)
    assert running(drifting)[1] == 1
    assert held(drifting) == 1
    assert fresh(drifting).requests_per_second == 0.5


def test_orders_are_planned_anew_unasked_only_where_the_policy_says_so(drifting):
    policy(automatic=True, automatic_saving_per_hour=Decimal("0.5"))
    run = advise(automatic=True)
    advice_keep()
    assert moves(run)[0].state == "proposed"
    policy(replan_drift=True)
    advice_keep()
    assert moves(run)[0].state == "applying"


def test_a_drift_that_is_over_is_outdated(drifting):
    run = advise()
    with scope.tenant(drifting.tenant_id):
        services.endpoint_scale(endpoint=drifting, replicas=1, actor="a test")
    accept(run)
    moves_advance()
    assert moves(run)[0].state == "outdated"
