"""A run asks exactly its revisions through a gateway, keeps no text, and goes on wherever it was stopped."""

from __future__ import annotations

import datetime as dt
import json
import logging
from decimal import Decimal

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from clusters.endpoints.evaluations import runs as evaluations
from clusters.endpoints.evaluations import working
from clusters.endpoints.evaluations.asking import Gateway as Asking
from clusters.endpoints.evaluations.runs import run_accept, run_begin
from clusters.endpoints.evaluations.sets import opened, set_change, set_remove, sets_seen
from clusters.endpoints.evaluations.working import run_work
from clusters.endpoints.owners import keys
from clusters.endpoints.tasks import sweep_evaluations
from clusters.models import (
    CatalogModel,
    Endpoint,
    EndpointEvent,
    EvaluationRun,
    EvaluationSet,
    EvaluationVersion,
    Revision,
)
from tenants import scope
from tenants.errors import Conflict, Forbidden, Invalid
from tenants.models import ApiKey
from tests.clusters.evaluations.conftest import ECHO, first_revision, made_set, revised, stored
from tests.factories import audit_entries, make_tenant, make_user

pytestmark = pytest.mark.django_db


def begun(endpoint, version, revision=None, before=None, **values) -> EvaluationRun:
    with scope.tenant(endpoint.tenant_id):
        return run_begin(
            endpoint=endpoint,
            revision=revision or first_revision(endpoint),
            version=version,
            before=before,
            **values,
        )


def worked(run) -> EvaluationRun:
    run_work(run.tenant_id, run.id)
    return stored(run)


def keys_of(run) -> list[ApiKey]:
    with scope.platform("a test"):
        return list(ApiKey.objects.filter(id__in=run.keys).order_by("id"))


def test_a_revision_that_answers_well_passes_and_what_it_took_is_known(serving, model_gateway):
    run = worked(begun(serving, made_set(serving), asked_as="mia"))
    assert (run.state, run.score, run.pass_percent, run.message) == ("passed", 100, 100, "")
    assert [asked.path for asked in model_gateway.asked] == ["/v1/completions", "/v1/chat/completions"]
    assert all(
        (asked.body["model"], asked.body["temperature"]) == ("chat", 0) for asked in model_gateway.asked
    )
    assert (run.input_tokens, run.output_tokens) == (5, 5)
    assert run.cost is not None
    assert run.cost > 0
    assert run.currency == "EUR"
    assert run.began_at <= run.ended_at
    with scope.platform("a test"):
        told = list(
            EndpointEvent.objects.filter(endpoint=serving).order_by("-id").values_list("message", "actor")
        )
        assert Endpoint.objects.get(id=serving.id).due_at is not None, "whoever waits for it looks again"
    assert told[:2] == [
        ("The evaluation of revision 1 by basics v1 passed with 100.00 %.", ""),
        ("Revision 1 is asked the evaluation set basics v1.", "mia"),
    ]


def test_its_key_reaches_one_revision_of_one_endpoint_and_ends_with_the_run(serving, model_gateway):
    seen = []

    def answer(asked):
        return asked.text

    model_gateway.answer = answer
    run = begun(serving, made_set(serving))
    with scope.platform("a test"):
        before = {each.key_id for each in keys(timezone.now())}
    original = working._keep

    def keep(*values):
        with scope.platform("a test"):
            seen[:] = [each for each in keys(timezone.now()) if each.key_id not in before]
        return original(*values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "_keep", keep)
        run = worked(run)
    (bound,) = seen
    assert bound.revision_id == str(run.revision_id)
    assert (bound.name, bound.endpoints, bound.verbs) == (
        "evaluation",
        (str(serving.id),),
        ("chat", "completions"),
    )
    (key,) = keys_of(run)
    assert key.revoked_at is not None
    assert run.sealed is None
    assert (key.ephemeral, key.project_id) == (True, serving.project_id)


def test_what_fails_says_which_check_and_no_text(serving, model_gateway):
    model_gateway.answer = lambda asked: "an answer of five words"
    run = worked(begun(serving, made_set(serving)))
    assert (run.state, run.score) == ("failed", 0)
    assert run.message == "The score is 0.00 %, at least 100.00 % is demanded."
    assert [check for result in run.results for check in result["checks"]] == [
        {"kind": "contains", "weight": 1, "passed": False, "reason": "the text is not in the answer"},
        {
            "kind": "max_tokens", "weight": 1, "passed": False,
            "reason": "the answer has 5 tokens, at most 3 may be",
        },
    ]  # fmt: skip


def test_no_text_of_prompts_and_answers_rests_or_is_logged(serving, model_gateway, caplog):
    caplog.set_level(logging.DEBUG)
    model_gateway.answer = lambda asked: "an-answer-nobody-keeps" if asked.key == 0 else (400, "too_long")
    version = made_set(serving, most_drop=Decimal(0))
    run = worked(begun(serving, version, revised(serving, precision="fp8"), first_revision(serving)))
    assert len(run.results) == 2
    with connection.cursor() as cursor:
        for table in ("evaluationset", "evaluationversion", "evaluationrun", "endpointevent"):
            cursor.execute(f"SELECT to_jsonb(t)::text FROM clusters_{table} t")
            text = "".join(row for (row,) in cursor.fetchall())
            assert "secret-word" not in text
            assert "nobody-keeps" not in text
            assert "count to three" not in text
            assert b"secret-word".hex() not in text
    assert "secret-word" not in json.dumps([entry.after for entry in audit_entries(None)], default=str)
    assert "secret-word" not in caplog.text
    assert "nobody-keeps" not in caplog.text


def test_both_revisions_are_asked_where_the_set_compares(serving, model_gateway):
    old, new = first_revision(serving), revised(serving, precision="fp8")
    version = made_set(serving, pass_percent=None, most_drop=Decimal(10))
    assert version.compares
    model_gateway.answer = lambda asked: "no" if asked.key == 0 else asked.text
    run = worked(begun(serving, version, new, old))
    assert (run.state, run.score, run.score_before) == ("failed", 50, 100)
    assert "the old revision's 100.00 %: more than 10.00 points below" in run.message
    assert [asked.key for asked in model_gateway.asked] == [0, 1, 0, 1]
    assert [key.revision for key in keys_of(run)] == [new.id, old.id]
    assert run.input_tokens == 10


def test_an_old_revision_that_sleeps_is_not_asked(serving, model_gateway):
    old, new = first_revision(serving), revised(serving, precision="fp8")
    with scope.platform("a test"):
        Revision.objects.filter(id=old.id).update(replicas=0)
    version = made_set(serving, pass_percent=None, most_drop=Decimal(10))
    run = worked(begun(serving, version, new, old))
    assert [asked.key for asked in model_gateway.asked] == [0, 0], (
        "its prompts do not wait for one that wakes"
    )
    assert [key.revision for key in keys_of(run)] == [new.id]
    assert (run.score, run.score_before) == (100, None)


def test_the_old_revision_is_asked_only_what_the_new_one_has_answered(serving, model_gateway):
    version = made_set(serving, most_drop=Decimal(10))
    run = begun(serving, version, revised(serving, precision="fp8"), first_revision(serving))
    model_gateway.answer = lambda asked: (503, "endpoint_not_ready")
    for _ in range(3):
        worked(run)
    model_gateway.answer = lambda asked: asked.text
    assert worked(run).state == "passed"
    texts = [prompt["prompt"] if "prompt" in prompt else prompt["messages"][-1]["content"] for prompt in ECHO]
    assert [asked.text for asked in model_gateway.asked if asked.key == 1] == texts, "each once"


def test_only_what_wants_the_old_revision_asks_it(serving, model_gateway):
    plain = begun(serving, made_set(serving), revised(serving), first_revision(serving))
    assert plain.before_id is None
    like = made_set(serving, [{"prompt": "a b c", "checks": [{"similar": 0.9}]}], name="like before")
    run = worked(begun(serving, like, revised(serving, number=3), first_revision(serving)))
    assert (run.state, run.score, run.score_before) == ("passed", 100, None)
    alone = worked(begun(serving, like))
    assert (alone.state, alone.message) == ("failed", "No check could be judged.")


def test_a_run_that_compares_with_nothing_demands_a_share_or_fails(serving, model_gateway):
    both = worked(begun(serving, made_set(serving, most_drop=Decimal(5))))
    assert (both.state, both.score, both.most_drop) == ("passed", 100, None)
    drop = worked(begun(serving, made_set(serving, name="no worse", pass_percent=None, most_drop=Decimal(5))))
    assert (drop.state, drop.score) == ("failed", 100)
    assert "could not be compared with the old revision" in drop.message


class Killed(BaseException):
    """Stands for the end of a worker."""


@pytest.mark.parametrize("at", ["before asking", "after asking", "at the end"])
def test_a_worker_that_is_killed_is_gone_on_from(serving, model_gateway, monkeypatch, at):
    prompts = [{"prompt": f"prompt {number}", "checks": [{"contains": "prompt"}]} for number in range(4)]
    run = begun(serving, made_set(serving, prompts))
    count = 0

    def dying(original, when):
        def step(*values, **more):
            nonlocal count
            count += 1
            if count == when:
                raise Killed
            return original(*values, **more)

        return step

    name, when = {"before asking": ("_ask", 3), "after asking": ("_keep", 3), "at the end": ("_conclude", 1)}[
        at
    ]
    with monkeypatch.context() as patch:
        patch.setattr(working, name, dying(getattr(working, name), when))
        with pytest.raises(Killed):
            run_work(run.tenant_id, run.id)
    assert stored(run).state == "running"
    assert stored(run).due_at > timezone.now(), "the sweep takes it up when the lease is over"
    run = worked(run)
    assert (run.state, len(run.results), run.score) == ("passed", 4, 100)
    asked = [each.text for each in model_gateway.asked]
    assert len(asked) == (5 if at == "after asking" else 4), "what was written down is not asked again"
    assert len(model_gateway.keys) == 1, "its key goes on"


def test_a_long_run_lets_others_have_the_worker(serving, model_gateway):
    prompts = [{"prompt": f"prompt {number}", "checks": [{"contains": "prompt"}]} for number in range(3)]
    run = begun(serving, made_set(serving, prompts))
    times = iter([0.0, 25.0, 25.0])
    assert run_work(run.tenant_id, run.id, clock=lambda: next(times)) == 0
    assert len(stored(run).results) == 1
    assert worked(run).state == "passed"
    assert run_work(run.tenant_id, run.id) is None
    assert len(model_gateway.asked) == 3


@pytest.mark.parametrize(
    "answer", [(401, "invalid_api_key"), (503, "endpoint_not_ready"), (429, "budget_exceeded")]
)
def test_what_does_not_answer_now_is_asked_later_and_given_up_in_the_end(serving, model_gateway, answer):
    model_gateway.answer = lambda asked: answer
    run = worked(begun(serving, made_set(serving)))
    assert (run.state, run.results) == ("running", [])
    assert run.message == f"The gateway answers {answer[0]} {answer[1]}."
    assert run.due_at > timezone.now()
    with scope.platform("a test"):
        EvaluationRun.objects.filter(id=run.id).update(failing_since=timezone.now() - working.PATIENCE)
    run = worked(run)
    assert run.state == "error"
    assert run.message == f"It was tried for 10 minutes. The gateway answers {answer[0]} {answer[1]}."
    assert all(key.revoked_at for key in keys_of(run))


def test_an_answer_ends_the_wait(serving, model_gateway):
    model_gateway.answer = lambda asked: (503, "endpoint_not_ready")
    run = worked(begun(serving, made_set(serving)))
    model_gateway.answer = lambda asked: asked.text
    run = worked(run)
    assert (run.state, run.failing_since, run.message) == ("passed", None, "")


def test_gateways_that_are_away_are_passed_over(serving, model_gateway):
    (prompt,) = opened(made_set(serving, [ECHO[0]]))
    way = {"model": "chat", "key": "k", "timeout_s": 5}
    assert (
        Asking(["http://127.0.0.1:9/v1", f"{model_gateway.url}/v1"], **way).ask(prompt).text == prompt.prompt
    )
    for urls in (["http://127.0.0.1:9/v1"], []):
        with pytest.raises(working.NotNow):
            Asking(urls, **way).ask(prompt)


def test_a_prompt_that_is_refused_is_not_passed(serving, model_gateway):
    model_gateway.answer = lambda asked: (400, "context_length_exceeded")
    run = worked(begun(serving, made_set(serving)))
    assert run.state == "failed"
    assert {check["reason"] for result in run.results for check in result["checks"]} == {
        "refused: 400 context_length_exceeded"
    }


def test_a_revision_that_is_gone_ends_its_run(serving, model_gateway):
    run = begun(serving, made_set(serving))
    with scope.platform("a test"):
        Revision.objects.filter(id=run.revision_id).update(retired_at=timezone.now())
    run = worked(run)
    assert (run.state, run.message) == ("error", "The revision is not run any more.")
    assert model_gateway.asked == []
    with pytest.raises(Conflict, match="is not run any more"):
        begun(serving, run.version)


def test_one_run_at_a_time_for_a_revision_and_a_version(serving):
    version = made_set(serving)
    assert begun(serving, version).id == begun(serving, version).id
    with scope.platform("a test"):
        assert EvaluationRun.objects.count() == 1


def test_keys_are_replaced_before_they_end(serving, model_gateway):
    run = begun(serving, made_set(serving))
    model_gateway.answer = lambda asked: (503, "endpoint_not_ready")
    run_work(run.tenant_id, run.id)
    with scope.platform("a test"):
        EvaluationRun.objects.filter(id=run.id).update(failing_since=None)
    with pytest.MonkeyPatch.context() as patch:
        later = timezone.now() + dt.timedelta(minutes=95)
        patch.setattr(working.timezone, "now", lambda: later)
        run_work(run.tenant_id, run.id)
    first, second = keys_of(stored(run))
    assert (first.revoked_at is not None, second.revoked_at) == (True, None)
    assert len(model_gateway.keys) == 2


def test_the_sweep_takes_up_what_is_due_once(serving, monkeypatch):
    sent = []
    monkeypatch.setattr(evaluations, "enqueue", lambda *ids: sent.append(ids))
    run = begun(serving, made_set(serving))
    assert sweep_evaluations() == 1
    assert sweep_evaluations() == 0
    assert sent == [(str(run.tenant_id), str(run.id))]


def test_changes_make_versions_and_runs_keep_theirs(serving, model_gateway):
    version = made_set(serving)
    run = begun(serving, version)
    with scope.tenant(serving.tenant_id):
        found = set_change(evaluation_set=version.set, actor="mia", pass_percent=Decimal(50))
        assert found.version == 2
        assert set_change(evaluation_set=found, actor="mia", name="other").version == 2
        with pytest.raises(Invalid, match="which share"):
            set_change(evaluation_set=found, actor="mia", pass_percent=None)
    model_gateway.answer = lambda asked: "a-secret-word and many more words"
    assert worked(run).state == "failed"
    with scope.platform("a test"), pytest.raises(DatabaseError), transaction.atomic():
        EvaluationVersion.objects.filter(id=version.id).update(pass_percent=1)


def test_a_set_that_is_removed_is_asked_no_more_and_its_name_is_free(serving):
    version = made_set(serving)
    with pytest.raises(Invalid, match="of this name already"):
        made_set(serving, name="BASICS")
    with scope.tenant(serving.tenant_id):
        set_remove(evaluation_set=version.set)
        assert list(sets_seen()) == []
    made_set(serving)


def test_a_tenant_sees_its_own_sets_and_the_platforms_and_writes_its_own(serving):
    model = CatalogModel.objects.get(id=serving.model_id)
    made_set(serving)
    made_set(name="of the platform", model=model)
    other = make_tenant("other")
    with scope.tenant(serving.tenant_id):
        assert {each.name for each in sets_seen()} == {"basics", "of the platform"}
        with pytest.raises(Exception, match="row-level security"), transaction.atomic():
            EvaluationSet.objects.create(name="mine for all", model=model)
    with scope.tenant(other.id):
        assert {each.name for each in sets_seen()} == {"of the platform"}
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM clusters_evaluationset")
            assert cursor.fetchone() == (1,)
            for change in (
                "UPDATE clusters_evaluationset SET name = 'x'",
                "DELETE FROM clusters_evaluationset",
            ):
                cursor.execute(change)
                assert cursor.rowcount == 0, "what is the platform's is not a tenant's to write"
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM clusters_evaluationset")
        assert cursor.fetchone() == (0,), "outside a scope nothing is seen"


def test_the_database_keeps_sets_for_one_thing(serving):
    with pytest.raises(IntegrityError), transaction.atomic(), scope.tenant(serving.tenant_id):
        EvaluationSet.objects.create(name="nothing", tenant_id=serving.tenant_id)


def test_who_accepts_is_kept_with_the_reason(serving, model_gateway):
    mia = make_user("mia@nord.example")
    model_gateway.answer = lambda asked: "no"
    run = begun(serving, made_set(serving))
    accept = {"note": "known", "actor": "mia", "user": mia}
    with scope.tenant(serving.tenant_id), pytest.raises(Conflict, match="is pending"):
        run_accept(run=run, **accept)
    run = worked(run)
    with scope.tenant(serving.tenant_id):
        with pytest.raises(Forbidden):
            run_accept(run=run, **{**accept, "user": None})
        with pytest.raises(Invalid):
            run_accept(run=run, **{**accept, "note": " "})
        run_accept(run=run, **accept)
        with pytest.raises(Conflict, match="accepted already"):
            run_accept(run=run, **accept)
    run = stored(run)
    assert (run.state, run.decided_as, run.note, run.decided_by_id) == ("waived", "mia", "known", mia.id)
    actions = [
        entry.action for entry in audit_entries(serving.tenant) if entry.action.startswith("evaluation.")
    ]
    assert actions[-1] == "evaluation.waive"
    model_gateway.answer = lambda asked: asked.text
    with scope.platform("a test"):
        EvaluationSet.objects.all().update(removed_at=timezone.now())
    passed = worked(begun(serving, made_set(serving)))
    with scope.tenant(serving.tenant_id):
        assert run_accept(run=passed, **accept).state == "passed"
