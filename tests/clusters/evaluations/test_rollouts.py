"""A rollout asks its evaluation sets before the new revision gets traffic, and goes by what comes of it."""

from __future__ import annotations

import pytest
from django.utils import timezone

from clusters.endpoints import services
from clusters.endpoints.evaluations.working import run_work
from clusters.endpoints.lost import cluster_lost
from clusters.endpoints.rollouts.deciding import rollout_retry
from clusters.models import Cluster, Endpoint, EndpointEvent, EvaluationRun, Revision, SloClass
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
