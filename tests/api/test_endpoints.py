"""Endpoints through the REST API."""

from __future__ import annotations

import json

import pytest

from clusters.drivers.base import TryLater
from clusters.inventory import drivers
from clusters.models import Gateway, Replica, Revision
from tenants import scope
from tenants.models import Role
from tenants.services import quota_set
from tests.api.conftest import client_of
from tests.api.contract import API, CreateContract, assert_problem
from tests.api.orders import ORDER, order
from tests.estate import MODEL

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]


class TestEndpoints(CreateContract):
    path = "endpoints"
    may_create = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})

    def body(self, number: int = 0) -> dict:
        return {**ORDER, "name": f"chat-{number}"}


def test_an_order_is_placed_with_its_plan_and_reserves_its_gpus(owner):
    made = order(owner, replicas=2)
    assert made["state"] == "provisioning"
    assert made["next_action"]
    assert made["revision"]["number"] == 1
    assert made["revision"]["replicas"] == made["revision"]["gpus"] == 2
    assert made["revision"]["region"] in {"eu-de-1", "eu-fi-1"}
    assert made["revision"]["declared_gpus"] is True
    assert float(made["revision"]["expected"]["price_per_hour"]) > 0
    assert {"type": "Placed", "status": "true", "reason": "Reserved"}.items() <= made["conditions"][0].items()
    quotas = {each["resource"]: each for each in owner.get(f"{API}/quotas").json()["results"]}
    assert quotas["gpus"] == {"resource": "gpus", "limit": 8, "used": 2}
    assert quotas["endpoints"]["used"] == 1
    assert owner.get(f"{API}/tenant").json()["quotas"] == list(quotas.values())


def test_what_was_sent_comes_back_with_ids_beside(owner):
    sent = {
        **ORDER, "name": "chat", "certifications": ["C5"], "near": "eu-de-1", "profile": "", "requests_per_second": 0.5,
        "burstiness": 1.5, "input_tokens": 100, "input_cv": 0.5, "output_tokens": 50, "output_cv": 0.25,
        "prefix_share": 0.2, "context_tokens": 256, "output_limit": 64, "replicas": 1,
        "pins": {"gpu": "l4", "cluster": "de-a", "tp": 1, "pp": 1, "max_batch_size": 4},
        "approved_precisions": [],
    }  # fmt: skip
    made = order(owner, **sent)
    assert sent.items() <= made.items()
    assert made["revision"]["region"] == "eu-de-1"
    assert owner.get(f"{API}/projects/{made['project_id']}").json()["slug"] == "default"
    assert owner.get(f"{API}/models/{made['model']}").json()["id"] == made["model_id"]


def test_the_urls_are_those_of_gateways_that_the_residency_allows(owner, estate):
    Gateway.objects.update(public_url="http://gw.example.org/")
    expected = {"gateway": "gw-de", "region": "eu-de-1", "base_url": "http://gw.example.org/v1"}
    assert order(owner)["urls"] == [expected]
    assert order(owner, "us-chat", residency="zone:US")["urls"] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "gpt-9"), ("model", 7), ("model", ["x"]), ("slo_class", "platinum"), ("project", "unknown"),
        ("name", ""), ("name", "Chat Bot"), ("name", "x" * 64), ("residency", ""), ("certifications", "C5"),
        ("certifications", [{}]), ("requests_per_second", -1), ("requests_per_second", 1e400),
        ("input_tokens", 0), ("output_tokens", "many"), ("context_tokens", 10**9), ("replicas", 0),
        ("replicas", 65), ("replicas", True), ("profile", "frantic"), ("burstiness", 0.9), ("burstiness", "wild"),
        ("input_cv", -1), ("output_cv", 11), ("prefix_share", 1), ("output_limit", 0), ("output_limit", 10**9),
        ("near", "mars"), ("near", ["EU"]), ("pins", []), ("pins", {"colour": "blue"}), ("pins", {"gpu": "abacus"}),
        ("pins", {"cluster": "nowhere"}), ("pins", {"precision": "fp8"}), ("pins", {"precision": "fp2"}),
        ("pins", {"tp": 0}), ("pins", {"max_batch_size": 10**6}), ("approved_precisions", ["fp2"]),
        ("approved_precisions", ["nvfp4"]), ("approved_precisions", "fp8"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_and_nothing_is_ordered(owner, field, value):
    body = {**ORDER, "name": "chat", field: value}
    text = json.dumps(body).replace("Infinity", "1e400")
    response = owner.generic("POST", f"{API}/endpoints", text, content_type="application/json")
    errors = assert_problem(response, 422, "invalid")["errors"]
    assert {name.split(".")[0] for name in errors} == {field}
    assert owner.get(f"{API}/endpoints").json()["results"] == []


def test_a_context_beyond_the_models_is_named(owner):
    body = {**ORDER, "name": "chat", "context_tokens": 9_000_000}
    assert "context_tokens" in assert_problem(owner.post(f"{API}/endpoints", body), 422, "invalid")["errors"]


def test_a_name_is_used_once_until_its_endpoint_is_gone(owner):
    made = order(owner)
    twice = owner.post(f"{API}/endpoints", {**ORDER, "name": "chat"})
    assert "exists already" in assert_problem(twice, 422, "invalid")["errors"]["name"][0]
    assert owner.delete(f"{API}/endpoints/{made['id']}").status_code == 202


def test_two_tenants_may_use_one_name(owner, stranger):
    assert order(owner)["name"] == order(stranger)["name"]


def test_a_residency_that_no_cluster_satisfies_says_what_failed_where(owner):
    body = {**ORDER, "name": "chat", "residency": "region:eu-at-9"}
    problem = assert_problem(owner.post(f"{API}/endpoints", body), 422, "order-impossible")
    assert {name for each in problem["refusals"] for name in each["clusters"]} == {"de-a", "fi-a", "us-a"}
    assert {each["reason"] for each in problem["refusals"]} == {"residency"}
    assert all(each["message"] for each in problem["refusals"])
    assert owner.get(f"{API}/endpoints").json()["results"] == []


def test_over_quota_says_so_and_keeps_nothing(owner, tenant):
    with scope.tenant(tenant.id):
        quota_set(resource="gpus", limit=2)
    body = {**ORDER, "name": "chat", "replicas": 3}
    assert "quota" in assert_problem(owner.post(f"{API}/endpoints", body), 403, "over-quota")["detail"]
    plan = owner.post(f"{API}/endpoints:plan", body)
    assert (plan.status_code, plan.json()["status"]) == (200, "over_quota")
    assert [each["used"] for each in owner.get(f"{API}/quotas").json()["results"]] == [0, 0]


def test_an_order_without_capacity_waits_for_it(owner, stranger):
    order(stranger, residency="region:eu-fi-1", replicas=4)
    made = order(owner, residency="region:eu-fi-1")
    placed = made["conditions"][0]
    assert (placed["type"], placed["status"], placed["reason"]) == ("Placed", "false", "NoCapacity")
    assert made["revision"] is None


def test_scaling_changes_replicas_and_generation(owner):
    made = order(owner, replicas=1)
    path = f"{API}/endpoints/{made['id']}"
    changed = owner.patch(path, {"replicas": 2})
    assert changed.status_code == 200, changed.content
    assert (changed.json()["replicas"], changed.json()["revision"]["gpus"]) == (2, 2)
    assert changed.json()["generation"] == made["generation"] + 1
    assert changed["ETag"] == f'W/"{made["generation"] + 1}"'


def test_a_change_meant_for_an_older_version_is_refused(owner):
    made = order(owner, replicas=1)
    path = f"{API}/endpoints/{made['id']}"
    seen = owner.get(path)["ETag"]
    assert owner.patch(path, {"replicas": 2}, headers={"If-Match": seen}).status_code == 200
    for tags in (seen, '"999"', "nonsense", f'"7", {seen}'):
        stale = owner.patch(path, {"replicas": 3}, headers={"If-Match": tags})
        assert_problem(stale, 412, "stale")
    assert_problem(owner.delete(path, headers={"If-Match": seen}), 412, "stale")
    assert_problem(owner.post(f"{path}:pause", headers={"If-Match": seen}), 412, "stale")
    newest = owner.get(path)["ETag"]
    assert owner.get(path).json()["replicas"] == 2
    for tags in ("*", newest, newest.removeprefix("W/"), f'"999", {newest}'):
        assert owner.patch(path, {"replicas": 2}, headers={"If-Match": tags}).status_code == 200


def test_scaling_beyond_quota_or_capacity_changes_nothing(owner):
    made = order(owner, residency="region:eu-fi-1", replicas=1)
    path = f"{API}/endpoints/{made['id']}"
    assert_problem(owner.patch(path, {"replicas": 9}), 403, "over-quota")
    assert_problem(owner.patch(path, {"replicas": 5}), 409, "conflict")
    for wrong in ({"replicas": 0}, {"replicas": None}, {}, {"name": "other"}, {"state": "ready"}):
        assert_problem(owner.patch(path, wrong), 422, "invalid")
    assert owner.get(path).json()["generation"] == made["generation"]


def test_pause_and_resume_release_and_take_gpus_again(owner):
    made = order(owner, replicas=2)
    path = f"{API}/endpoints/{made['id']}"
    for _ in range(2):
        paused = owner.post(f"{path}:pause")
        assert paused.status_code == 200, paused.content
        assert (paused.json()["wanted"], paused.json()["revision"]) == ("paused", None)
    for _ in range(2):
        resumed = owner.post(f"{path}:resume").json()
        assert (resumed["wanted"], resumed["revision"]["number"]) == ("running", 2)
    numbers = [each["number"] for each in owner.get(f"{path}/revisions").json()["results"]]
    assert numbers == [2, 1]


def test_deleting_is_asked_for_once_or_more(owner):
    made = order(owner)
    path = f"{API}/endpoints/{made['id']}"
    for _ in range(2):
        answer = owner.delete(path)
        assert answer.status_code == 202, answer.content
        assert answer.json()["wanted"] == "deleted"
    assert_problem(owner.post(f"{path}:resume"), 409, "conflict")
    assert_problem(owner.patch(path, {"replicas": 2}), 409, "conflict")


def test_roles_and_strangers_cannot_change_it(owner, stranger, tenant):
    made = order(owner)
    path = f"{API}/endpoints/{made['id']}"
    viewer = client_of(tenant, Role.VIEWER)
    for client, status, code in ((viewer, 403, "forbidden"), (stranger, 404, "not-found")):
        assert_problem(client.patch(path, {"replicas": 2}), status, code)
        assert_problem(client.delete(path), status, code)
        assert_problem(client.post(f"{path}:pause"), status, code)
        assert_problem(client.post(f"{path}:resume"), status, code)
    assert owner.get(path).json()["generation"] == made["generation"]


def test_the_history_names_who_did_what(owner, stranger):
    made = order(owner)
    path = f"{API}/endpoints/{made['id']}"
    owner.post(f"{path}:pause")
    history = owner.get(f"{path}/events").json()["results"]
    assert [each["kind"] for each in history if each["actor"]] == ["paused", "ordered"]
    assert {each["actor"] for each in history} == {"key owner key", ""}
    first = owner.get(f"{path}/events?page_size=1").json()
    assert first["results"] == history[:1]
    assert owner.get(first["next"]).json()["results"] == history[1:2]
    assert_problem(owner.get(f"{path}/events?colour=blue"), 422, "invalid")
    assert_problem(stranger.get(f"{path}/events"), 404, "not-found")


def test_revisions_hold_the_whole_plan(owner, stranger):
    made = order(owner)
    path = f"{API}/endpoints/{made['id']}/revisions"
    (revision,) = owner.get(path).json()["results"]
    assert revision["plan"]["status"] == "placed"
    assert revision["plan"]["refusals"]
    assert {**revision, "plan": ...} == {**made["revision"], "plan": ...}
    assert_problem(stranger.get(path), 404, "not-found")


@pytest.fixture
def engine_log(monkeypatch):
    """A stand-in for the cluster: one line of log, or the error that is put in ``error``."""

    class Cluster:
        error: Exception | None = None

        def logs(self, name, replica_id, *, lines):
            if self.error:
                raise self.error
            return f"{name} {replica_id}\nlast of {lines}\n"

    cluster = Cluster()
    monkeypatch.setattr(drivers, "driver_for", lambda *_: cluster)
    return cluster


def start_engine(tenant, made: dict, replica_id: str = "r-1") -> None:
    """Write a replica down as the reconciler does once its cluster shows it."""
    with scope.tenant(tenant.id):
        revision = Revision.objects.get(endpoint_id=made["id"])
        Replica.objects.create(
            revision=revision,
            endpoint_id=made["id"],
            replica_id=replica_id,
            index=0,
            phase=Replica.Phase.STARTING,
        )


def test_replicas_are_shown_as_the_cluster_shows_them(owner, tenant):
    made = order(owner)
    start_engine(tenant, made)
    (replica,) = owner.get(f"{API}/endpoints/{made['id']}").json()["observed_replicas"]
    assert {"id": "r-1", "index": 0, "revision": 1, "phase": "starting"}.items() <= replica.items()


def test_the_log_is_that_of_the_newest_replica_or_the_one_named(owner, stranger, tenant, engine_log):
    made = order(owner)
    path = f"{API}/endpoints/{made['id']}/logs"
    assert_problem(owner.get(path), 404, "not-found")
    start_engine(tenant, made, "r-1")
    start_engine(tenant, made, "r-2")
    assert owner.get(path).json()["replica"] == "r-2"
    assert owner.get(f"{path}?replica=r-1&lines=5").json()["lines"][-1] == "last of 5"
    assert_problem(owner.get(f"{path}?replica=r-9"), 404, "not-found")
    assert_problem(stranger.get(path), 404, "not-found")
    for wrong in ("lines=0", "lines=1001", "lines=all", "line=5", "replica=%00"):
        assert_problem(owner.get(f"{path}?{wrong}"), 422, "invalid")


def test_a_cluster_that_is_away_is_said_to_be(owner, tenant, engine_log):
    made = order(owner)
    start_engine(tenant, made)
    engine_log.error = TryLater("the supervisor is not running", delay=2.5)
    response = owner.get(f"{API}/endpoints/{made['id']}/logs")
    assert "supervisor" in assert_problem(response, 503, "cluster-away")["detail"]
    assert response["Retry-After"] == "3"


def test_the_list_filters_by_state_project_model_and_name(owner):
    made = order(owner)
    deleted = order(owner, "old")
    owner.delete(f"{API}/endpoints/{deleted['id']}")
    for query in ("state=provisioning", "project=default&name=chat", f"model={MODEL}&name=CHAT"):
        listed = owner.get(f"{API}/endpoints?{query}").json()["results"]
        assert made["id"] in [each["id"] for each in listed], query
    for query in ("state=ready", "project=other", "model=gpt-9", "name=cha", "state=ready&state=paused"):
        assert owner.get(f"{API}/endpoints?{query}").json()["results"] == [], query
    assert "state" in assert_problem(owner.get(f"{API}/endpoints?state=fine"), 422, "invalid")["errors"]


def test_a_list_takes_as_many_queries_for_many_as_for_one(owner, django_assert_max_num_queries):
    order(owner, "one")
    for number in range(3):
        order(owner, f"more-{number}")
    with django_assert_max_num_queries(20) as few:
        owner.get(f"{API}/endpoints?page_size=1")
    with django_assert_max_num_queries(len(few)):
        assert len(owner.get(f"{API}/endpoints").json()["results"]) == 4


def test_limits_and_fallbacks_are_ordered_and_changed(owner):
    small = order(owner, "small")
    made = order(owner, requests_per_minute=600, fallbacks=[small["id"]])
    assert (made["requests_per_minute"], made["tokens_per_minute"]) == (600, None)
    assert made["fallbacks"] == [{"id": small["id"], "name": "small", "note": ""}]
    assert "goes to the fallbacks" in made["overload"]
    path = f"{API}/endpoints/{made['id']}"
    seen = owner.get(path)["ETag"]
    change = {"tokens_per_minute": 9_000, "fallbacks": [], "replicas": 2}
    changed = owner.patch(path, change, headers={"If-Match": seen})
    assert changed.status_code == 200, changed.content
    now = changed.json()
    assert (now["requests_per_minute"], now["tokens_per_minute"], now["replicas"]) == (600, 9_000, 2)
    assert now["fallbacks"] == []
    assert_problem(owner.patch(path, {"requests_per_minute": 1}, headers={"If-Match": seen}), 412, "stale")
    assert owner.patch(path, {"requests_per_minute": None}).json()["requests_per_minute"] is None
    told = [event["message"] for event in owner.get(f"{path}/events").json()["results"]]
    assert "Limits changed, requests per minute: no limit." in told


def test_a_fallback_that_can_never_serve_is_accepted_and_told(owner):
    away = order(owner, "away", residency="region:us-east-1")
    made = order(owner, fallbacks=[away["id"]])
    assert "No region satisfies both zone:EU and region:us-east-1" in made["fallbacks"][0]["note"]
    owner.delete(f"{API}/endpoints/{away['id']}")


def test_wrong_fallbacks_are_named(owner, stranger):
    made = order(owner)
    path = f"{API}/endpoints/{made['id']}"
    theirs = order(stranger, "theirs")["id"]
    for wrong in ([made["id"]], [theirs], [made["id"]] * 6, ["x"]):
        errors = assert_problem(owner.patch(path, {"fallbacks": wrong}), 422, "invalid")["errors"]
        assert next(iter(errors)).startswith("fallbacks"), wrong
    small = order(owner, "small")["id"]
    assert_problem(owner.patch(path, {"fallbacks": [small, small]}), 422, "invalid")
    assert_problem(owner.patch(path, {}), 422, "invalid")
    refused = owner.post(f"{API}/endpoints", {**ORDER, "name": "more", "fallbacks": [theirs]})
    assert_problem(refused, 422, "invalid")


def test_operators_publish_an_endpoint_to_every_tenant(owner, stranger, operator, tenant):
    made = order(owner)
    assert stranger.get(f"{API}/shared-endpoints").json() == {"results": []}
    path = f"{API}/endpoints/{made['id']}:share"
    assert_problem(owner.post(path, {"shared": True}), 404, "not-found")
    answer = operator.post(path, {"shared": True})
    assert answer.status_code == 200, answer.content
    assert answer.json()["shared"] is True
    (shown,) = stranger.get(f"{API}/shared-endpoints").json()["results"]
    assert (shown["name"], shown["model"], shown["residency"]) == ("chat", MODEL, "zone:EU")
    assert float(shown["prices"]["output"]) > float(shown["prices"]["input"]) > 0
    assert str(tenant.id) not in str(shown)
    assert_problem(stranger.get(f"{API}/endpoints/{made['id']}"), 404, "not-found")
    theirs = order(stranger)
    taken = operator.post(f"{API}/endpoints/{theirs['id']}:share", {"shared": True})
    assert "exists already" in assert_problem(taken, 422, "invalid")["errors"]["name"][0]
    assert operator.post(path, {"shared": False}).json()["shared"] is False
    assert stranger.get(f"{API}/shared-endpoints").json() == {"results": []}
