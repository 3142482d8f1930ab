"""Qualifying a pool through the REST API and the command line: written once, used by plans, taken back."""

from __future__ import annotations

import copy
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from clusters.models import Cluster, Endpoint, NodePool, PoolMeasurement, Revision, ScalingDecision
from gateway.replay.arrivals import Run
from gateway.replay.client import Measured, Target
from gateway.replay.report import Goals, make_report
from tenants import scope
from tenants.models import new_id
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order
from tests.estate import MODEL

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

POOL = f"{API}/clusters/de-a/pools/l4"
BY_HAND = {
    "model": MODEL, "runtime": "triton-python", "precision": "fp32", "max_batch_size": 8, "max_num_tokens": 2048,
}  # fmt: skip


def report(
    *speeds: float, gap_s: float = 0.02, name: str = "mine", requests: int = 120, **changes: Any
) -> dict:
    """Give a report as the command keeps it, as JSON gives it back."""
    runs = []
    for speed in speeds or (1.0,):
        measured = [
            Measured(
                at_s=number / 2 / speed, ttft_s=0.1, total_s=0.1 + 49 * gap_s, gaps_s=[gap_s] * 49,
                input_tokens=100, output_tokens=50,
            )
            for number in range(requests)
        ]  # fmt: skip
        target = Target(name=name, url="http://engine.example/v1", model="m", gpus=changes.get("gpus"))
        runs.append((speed, Run(target, measured, 60.0 / speed, 1_770_000_000.0, 9, [], "")))
    made = make_report(runs, goals=Goals(), about={"trace": {"digest": "0" * 64}})
    for each in made["targets"]:
        each.update(changes)
    return json.loads(json.dumps(made))


def planned(owner) -> dict:
    """Give what the planner expects of an order that fits the pool."""
    answer = owner.post(
        f"{API}/endpoints:plan",
        {
            "name": "docs", "project": "default", "model": MODEL, "slo_class": "standard", "residency": "zone:EU",
            "requests_per_second": 2, "input_tokens": 100, "output_tokens": 50, "pins": {"gpu": "l4"},
        },
    )  # fmt: skip
    assert answer.status_code == 200, answer.content
    return answer.json()["configuration"]


def precision_of(owner) -> str:
    return planned(owner)["precision"]


def by_hand(owner, sent: dict, **changes: Any) -> dict:
    return {"report": sent, **BY_HAND, "precision": precision_of(owner), **changes}


def test_a_report_qualifies_a_pool_and_plans_say_measured_here_until_it_is_taken_back(owner, operator):
    before = planned(owner)
    assert before["performance_source"] != "measured here"
    made = operator.post(f"{POOL}:qualify", by_hand(owner, report(gap_s=3 * before["itl_ms"] / 1000)))
    assert made.status_code == 201, made.content
    (row,) = made.json()
    assert (row["cluster"], row["pool"], row["gpu_type"], row["model"]) == ("de-a", "l4", "l4", MODEL)
    assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (120, 100, 50)
    assert row["itl_p95_ms"] == pytest.approx(3 * before["itl_ms"], rel=1e-3)
    assert row["measured_by"].endswith("olga@example.org")
    errors = [abs(row[kind]["itl_ms"] - row["itl_mean_ms"]) for kind in ("expected_without", "expected_with")]
    assert errors[1] < errors[0]
    assert "ms between tokens" in row["reasons"][0]

    after = planned(owner)
    assert after["performance_source"] == "measured here"
    assert 1.2 * before["itl_ms"] < after["itl_ms"] < 3 * before["itl_ms"]

    listed = operator.get(f"{POOL}/measurements").json()["results"]
    assert [each["id"] for each in listed] == [row["id"]]
    assert operator.get(f"{POOL}/measurements/{row['id']}").json()["digest"] == row["digest"]
    assert operator.delete(f"{POOL}/measurements/{row['id']}").status_code == 204
    assert planned(owner) == before
    assert_problem(operator.get(f"{POOL}/measurements/{row['id']}"), 404, "not-found")


def test_the_same_report_again_changes_nothing_with_its_answers_or_without(owner, operator):
    sent = by_hand(owner, report(1.0, 2.0))
    first = operator.post(f"{POOL}:qualify", sent)
    assert [row["speed"] for row in first.json()] == [1.0, 2.0]
    bare = copy.deepcopy(sent)
    for target in bare["report"]["targets"]:
        del target["answers"]
    again = operator.post(f"{POOL}:qualify", bare)
    assert (again.status_code, again.json()) == (200, first.json())
    with scope.platform("a test"):
        assert PoolMeasurement.objects.count() == 2


BEGAN = dt.datetime.fromtimestamp(1_770_000_000, dt.UTC)


def since(revision: Revision, **ago: float) -> Revision:
    """Let a revision have run since so long before the reports."""
    with scope.platform("a test"):
        Revision.objects.filter(id=revision.id).update(applied_at=BEGAN - dt.timedelta(**ago))
    return revision


def ran(made: dict) -> Revision:
    with scope.platform("a test"):
        revision = Revision.objects.select_related("pool__cluster").get(endpoint_id=made["id"])
    return since(revision, hours=1)


def beside(revision: Revision, **values: Any) -> Revision:
    """Give the endpoint a revision after ``revision``, in its pool."""
    with scope.platform("a test"):
        after = Revision.objects.get(id=revision.id)
        after.id, after._state.adding = new_id(), True
        after.number, after.deployment = revision.number + 1, "another"
        for name, value in values.items():
            setattr(after, name, value)
        after.save()
    return after


def qualify_path(pool: NodePool) -> str:
    return f"{API}/clusters/{pool.cluster.name}/pools/{pool.name}:qualify"


def test_an_endpoint_says_what_served(owner, operator):
    made = order(owner, pins={"gpu": "l4"})
    revision = ran(made)
    pool = revision.pool
    gpus = revision.replicas * revision.tensor_parallel * revision.pipeline_parallel
    path = qualify_path(pool)
    body = {"report": report(gpus=gpus), "endpoint": made["id"]}
    (row,) = operator.post(path, body).json()
    assert (row["model"], row["precision"], row["max_batch_size"]) == (
        made["model"], revision.precision, revision.max_batch_size,
    )  # fmt: skip
    elsewhere = operator.post(f"{API}/clusters/us-a/pools/l4:qualify", body)
    assert "does not run on us-a/l4" in assert_problem(elsewhere, 422, "invalid")["detail"]
    both = operator.post(path, body | {"tensor_parallel": 2})
    assert list(assert_problem(both, 422, "invalid")["errors"]) == ["tensor_parallel"]


def test_where_two_revisions_serve_the_one_that_was_measured_is_named(owner, operator):
    made = order(owner, pins={"gpu": "l4"})
    first = ran(made)
    since(beside(first, max_batch_size=first.max_batch_size + 1), minutes=30)
    path, body = qualify_path(first.pool), {"report": report(), "endpoint": made["id"]}
    problem = assert_problem(operator.post(path, body), 422, "invalid")
    assert "revisions 1 and 2 serve" in problem["errors"]["revision"][0]
    (row,) = operator.post(path, body | {"revision": 1}).json()
    assert row["max_batch_size"] == first.max_batch_size
    assert (
        "no revision 7"
        in assert_problem(operator.post(path, body | {"revision": 7}), 422, "invalid")["detail"]
    )
    alone = assert_problem(
        operator.post(path, {"report": report(), **BY_HAND, "revision": 1}), 422, "invalid"
    )
    assert list(alone["errors"]) == ["revision"]


def test_a_report_from_before_a_change_is_of_the_revision_before_it(owner, operator):
    made = order(owner, pins={"gpu": "l4"})
    first = ran(made)
    beside(first, applied_at=BEGAN + dt.timedelta(hours=1))
    with scope.platform("a test"):
        Revision.objects.filter(id=first.id).update(retired_at=BEGAN + dt.timedelta(hours=2))
    path, body = qualify_path(first.pool), {"report": report(), "endpoint": made["id"]}
    assert "did not run yet" in assert_problem(operator.post(path, body), 422, "invalid")["detail"]
    assert operator.post(path, body | {"revision": 1}).status_code == 201
    with scope.platform("a test"):
        Revision.objects.filter(id=first.id).update(retired_at=BEGAN + dt.timedelta(seconds=30))
    replaced = operator.post(path, body | {"revision": 1})
    assert "was replaced before" in assert_problem(replaced, 422, "invalid")["detail"]


@pytest.mark.parametrize("by_hand", [True, False])
def test_nothing_is_known_of_replicas_that_were_changed_since(owner, operator, by_hand):
    made = order(owner, pins={"gpu": "l4"}, replicas=1)
    revision = ran(made)
    if by_hand:
        assert owner.patch(f"{API}/endpoints/{made['id']}", {"replicas": 2}).status_code == 200
    else:
        with scope.platform("a test"):
            ScalingDecision.objects.create(
                tenant_id=revision.tenant_id, endpoint_id=revision.endpoint_id, revision=1, before=1, after=2,
                at=BEGAN + dt.timedelta(seconds=20), outcome="done", why="load", reason="much to do",
                currency="EUR", price_before=1, price_after=2,
            )  # fmt: skip
    answer = operator.post(qualify_path(revision.pool), {"report": report(), "endpoint": made["id"]})
    assert "were changed since" in assert_problem(answer, 422, "invalid")["errors"]["endpoint"][0]


def test_what_was_measured_on_a_cluster_that_is_gone_steers_no_plan(owner, operator):
    before = planned(owner)
    operator.post(f"{POOL}:qualify", by_hand(owner, report(gap_s=3 * before["itl_ms"] / 1000)))
    assert planned(owner) != before
    Cluster.objects.create(
        name="gone", region=Cluster.objects.get(name="de-a").region, removed_at=BEGAN, state="cordoned"
    )
    with scope.platform("a test"):
        away = NodePool.objects.get(cluster__name="de-a", name="l4")
        away.id, away._state.adding, away.cluster = new_id(), True, Cluster.objects.get(name="gone")
        away.save()
        PoolMeasurement.objects.update(pool=away)
    assert planned(owner) == before


def test_a_long_run_of_long_prompts_is_read(owner, operator):
    sent = report(input_tokens=100_000 * 25_000, cached_tokens=2**31 + 1)
    assert operator.post(f"{POOL}:qualify", by_hand(owner, sent)).status_code == 201


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kept_up": False}, "could not keep up"),
        ({"requests": 20}, "20 requests came to their end"),
        ({"failed_percent": 2.5}, "2.5 % of the requests failed"),
        ({"itl_mean_ms": None}, "has no itl_mean_ms"),
        ({"began_at": "2999-01-01T00:00:00Z"}, "in the future"),
        ({"gpus": 4}, "replayed against 4 GPUs"),
        ({"ttft_p99_ms": -1}, "cannot be read"),
        ({"target": "a\0b"}, "cannot be read"),
    ],
)
def test_a_report_that_says_nothing_of_a_pool_is_refused(owner, operator, changes, words):
    problem = assert_problem(
        operator.post(f"{POOL}:qualify", {"report": report(**changes), **BY_HAND}), 422, "invalid"
    )
    assert words in problem["detail"]
    assert list(problem["errors"]) == ["report"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"report": {}}, "report"), ({"report": {"schema": "berth.replay/1", "targets": []}}, "report"),
        ({"precision": "int1"}, "precision"), ({"replicas": 9}, "replicas"), ({"model": "none"}, "model"),
        ({"target": "other"}, "target"), ({"colour": "red"}, "colour"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(operator, body, field):
    problem = assert_problem(
        operator.post(f"{POOL}:qualify", {"report": report(), **BY_HAND, **body}), 422, "invalid"
    )
    assert field in problem["errors"]


def test_one_of_several_targets_has_to_be_chosen(owner, operator):
    sent = report(name="a")
    sent["targets"] += report(name="b")["targets"]
    refused = assert_problem(operator.post(f"{POOL}:qualify", by_hand(owner, sent)), 422, "invalid")
    assert refused["errors"] == {"target": ["The report has several targets: choose from a, b."]}
    (row,) = operator.post(f"{POOL}:qualify", by_hand(owner, sent, target="b")).json()
    assert row["target"] == "b"


def test_a_pool_or_an_endpoint_that_is_not_there(owner, operator):
    missing = operator.post(f"{API}/clusters/de-a/pools/none:qualify", {"report": report(), **BY_HAND})
    assert_problem(missing, 404, "not-found")
    nobody = "00000000-0000-0000-0000-000000000000"
    assert_problem(
        operator.post(f"{POOL}:qualify", {"report": report(), "endpoint": nobody}), 404, "not-found"
    )


def test_the_command_line_does_the_same(owner, tmp_path: Path, capsys):
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report()))
    shape = ["--model", MODEL, "--runtime", "triton-python", "--precision", precision_of(owner)]
    call_command("qualify", "de-a/l4", str(file), *shape, "--max-batch-size", "8")
    out = capsys.readouterr().out
    assert "mine at speed 1: 120 requests, 20 ms between tokens" in out
    assert out.endswith("Written.\n")
    call_command("qualify", "de-a/l4", str(file), *shape, "--max-batch-size", "8")
    assert "nothing changed" in capsys.readouterr().out
    with pytest.raises(CommandError, match="There is no pool 'de-a'"):
        call_command("qualify", "de-a", str(file), *shape)
    with pytest.raises(CommandError, match="or say --max-batch-size"):
        call_command("qualify", "de-a/l4", str(file), *shape)
    with pytest.raises(CommandError, match="There is no endpoint 'acme/none'"):
        call_command("qualify", "de-a/l4", str(file), "--endpoint", "acme/none")
    file.write_text(json.dumps(report(kept_up=False)))
    with pytest.raises(CommandError, match="could not keep up"):
        call_command("qualify", "de-a/l4", str(file), *shape, "--max-batch-size", "8")


def test_the_command_line_takes_what_served_from_an_endpoint(owner, tenant, tmp_path: Path, capsys):
    made = order(owner, pins={"gpu": "l4"})
    pool = ran(made).pool
    with scope.tenant(tenant.id):
        name = Endpoint.objects.get(id=made["id"]).name
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report()))
    call_command("qualify", str(pool), str(file), "--endpoint", f"acme/{name}")
    assert capsys.readouterr().out.endswith("Written.\n")
    call_command("qualify", str(pool), str(file), "--endpoint", f"acme/{name}", "--revision", "1")
    assert "nothing changed" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no revision 2"):
        call_command("qualify", str(pool), str(file), "--endpoint", f"acme/{name}", "--revision", "2")
