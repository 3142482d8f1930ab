"""A rollout asks its evaluation sets before the new revision gets traffic, and goes by what comes of it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.prices import price_set
from clusters.endpoints import services
from clusters.endpoints.evaluations.runs import run_accept, runs_begin
from clusters.endpoints.evaluations.working import run_work
from clusters.endpoints.lost import cluster_lost
from clusters.endpoints.rollouts.changing import change_plan
from clusters.endpoints.rollouts.deciding import rollout_promote_now, rollout_retry
from clusters.endpoints.snapshot import build_snapshot
from clusters.models import (
    CatalogModel,
    Cluster,
    Endpoint,
    EndpointEvent,
    EvaluationRun,
    NodePool,
    Revision,
    SloClass,
)
from tenants import scope
from tenants.errors import Conflict
from tests.clusters.endpoints.rollouts import Rolling, canary
from tests.clusters.evaluations.conftest import first_revision, made_set, stored
from tests.factories import make_user

pytestmark = pytest.mark.django_db

LONGER = {"context_tokens": 900}


@pytest.fixture
def it(order, settle, estate, cluster):
    """An endpoint that serves with a small context cap, in a class with a canary."""
    canary()
    return Rolling(estate=estate, cluster=cluster, endpoint=settle(order(context_tokens=400)))


def work(it) -> None:
    with scope.platform("a test"):
        found = list(EvaluationRun.objects.active())
    for run in found:
        run_work(run.tenant_id, run.id)


def told(it) -> str:
    with scope.tenant(it.endpoint.tenant_id):
        return " ".join(EndpointEvent.objects.filter(endpoint=it.endpoint).values_list("message", flat=True))


def test_a_revision_that_passes_goes_into_its_canary(it, model_gateway):
    made_set(it.endpoint)
    it.change(**LONGER)
    waiting = it.look()
    assert (waiting.phase, waiting.reason) == ("evaluating", "0 of 2 prompts were asked.")
    assert it.weights() == {1: 100, 2: 0}, "gateways know it, and give it nothing by themselves"
    assert it.shown.state == "updating"
    work(it)
    found = it.look(5)
    assert (found.phase, found.weight) == ("canary", 5)
    assert "basics: 100.00 %" in told(it)


def test_a_revision_that_fails_its_evaluation_is_refused(it, model_gateway):
    made_set(it.endpoint)
    model_gateway.answer = lambda asked: "no"
    it.change(**LONGER)
    it.look()
    work(it)
    found = it.look(5)
    assert (found.phase, found.weight) == ("failed", 0)
    assert "The score is 50.00 %, at least 100.00 % is demanded." in found.reason
    assert it.weights() == {1: 100}
    assert it.shown.state == "update-failed"
    assert it.shown.context_tokens == 400
    assert model_gateway.asked


def test_gateways_hold_its_own_keys_to_what_the_new_revision_takes(it, model_gateway):
    made_set(it.endpoint)
    it.change(context_tokens=900, output_limit=500)
    it.look()
    (told,) = build_snapshot(it.estate.gateway).endpoints
    assert (told.context_tokens, told.max_output_tokens) == (400, 399), "for its clients nothing has changed"
    old, new = sorted(told.routes, key=lambda route: route.weight, reverse=True)
    assert old.terms is None
    assert (new.terms.context_tokens, new.terms.max_output_tokens) == (900, 500)
    assert new.terms.chat_template == told.chat_template
    work(it)
    it.look(5)
    with scope.tenant(it.endpoint.tenant_id):
        rows = Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
        rollout_promote_now(endpoint=rows.get(id=it.endpoint.id), rollout_id=it.rollout.id, actor="ann")
    it.look(5)
    (told,) = build_snapshot(it.estate.gateway).endpoints
    assert told.context_tokens == 900
    assert [route.terms for route in told.routes] == [None] * len(told.routes)


def test_what_sleeps_is_woken_while_its_change_is_evaluated(order, settle, estate, cluster, model_gateway):
    canary()
    endpoint = settle(order(slo_class="batch", replicas=1, context_tokens=400))
    it = Rolling(estate=estate, cluster=cluster, endpoint=endpoint)
    world = it.sleep()
    made_set(endpoint)
    it.change(**LONGER)
    assert it.look().phase == "evaluating"
    assert world.shown(endpoint).state == "scaled-to-zero", "what is evaluated answers nobody who would ask"
    world.tell(endpoint, in_flight=1)
    assert world.look(endpoint) == 1
    assert it.look(5).phase == "evaluating"
    assert it.weights() == {1: 100, 2: 0}
    assert world.shown(endpoint).state == "ready"
    work(it)
    assert it.look(5).phase == "canary", "there is something to compare with again"


def test_without_a_set_it_goes_on_and_says_so_unless_the_class_wants_one(it):
    it.change(**LONGER)
    assert it.look().phase == "canary"
    assert "No evaluation set for" in told(it)
    SloClass.objects.update(needs_evaluation=True)
    it.change(context_tokens=1000)
    found = it.look(5)
    assert found.phase == "failed"
    assert "make a set for the endpoint" in found.reason


def test_a_change_that_is_taken_back_ends_its_run(it, model_gateway):
    made_set(it.endpoint)
    it.change(**LONGER)
    it.look()
    it.change(context_tokens=400)
    it.look(5)
    work(it)
    with scope.platform("a test"):
        (run,) = EvaluationRun.objects.all()
    assert (run.state, run.message) == ("error", "The revision is not run any more.")
    assert model_gateway.asked == []


def in_place(it) -> None:
    """Leave no room beside what runs: a change replaces it, at any hour."""
    SloClass.objects.update(
        rollout_ways=["replace"], rollout_days=[], rollout_from_hour=0, rollout_until_hour=24
    )
    held = first_revision(it.endpoint)
    for pool in NodePool.objects.all():
        own = held.replicas * held.gpus_per_replica if pool.id == held.pool_id else 0
        NodePool.objects.filter(id=pool.id).update(reserve=pool.total_gpus - own)


def test_the_outage_of_a_change_in_place_is_expected_to_last_until_it_is_evaluated(it, model_gateway):
    in_place(it)

    def outage(**changes):
        with scope.tenant(it.endpoint.tenant_id):
            return change_plan(endpoint=it.shown, changes=changes).outage

    start = outage(**LONGER)
    assert "evaluation" not in start.source
    made_set(it.endpoint)
    guessed = outage(**LONGER)
    assert guessed.seconds == pytest.approx(start.seconds + 10)
    assert guessed.source == f"{start.source}; 10 s for its evaluation, at 5 s a prompt"
    with scope.tenant(it.endpoint.tenant_id):
        (run,) = runs_begin(endpoint=it.shown, asked_as="dev")
        work(it)
        EvaluationRun.objects.update(began_at=stored(run).ended_at - dt.timedelta(seconds=90))
    assert outage(pins={"max_batch_size": 4}) == start, "it answers as before"
    it.change(**LONGER)
    rollout = it.look(passes=1)
    assert rollout.outage_s == pytest.approx(start.seconds + 90)
    assert rollout.outage_from.endswith("; 90 s for its evaluation, as the last time")


def test_in_place_nothing_is_left_to_compare_with_and_somebody_has_to_say_so(it, model_gateway):
    in_place(it)
    made_set(it.endpoint, pass_percent=None, most_drop=10)
    it.change(**LONGER)
    assert (it.look().phase, it.rollout.way) == ("evaluating", "replace")
    work(it)
    found = it.look(5)
    assert found.phase == "failed"
    assert "could not be compared with the old revision" in found.reason
    assert it.shown.state == "update-failed"
    with scope.tenant(it.endpoint.tenant_id):
        run = EvaluationRun.objects.get()
        run_accept(run=run, note="read by us", actor="mia", user=make_user("mia@acme.example"))
    it.change(**LONGER)
    assert it.look(5).phase == "promoted"


def test_nobody_but_its_rollout_asks_a_revision_that_waits_for_its_traffic(it, model_gateway):
    made_set(it.endpoint, most_drop=10)

    def run_now(**narrow):
        with scope.tenant(it.endpoint.tenant_id):
            return runs_begin(endpoint=it.shown, asked_as="dev", **narrow)

    it.change(**LONGER)
    assert it.look(passes=1).phase == "starting"
    for narrow in ({}, {"revision": 2}, {"revision": 2, "against": 1}):
        with pytest.raises(Conflict, match="gets no traffic yet"):
            run_now(**narrow)
    assert it.look().phase == "evaluating"
    with scope.tenant(it.endpoint.tenant_id):
        run = EvaluationRun.objects.select_related("before").get()
    assert (run.asked_as, run.before.number) == ("", 1)
    with pytest.raises(Conflict, match="gets no traffic yet"):
        run_now()
    assert [each.revision.number for each in run_now(revision=1)] == [1]
    work(it)
    assert it.look(5).phase == "canary"
    assert [each.revision.number for each in run_now()] == [2]


def test_its_evaluation_costs_what_gateways_meter_it_by(it, model_gateway):
    made_set(it.endpoint)
    base = CatalogModel.objects.get(id=it.endpoint.model_id)
    variant = CatalogModel.objects.get(id=base.id)
    variant.pk, variant.name, variant.derived_from = None, "variant", base
    variant.save(force_insert=True)
    for kind in ("input_tokens", "output_tokens", "cached_tokens"):
        price_set(kind=kind, amount=Decimal(1000), currency="EUR", model=variant.name)
    with scope.tenant(it.endpoint.tenant_id):
        (plain,) = runs_begin(endpoint=it.shown, asked_as="dev")
        work(it)
    it.change(model=variant)
    assert it.look().phase == "evaluating"
    work(it)
    with scope.tenant(it.endpoint.tenant_id):
        run = EvaluationRun.objects.get(revision__number=2)
    assert (run.state, run.input_tokens, run.output_tokens) == ("passed", 5, 5)
    assert run.cost == stored(plain).cost
    assert run.cost < Decimal("0.001")


def test_a_pause_takes_a_change_back_that_was_not_evaluated_yet(it, model_gateway):
    made_set(it.endpoint)
    SloClass.objects.update(needs_evaluation=True)
    it.change(**LONGER)
    assert it.look().phase == "evaluating"
    with scope.tenant(it.endpoint.tenant_id):
        services.endpoint_pause(endpoint=it.shown, actor="ann")
    found = it.look()
    assert (found.phase, found.wish["context_tokens"]) == ("cancelled", 900)
    assert (it.shown.state, it.shown.context_tokens) == ("paused", 400)
    with scope.tenant(it.endpoint.tenant_id):
        services.endpoint_resume(endpoint=it.shown, actor="ann")
    it.look()
    assert (it.shown.state, it.weights()) == ("ready", {3: 100})
    with scope.tenant(it.endpoint.tenant_id):
        assert Revision.objects.get(number=3).context_tokens == 400
        rows = Endpoint.objects.select_related("tenant", "slo_class", "model", "project", "cluster")
        rollout_retry(endpoint=rows.get(id=it.endpoint.id), rollout_id=found.id, actor="ann")
    assert it.look().phase == "evaluating"


def test_a_change_that_was_not_evaluated_is_not_placed_when_all_that_ran_is_lost(it, model_gateway):
    made_set(it.endpoint)
    it.change(**LONGER)
    it.look()
    (gone,) = {it.rollout.before.cluster, it.rollout.revision.cluster}
    Cluster.objects.filter(id=gone.id).update(state=Cluster.State.UNREACHABLE, last_seen_at=timezone.now())
    cluster_lost(cluster=gone, actor="olga")
    assert it.look(12).phase == "cancelled"
    assert (it.shown.state, it.shown.context_tokens, it.weights()) == ("ready", 400, {3: 100})
