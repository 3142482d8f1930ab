"""Which changes want an evaluation, and what a rollout is told of it."""

from __future__ import annotations

import pytest
from django.utils import timezone

from clusters.endpoints.evaluations.gate import Evaluated, evaluation_verdict
from clusters.endpoints.evaluations.runs import run_accept
from clusters.endpoints.evaluations.sets import set_change
from clusters.endpoints.evaluations.working import run_work
from clusters.models import CatalogModel, Endpoint, EvaluationRun, Revision, Rollout, SloClass
from tenants import scope
from tests.clusters.evaluations.conftest import ECHO, first_revision, made_set, revised, stored
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def verdict(endpoint, revision):
    with scope.tenant(endpoint.tenant_id):
        found = Endpoint.objects.select_related("tenant", "project", "model", "slo_class").get(id=endpoint.id)
        return evaluation_verdict(Rollout(endpoint=found, revision=revision, before=first_revision(endpoint)))


def work_all() -> None:
    with scope.platform("a test"):
        found = list(EvaluationRun.objects.active())
    for run in found:
        run_work(run.tenant_id, run.id)


def runs_of(endpoint) -> list[EvaluationRun]:
    with scope.tenant(endpoint.tenant_id):
        return list(EvaluationRun.objects.filter(endpoint=endpoint).order_by("id"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"replicas": 3},
        {"gpu_type": "h100", "tensor_parallel": 2, "max_batch_size": 8},
        {"context_tokens": 1},
    ],
)
def test_what_answers_as_before_wants_no_evaluation(serving, changes):
    made_set(serving)
    found = verdict(serving, revised(serving, **changes))
    assert (found.state, found.reason, found.runs) == (Evaluated.NOT_NEEDED, "", ())
    assert runs_of(serving) == []


def test_an_earlier_revision_that_runs_again_wants_none(serving):
    made_set(serving)
    revision = revised(serving, precision="fp8", restored_from=1)
    assert verdict(serving, revision).state is Evaluated.NOT_NEEDED
    assert verdict(serving, None).state is Evaluated.NOT_NEEDED


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"precision": "fp8"}, "weight precision"),
        ({"kv_cache_dtype": "fp8"}, "KV precision auto -> fp8"),
        ({"context_tokens": 1_000_000}, "context cap"),
        ({"model": "another-model"}, "model berth-docs-ngram -> another-model"),
        ({"spec": {"written": "by another version"}}, "model berth-docs-ngram -> unknown"),
    ],
)
def test_what_may_answer_otherwise_wants_one_and_without_a_set_the_class_decides(serving, changes, told):
    broken = changes.pop("spec", None)
    revision = revised(serving, **changes)
    if broken:
        revision.spec = broken
    found = verdict(serving, revision)
    assert found.state is Evaluated.NOT_NEEDED
    assert told in found.reason
    assert found.reason.startswith("No evaluation set for")
    SloClass.objects.filter(id=serving.slo_class_id).update(needs_evaluation=True)
    found = verdict(serving, revision)
    assert found.state is Evaluated.FAILED
    assert "make a set for the endpoint" in found.reason


def test_a_change_waits_for_its_evaluation_and_passes_with_it(serving, model_gateway):
    made_set(serving)
    made_set(name="of the platform", model=CatalogModel.objects.get(id=serving.model_id))
    revision = revised(serving, precision="fp8")
    found = verdict(serving, revision)
    assert (found.state, found.reason) == (Evaluated.PENDING, "0 of 4 prompts were asked.")
    assert verdict(serving, revision).runs == found.runs, "asked again, it begins nothing anew"
    assert [run.asked_as for run in runs_of(serving)] == ["", ""]
    work_all()
    found = verdict(serving, revision)
    assert (found.state, found.reason) == (Evaluated.PASSED, "basics: 100.00 %; of the platform: 100.00 %")
    assert len(model_gateway.keys) == 2


def test_a_wait_says_what_hinders_it(serving, model_gateway):
    made_set(serving)
    revision = revised(serving, precision="fp8")
    verdict(serving, revision)
    model_gateway.answer = lambda asked: (503, "endpoint_not_ready")
    work_all()
    assert verdict(serving, revision).reason == (
        "0 of 2 prompts were asked. The gateway answers 503 endpoint_not_ready."
    )


def test_a_failed_evaluation_fails_the_change_until_somebody_waives_it(serving, model_gateway):
    version = made_set(serving)
    revision = revised(serving, precision="fp8")
    verdict(serving, revision)
    model_gateway.answer = lambda asked: "no"
    work_all()
    found = verdict(serving, revision)
    assert found.state is Evaluated.FAILED
    assert found.reason == (
        "The evaluation was not passed. basics: The score is 50.00 %, at least 100.00 % is demanded."
    )
    (run,) = runs_of(serving)
    with scope.tenant(serving.tenant_id):
        run_accept(run=run, note="as we know it", actor="mia", user=make_user("mia@acme.example"))
    assert verdict(serving, revision).reason == "basics: waived by mia"
    again = revised(serving, number=3, precision="fp8")
    found = verdict(serving, again)
    assert (found.state, found.reason) == (Evaluated.PASSED, "basics: waived by mia on revision 2")
    assert verdict(serving, revised(serving, number=4, precision="int8")).state is Evaluated.PENDING
    with scope.tenant(serving.tenant_id):
        set_change(evaluation_set=version.set, actor="mia", most_drop=1)
    assert verdict(serving, revised(serving, number=5, precision="fp8")).state is Evaluated.PENDING


def test_a_set_that_is_changed_meanwhile_does_not_begin_a_run_anew(serving, model_gateway):
    version = made_set(serving)
    revision = revised(serving, precision="fp8")
    verdict(serving, revision)
    with scope.tenant(serving.tenant_id):
        set_change(evaluation_set=version.set, actor="mia", pass_percent=50)
    work_all()
    assert verdict(serving, revision).state is Evaluated.PASSED
    assert [stored(run).version.number for run in runs_of(serving)] == [1]


def test_what_could_not_be_asked_fails_the_change(serving, model_gateway):
    made_set(serving)
    revision = revised(serving, precision="fp8")
    verdict(serving, revision)
    with scope.platform("a test"):
        Revision.objects.filter(id=revision.id).update(retired_at=timezone.now())
    work_all()
    found = verdict(serving, revision)
    assert found.state is Evaluated.FAILED
    assert "The revision is not run any more." in found.reason


def test_sets_of_the_base_model_hold_for_its_variants(serving):
    base = CatalogModel.objects.get(id=serving.model_id)
    variant = CatalogModel.objects.get(id=base.id)
    variant.pk, variant.name, variant.derived_from = None, "variant", base
    variant.save(force_insert=True)
    made_set(name="of the base", model=base)
    made_set(name="of the variant", model=variant)
    found = verdict(serving, revised(serving, model="variant"))
    assert len(found.runs) == 2
    assert verdict(serving, revised(serving, number=3, precision="fp8")).state is Evaluated.PENDING
    with scope.platform("a test"):
        names = [run.version.set.name for run in EvaluationRun.objects.filter(revision__number=3)]
    assert names == ["of the base"]


def test_only_what_both_answer_is_compared(serving, model_gateway):
    made_set(serving, ECHO, pass_percent=None, most_drop=0)
    model_gateway.answer = lambda asked: "no"
    revision = revised(serving, precision="fp8")
    verdict(serving, revision)
    work_all()
    assert verdict(serving, revision).state is Evaluated.PASSED, "it is no worse than what runs"
