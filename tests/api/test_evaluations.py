"""Evaluation sets, runs and the gate through the REST API."""

from __future__ import annotations

import uuid

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from clusters.endpoints.evaluations.working import run_work
from clusters.models import (
    CatalogModel,
    Endpoint,
    EvaluationRun,
    EvaluationVersion,
    Gateway,
    Revision,
    SloClass,
)
from tenants import scope
from tenants.models import Membership, Role
from tests.api.conftest import client_of
from tests.api.contract import API, EditContract, assert_problem
from tests.api.orders import order
from tests.estate import MODEL
from tests.factories import make_user
from tests.fakes.model_gateway import FakeModelGateway

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

PROMPTS = [{"prompt": "2 + 2 =", "checks": [{"contains": "4"}, {"max_tokens": 2, "weight": 3}]}]


class TestEvaluationSets(EditContract):
    path = "evaluation-sets"
    may_create = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})
    changes = ({"pass_percent": "90.00"}, {"pass_percent": "80.00"})

    def body(self, number: int = 0) -> dict:
        return {"name": f"set {number}", "model": MODEL, "prompts": PROMPTS}


@pytest.fixture
def endpoint(owner) -> dict:
    return order(owner, "chat")


@pytest.fixture
def operator_path() -> str:
    return f"{API}/platform/evaluation-sets"


def make(client, *, path=f"{API}/evaluation-sets", **values) -> dict:
    body = {"name": "basics", "prompts": PROMPTS} | values
    response = client.post(path, body)
    assert response.status_code == 201, response.content
    return response.json()


def start(client, endpoint: dict, **body) -> dict:
    response = client.post(f"{API}/endpoints/{endpoint['id']}/evaluations", body)
    assert response.status_code == 202, response.content
    (run,) = response.json()["results"]
    return run


def finish(run: dict, answer: str = "2 + 2 = 4") -> None:
    """Work on a run with a gateway that gives this answer."""
    with FakeModelGateway().running() as fake, scope.platform("a test"):
        fake.answer = lambda asked: answer
        Gateway.objects.update(public_url=fake.url)
        tenant_id = EvaluationRun.objects.get(id=run["id"]).tenant_id
        with scope.tenant(tenant_id):
            run_work(tenant_id, run["id"])


def test_a_set_comes_back_as_it_was_made_and_changes_make_versions(owner, endpoint):
    made = make(owner, endpoint_id=endpoint["id"], most_drop="5")
    assert (made["owner"], made["model"], made["endpoint_id"]) == ("tenant", None, endpoint["id"])
    assert (made["version"], made["pass_percent"], made["most_drop"]) == (1, "100.00", "5.00")
    assert made["prompts"] == PROMPTS
    changed = owner.patch(f"{API}/evaluation-sets/{made['id']}", {"most_drop": None}).json()
    assert (changed["version"], changed["most_drop"], changed["prompts"]) == (2, None, PROMPTS)
    listed = owner.get(f"{API}/evaluation-sets?endpoint={endpoint['id']}").json()["results"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert "prompts" not in listed[0]
    assert owner.delete(f"{API}/evaluation-sets/{made['id']}").status_code == 204
    assert_problem(owner.get(f"{API}/evaluation-sets/{made['id']}"), 404, "not-found")


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({}, "model", "Give one of model and endpoint_id"),
        ({"model": MODEL, "endpoint_id": str(uuid.UUID(int=5))}, "endpoint_id", "no such endpoint"),
        ({"model": "gpt"}, "model", "no model 'gpt'"),
        ({"model": MODEL, "pass_percent": None}, "pass_percent", "which share"),
        ({"model": MODEL, "pass_percent": 101}, "pass_percent", "100"),
        ({"model": MODEL, "prompts": [{"prompt": "a"}]}, "prompts", "Prompt 1"),
        ({"model": MODEL, "prompts": "text"}, "prompts", "list of prompts"),
    ],
)
def test_what_is_wrong_with_a_set_is_named(owner, changes, field, told):
    body = {"name": "basics", "prompts": PROMPTS} | changes
    problem = assert_problem(owner.post(f"{API}/evaluation-sets", body), 422, "invalid")
    assert told in problem["errors"][field][0]


def test_the_platforms_sets_are_read_by_all_and_written_by_operators(
    owner, stranger, operator, finance, operator_path
):
    made = make(operator, path=operator_path, model=MODEL)
    assert made["owner"] == "platform"
    path = f"{API}/evaluation-sets/{made['id']}"
    for client in (owner, stranger):
        assert client.get(path).json()["prompts"] == PROMPTS
        assert_problem(client.patch(path, {"name": "mine"}), 403, "forbidden")
        assert_problem(client.delete(path), 403, "forbidden")
        assert_problem(client.get(operator_path), 404, "not-found")
    assert_problem(finance.get(operator_path), 403, "forbidden")
    own = f"{operator_path}/{made['id']}"
    seen = operator.get(own)["ETag"]
    changed = operator.patch(own, {"pass_percent": "50.00"}, headers={"If-Match": seen})
    assert changed.json()["version"] == 2
    assert_problem(operator.patch(own, {"name": "x"}, headers={"If-Match": seen}), 412, "stale")
    theirs = make(owner, model=MODEL)
    assert_problem(operator.get(f"{operator_path}/{theirs['id']}"), 404, "not-found")
    assert [each["id"] for each in operator.get(operator_path).json()["results"]] == [made["id"]]
    assert operator.delete(own).status_code == 204
    assert_problem(owner.get(path), 404, "not-found")


def test_a_key_that_is_limited_to_projects_makes_no_set_for_the_whole_tenant(owner, tenant):
    limited = {"name": "ci", "scope": "management", "role": "developer"}
    project = owner.get(f"{API}/projects").json()["results"][0]["id"]
    key = owner.post(f"{API}/keys", {**limited, "projects": [project]}).json()["key"]
    client = client_of(tenant)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    made = order(owner, "chat")
    body = {"name": "basics", "prompts": PROMPTS}
    assert_problem(client.post(f"{API}/evaluation-sets", {**body, "model": MODEL}), 403, "forbidden")
    assert client.post(f"{API}/evaluation-sets", {**body, "endpoint_id": made["id"]}).status_code == 201


def test_what_runs_is_asked_and_the_result_is_kept(owner, endpoint):
    path = f"{API}/endpoints/{endpoint['id']}/evaluations"
    assert "make one first" in assert_problem(owner.post(path, {}), 409, "conflict")["detail"]
    found = make(owner, endpoint_id=endpoint["id"], pass_percent="25")
    run = start(owner, endpoint, set_id=found["id"])
    assert (run["state"], run["set"], run["version"], run["revision"]) == ("pending", "basics", 1, 1)
    assert (run["prompts"], run["asked"], run["score"]) == (1, 0, None)
    finish(run)
    shown = owner.get(f"{API}/evaluations/{run['id']}").json()
    assert (shown["state"], shown["score"], shown["pass_percent"]) == ("passed", "25.00", "25.00")
    assert [check["passed"] for check in shown["results"][0]["checks"]] == [True, False]
    assert "2 + 2" not in str(shown["results"])
    listed = owner.get(f"{API}/evaluations?endpoint={endpoint['id']}&revision=1&state=passed").json()[
        "results"
    ]
    assert [each["id"] for each in listed] == [run["id"]]
    assert "results" not in listed[0]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"set_id": str(uuid.UUID(int=5))}, 422, "no such evaluation set"),
        ({"revision": 9}, 422, "has no revision 9"),
        ({"against": 9}, 422, "has no revision 9"),
        ({"colour": 1}, 422, "no such field"),
    ],
)
def test_what_cannot_be_asked_is_told(owner, endpoint, body, status, told):
    make(owner, endpoint_id=endpoint["id"])
    response = owner.post(f"{API}/endpoints/{endpoint['id']}/evaluations", body)
    assert told in str(response.json())
    assert response.status_code == status


def test_a_paused_endpoint_is_not_asked(owner, endpoint):
    make(owner, endpoint_id=endpoint["id"])
    owner.post(f"{API}/endpoints/{endpoint['id']}:pause")
    response = owner.post(f"{API}/endpoints/{endpoint['id']}/evaluations", {})
    assert_problem(response, 409, "conflict")


def test_owners_and_admins_accept_and_say_why(owner, tenant, stranger, endpoint):
    make(owner, endpoint_id=endpoint["id"])
    run = start(owner, endpoint)
    path = f"{API}/evaluations/{run['id']}:accept"
    finish(run, "nonsense that is far too long")
    assert_problem(client_of(tenant, Role.DEVELOPER).post(path, {"note": "fine"}), 403, "forbidden")
    assert_problem(stranger.post(path, {"note": "fine"}), 404, "not-found")
    assert_problem(owner.post(path, {}), 422, "invalid")
    refused = assert_problem(owner.post(path, {"note": "fine"}), 403, "forbidden")
    assert "A person accepts it" in refused["detail"]


def test_people_accept_by_their_session_and_operators_for_any_tenant(owner, tenant, operator, endpoint):
    make(owner, endpoint_id=endpoint["id"])
    one = start(owner, endpoint)
    finish(one, "nonsense that is far too long")
    mia = make_user("mia@acme.example")
    with scope.tenant(tenant.id):
        Membership.objects.create(user=mia, role=Role.ADMIN)
    client = APIClient(HTTP_BERTH_TENANT="acme")
    client.force_login(mia)
    path = f"{API}/evaluations/{one['id']}:accept"
    accepted = client.post(path, {"note": "known"}, headers={"Berth-Tenant": "acme"})
    assert accepted.status_code == 200, accepted.content
    shown = accepted.json()
    assert (shown["state"], shown["decided_as"], shown["note"]) == ("waived", "mia@acme.example", "known")
    two = start(owner, endpoint)
    finish(two)
    waived = operator.post(f"{API}/platform/evaluations/{two['id']}:accept", {"note": "seen"})
    assert (waived.json()["state"], waived.json()["decided_as"]) == (
        "waived",
        "operator olga@example.org",
    )


def test_prompts_rest_sealed(owner):
    make(owner, model=MODEL, prompts=[{"prompt": "of-nobody-else", "checks": [{"contains": "x"}]}])
    with scope.platform("a test"):
        assert b"of-nobody-else" not in bytes(EvaluationVersion.objects.get().sealed)


# The gate


def gate(client, endpoint: dict, **body) -> dict:
    response = client.post(f"{API}/endpoints/{endpoint['id']}:gate", body, format="json")
    assert response.status_code == 200, response.content
    return response.json()


def target(**changes) -> dict:
    """Give what a replay measured, as its report tells it."""
    return {
        "target": "new", "requests": 1000, "completed": 1000, "failed": 0, "failures": {}, "ttft_p95_ms": 300.0,
        "itl_p95_ms": 20.0, "cost_per_million_tokens": 2.0, "gpu_cost_per_million_tokens": 9.0, "kept_up": True,
    } | changes  # fmt: skip


def priced(cost: float | None) -> dict:
    return target(cost_per_million_tokens=cost)


def report(*targets: dict) -> dict:
    return {"schema": "berth.replay/1", "goals": {}, "targets": list(targets)}


def standings(found: dict) -> dict[tuple[str, str], str]:
    return {(each["name"], each["source"]): each["standing"] for each in found["criteria"]}


def test_a_change_that_keeps_all_passes_and_shows_its_figures(owner, endpoint):
    found = gate(owner, endpoint, change={"replicas": 1})
    assert (found["kept"], found["broken"]) == (True, [])
    assert standings(found) == {("slo", "plan"): "kept", ("cost", "plan"): "kept"}
    slo, cost = found["criteria"]
    assert slo["figures"]["ttft_p95_ms"] <= slo["figures"]["ttft_p95_ms_target"] == 2000
    assert float(cost["figures"]["per_million_tokens"]) > 0
    assert cost["figures"]["currency"] == "EUR"


def test_a_change_that_costs_too_much_is_named(owner, endpoint):
    found = gate(owner, endpoint, change={"replicas": 4})
    assert (found["kept"], found["broken"]) == (False, ["cost"])
    assert "1.1 times that may be" in found["criteria"][1]["message"]
    assert gate(owner, endpoint, change={"replicas": 4}, cost_factor="5")["kept"] is True
    SloClass.objects.filter(name="standard").update(cost_target="0.0001")
    assert "target is 0.0001" in gate(owner, endpoint, change={"replicas": 1})["criteria"][1]["message"]


def test_a_change_that_cannot_be_placed_or_kept_up_breaks_the_slo(owner, endpoint):
    found = gate(owner, endpoint, change={"residency": "region:nowhere-1"})
    assert (found["kept"], found["broken"]) == (False, ["slo"])
    found = gate(owner, endpoint, change={"replicas": 1, "requests_per_second": 100_000})
    assert "slo" in found["broken"]


def test_a_change_that_wants_an_evaluation_says_which_rollout_asks_what(owner, endpoint):
    SloClass.objects.filter(name="standard").update(needs_evaluation=True)
    assert "quality" not in [
        each["name"] for each in gate(owner, endpoint, change={"replicas": 1})["criteria"]
    ]
    copy = CatalogModel.objects.get(name=MODEL)
    copy.pk, copy.name = uuid.uuid4(), "other-model"
    copy.save(force_insert=True)
    change = {"model": "other-model"}
    found = gate(owner, endpoint, change=change)
    assert found["broken"] == ["quality"]
    assert "no evaluation set" in found["criteria"][-1]["message"]
    make(owner, endpoint_id=endpoint["id"])
    found = gate(owner, endpoint, change=change)
    assert found["kept"] is True
    assert found["criteria"][-1]["standing"] == "not-judged"
    assert "its rollout asks basics" in found["criteria"][-1]["message"]


@pytest.mark.parametrize(
    ("targets", "body", "expected"),
    [
        ([target()], {}, {"slo": "kept", "cost": "kept"}),
        ([target(cost_per_million_tokens=None)], {}, {"slo": "kept", "cost": "kept"}),
        ([target(cost_per_million_tokens=None, gpu_cost_per_million_tokens=None)], {}, {"slo": "kept"}),
        ([target(ttft_p95_ms=2001)], {}, {"slo": "broken", "cost": "kept"}),
        ([target(itl_p95_ms=None)], {}, {"slo": "broken", "cost": "kept"}),
        ([target(failed=5)], {}, {"slo": "kept", "cost": "kept"}),
        ([target(failed=6)], {}, {"slo": "broken", "cost": "kept"}),
        ([target(requests=99)], {}, {"slo": "undecided", "cost": "kept"}),
        ([target(kept_up=False)], {}, {"slo": "undecided", "cost": "kept"}),
        ([priced(1.0), priced(1.2)], {}, {"slo": "kept", "cost": "broken"}),
        ([priced(1.0), priced(1.2)], {"cost_factor": "1.25"}, {"slo": "kept", "cost": "kept"}),
        ([target(ttft_p95_ms=100), target()], {"latency_factor": 2}, {"slo": "broken", "cost": "kept"}),
        ([target(), target()], {"latency_factor": 2, "cost_factor": "2"}, {"slo": "kept", "cost": "kept"}),
        ([target()], {"latency_factor": 2}, {"slo": "undecided", "cost": "kept"}),
        ([target(ttft_p95_ms=2001)], {"latency_factor": 2}, {"slo": "broken", "cost": "kept"}),
        ([target()], {"cost_factor": "1.1"}, {"slo": "kept", "cost": "undecided"}),
        ([priced(None), target()], {"cost_factor": "1.1"}, {"slo": "kept", "cost": "undecided"}),
        ([priced(None), target()], {}, {"slo": "kept", "cost": "kept"}),
        (
            [target(), target(cost_per_million_tokens=None, gpu_cost_per_million_tokens=None)],
            {"cost_factor": "1.1"},
            {"slo": "kept", "cost": "undecided"},
        ),
        ([target(requests=99), target()], {}, {"slo": "kept", "cost": "kept"}),
        (
            [target(requests=99), target()],
            {"latency_factor": 2, "cost_factor": "2"},
            {"slo": "undecided", "cost": "undecided"},
        ),
        ([target(kept_up=False), target()], {"latency_factor": 2}, {"slo": "undecided", "cost": "kept"}),
        ([target(itl_p95_ms=None), target()], {"latency_factor": 2}, {"slo": "undecided", "cost": "kept"}),
    ],
)  # fmt: skip
def test_a_report_is_held_against_the_class_and_what_runs(owner, endpoint, targets, body, expected):
    found = gate(owner, endpoint, report=report(*targets), **body)
    assert {each["name"]: each["standing"] for each in found["criteria"]} == expected
    assert found["kept"] is (set(expected.values()) == {"kept"})


def test_a_p95_without_a_target_is_compared_where_that_is_asked_for(owner, endpoint):
    SloClass.objects.filter(name="standard").update(itl_p95_ms=None)
    both = report(target(), target(itl_p95_ms=None))
    assert gate(owner, endpoint, report=both)["kept"] is True
    slo = gate(owner, endpoint, report=both, latency_factor=2)["criteria"][0]
    assert (slo["standing"], slo["message"]) == (
        "undecided",
        "ITL p95 cannot be compared: not measured of both.",
    )


def test_a_change_of_what_does_not_run_is_compared_with_nothing(owner, endpoint):
    owner.post(f"{API}/endpoints/{endpoint['id']}:pause")
    with scope.platform("a test"):
        Revision.objects.update(retired_at=timezone.now())
    found = gate(owner, endpoint, change={"replicas": 1}, latency_factor=2, cost_factor="2")
    assert standings(found) == {("slo", "plan"): "undecided", ("cost", "plan"): "undecided"}
    assert gate(owner, endpoint, change={"replicas": 1})["kept"] is True


def test_an_evaluation_stands_for_the_quality(owner, endpoint):
    make(owner, endpoint_id=endpoint["id"])
    run = start(owner, endpoint)
    found = gate(owner, endpoint, evaluation=run["id"])
    assert (found["broken"], standings(found)) == (["quality"], {("quality", "evaluation"): "undecided"})
    finish(run, "5 and nothing else at all")
    found = gate(owner, endpoint, evaluation=run["id"], report=report(target()))
    assert found["broken"] == ["quality"]
    assert standings(found)["quality", "evaluation"] == "broken"
    again = start(owner, endpoint)
    finish(again, "4")
    assert gate(owner, endpoint, evaluation=again["id"])["kept"] is True


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "nothing to judge"),
        ({"change": {}}, "nothing was changed"),
        ({"change": {"precision": "int1"}}, "not a valid choice"),
        ({"change": {"colour": "red"}}, "no such field"),
        ({"evaluation": str(uuid.UUID(int=5))}, "has no such evaluation"),
        ({"report": report()}, "may not be empty"),
        ({"report": report(target(), target(), target())}, "no more than 2"),
        ({"report": report({"requests": 1})}, "required"),
        ({"report": {"schema": "berth.replay/0", "targets": [target()]}}, "not a valid choice"),
    ],
)
def test_what_the_gate_cannot_be_asked_is_told(owner, endpoint, body, told):
    response = owner.post(f"{API}/endpoints/{endpoint['id']}:gate", body, format="json")
    assert told in str(assert_problem(response, 422, "invalid"))


def test_who_sees_no_cost_asks_no_gate(owner, tenant, stranger, endpoint):
    path, body = f"{API}/endpoints/{endpoint['id']}:gate", {"change": {"replicas": 1}}
    assert_problem(client_of(tenant, Role.VIEWER).post(path, body, format="json"), 403, "forbidden")
    assert_problem(stranger.post(path, body, format="json"), 404, "not-found")
    with scope.platform("a test"):
        assert Endpoint.objects.get(id=endpoint["id"]).replicas is None, "nothing is written"
