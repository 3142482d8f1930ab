"""A rollout asks its evaluation sets before the new revision gets traffic, and goes by what comes of it."""

from __future__ import annotations

import pytest

from clusters.endpoints.evaluations.working import run_work
from clusters.endpoints.rollouts.deciding import rollout_promote_now
from clusters.endpoints.snapshot import build_snapshot
from clusters.models import Endpoint, EndpointEvent, EvaluationRun, SloClass
from tenants import scope
from tests.clusters.endpoints.rollouts import Rolling, canary
from tests.clusters.evaluations.conftest import made_set

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
