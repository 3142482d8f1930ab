"""The estate through the REST API: clusters, images, engine settings, moving, restoring, secrets."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
import yaml
from rest_framework.test import APIClient

from clusters.endpoints import services
from clusters.inventory.catalog import weights_secrets
from clusters.kube.client import KubeClient
from clusters.kube.kinds import NODE
from clusters.models import (
    CatalogModel,
    Cluster,
    Endpoint,
    EngineImage,
    RenderedConfiguration,
    Revision,
    SloClass,
)
from tenants import scope
from tenants.models import PlatformRole, Role
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.test_endpoints import order
from tests.clusters.inventory.shapes import node
from tests.factories import make_user
from tests.fakes.kube_api import FakeKube

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("estate")]

DIGEST = "sha256:" + "7" * 64


@pytest.fixture
def operator(db) -> APIClient:
    """A signed-in operator who is no member of any tenant."""
    client = APIClient()
    client.force_login(make_user("olga@example.org", platform_role=PlatformRole.OPERATOR))
    return client


@pytest.fixture(scope="module")
def kube():
    with FakeKube() as server:
        yield server


@pytest.fixture
def body(kube) -> dict:
    """A registration that is accepted."""
    credentials = {"server": kube.server, "ca_data": kube.ca_data, "token": kube.admin.token}
    return {"name": "k8s-a", "region": "eu-de-1", "credentials": credentials}


def register(operator: APIClient, body: dict) -> dict:
    response = operator.post(f"{API}/clusters", body)
    assert response.status_code == 201, response.content
    return response.json()


def kubeconfig(kube: FakeKube) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1", "kind": "Config", "current-context": "berth",
            "contexts": [{"name": "berth", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{
                "name": "c",
                "cluster": {
                    "server": kube.server,
                    "certificate-authority-data": base64.b64encode(kube.ca_data.encode()).decode(),
                },
            }],
            "users": [{"name": "u", "user": {"token": kube.admin.token}}],
        }
    )  # fmt: skip


OPERATORS_ONLY = [
    ("get", "clusters"), ("post", "clusters"), ("post", "clusters:check"), ("get", "clusters/de-a"),
    ("patch", "clusters/de-a"), ("delete", "clusters/de-a"), ("post", "clusters/de-a:check"),
    ("post", "clusters/de-a:declare-lost"),
    ("post", "clusters/de-a:cordon"), ("post", "clusters/de-a:uncordon"), ("post", "clusters/de-a/credentials"),
    ("get", "clusters/de-a/nodes"), ("get", "engine-images"), ("get", "engine-images/gateway"),
    ("put", "engine-images/gateway"), ("get", "engine-settings"), ("get", "engine-settings/batch"),
    ("patch", "engine-settings/batch"), ("put", "models/berth-docs-ngram/tokenizer"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OPERATORS_ONLY)
def test_only_operators_find_the_estate(owner, anonymous, method, path):
    assert_problem(getattr(owner, method)(f"{API}/{path}", {}), 404, "not-found")
    refused = getattr(anonymous, method)(f"{API}/{path}", {})
    assert_problem(refused, 401, "not-authenticated")
    assert refused["WWW-Authenticate"]


def test_a_member_who_is_signed_in_is_no_operator(tenant):
    client = APIClient()
    client.force_login(make_user("ann@example.org"))
    assert client.get(f"{API}/clusters").status_code in (400, 404)


def test_a_session_without_the_csrf_token_changes_nothing(operator):
    strict = APIClient(enforce_csrf_checks=True)
    strict.force_login(make_user("otto@example.org", platform_role=PlatformRole.OPERATOR))
    response = strict.post(f"{API}/clusters/de-a:cordon", {"reason": "mine"}, format="json")
    assert response.status_code == 403
    assert Cluster.objects.get(name="de-a").state == "active"


def test_a_cluster_is_registered_and_its_nodes_are_read(operator, body, kube):
    shape = node("gpu-1", usable=7)
    with contextlib.closing(KubeClient(kube.admin)) as client:
        client.create(NODE, {"apiVersion": "v1", "kind": "Node", **shape})
        status = [{"op": "add", "path": "/status", "value": shape["status"]}]
        client.patch(NODE, "gpu-1", None, status, subresource="status")
    response = operator.post(f"{API}/clusters", body)
    assert response.status_code == 201, response.content
    made = response.json()
    assert response["Location"].endswith(f"{API}/clusters/k8s-a")
    assert operator.get(response["Location"]).json()["server"] == kube.server
    assert (made["mode"], made["credentials_name"], made["credentials_version"]) == (
        "cluster-wide",
        "admin",
        1,
    )
    nodes = operator.get(f"{API}/clusters/k8s-a/nodes").json()["results"]
    assert [(each["name"], each["gpus"], each["usable"], each["held"]) for each in nodes] == [
        ("gpu-1", 8, 7, 0)
    ]
    assert nodes[0]["driver_version"] == "590.44.01"
    with contextlib.closing(KubeClient(kube.admin)) as client:
        client.delete(NODE, "gpu-1")


def test_no_answer_holds_what_was_given_in_confidence(operator, body, kube):
    secret = body["credentials"]["token"]
    answers = [
        operator.post(f"{API}/clusters:check", {"credentials": body["credentials"]}),
        operator.post(f"{API}/clusters", body),
        operator.post(f"{API}/clusters", body),  # the name is taken
        operator.get(f"{API}/clusters"),
        operator.get(f"{API}/clusters/k8s-a"),
        operator.post(f"{API}/clusters/k8s-a:check"),
        operator.post(f"{API}/clusters/k8s-a/credentials", {"credentials": body["credentials"]}),
        operator.post(f"{API}/clusters", {**body, "name": "B A D"}),
        operator.post(
            f"{API}/clusters", {**body, "credentials": {**body["credentials"], "server": "http://x"}}
        ),
    ]
    assert [each.status_code for each in answers] == [200, 201, 422, 200, 200, 200, 200, 422, 422]
    for each in answers:
        text = each.content.decode()
        assert secret not in text
        assert "BEGIN CERTIFICATE" not in text
    assert secret.encode() not in bytes(Cluster.objects.get(name="k8s-a").credentials)


def test_a_kubeconfig_will_do(operator, body, kube):
    made = register(operator, {**body, "credentials": {"kubeconfig": kubeconfig(kube)}})
    assert made["server"] == kube.server


def test_a_kubeconfig_that_runs_a_program_is_refused(operator, body, kube):
    document = yaml.safe_load(kubeconfig(kube))
    document["users"][0]["user"] = {"exec": {"command": "/bin/sh"}}
    sent = {**body, "credentials": {"kubeconfig": yaml.safe_dump(document)}}
    problem = assert_problem(operator.post(f"{API}/clusters", sent), 422, "invalid")
    assert "exec" in problem["errors"]["kubeconfig"][0]
    assert not Cluster.objects.filter(name="k8s-a").exists()


@pytest.mark.parametrize(
    ("credentials", "field"),
    [
        ({}, "credentials.kubeconfig"),
        ({"kubeconfig": "x", "token": "y"}, "credentials.token"),
        ({"server": "https://x", "colour": "blue"}, "credentials.colour"),
        ({"server": "http://x", "token": "y"}, "server"),
        ({"server": "https://x"}, "token"),
        ({"server": "https://x", "token": "y", "context": "z"}, "credentials.context"),
    ],
)
def test_credentials_that_cannot_be_read_are_named(operator, body, credentials, field):
    response = operator.post(f"{API}/clusters", {**body, "credentials": credentials})
    assert field in assert_problem(response, 422, "invalid")["errors"]


def test_a_check_tells_what_stands_in_the_way_and_keeps_nothing(operator, body, kube):
    works = operator.post(f"{API}/clusters:check", {"credentials": body["credentials"]}).json()
    assert (works["code"], works["missing"], works["user"]) == ("ok", [], "admin")
    away = {**body["credentials"], "server": "https://127.0.0.1:1"}
    refused = operator.post(f"{API}/clusters:check", {"credentials": away}).json()
    assert refused["code"] == "refused"
    assert refused["remedy"]
    nobody = {**body["credentials"], "token": kube.token("nobody")}
    missing = operator.post(f"{API}/clusters:check", {"credentials": nobody}).json()
    assert missing["code"] == "forbidden"
    assert any("list nodes" in each for each in missing["missing"])
    assert not Cluster.objects.filter(driver="kubernetes").exists()


def test_a_cluster_that_does_not_pass_its_check_is_not_registered(operator, body):
    away = {**body["credentials"], "server": "https://127.0.0.1:1"}
    response = operator.post(f"{API}/clusters", {**body, "credentials": away})
    assert "refuses connections" in assert_problem(response, 422, "invalid")["detail"]
    assert not Cluster.objects.filter(name="k8s-a").exists()


def test_a_repeat_with_the_same_key_registers_once(operator, body):
    send = {"path": f"{API}/clusters", "data": body, "headers": {"Idempotency-Key": "once"}}
    first, again = operator.post(**send), operator.post(**send)
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert again["Idempotent-Replayed"] == "true"
    assert Cluster.objects.filter(name="k8s-a").count() == 1
    other = operator.post(f"{API}/clusters", {**body, "name": "k8s-b"}, headers={"Idempotency-Key": "once"})
    assert_problem(other, 422, "idempotency-key-reused")


def test_settings_change_only_from_the_version_that_was_seen(operator, body):
    register(operator, body)
    path = f"{API}/clusters/k8s-a"
    seen = operator.get(path)["ETag"]
    changed = operator.patch(path, {"drift": "report", "tolerate": ["team"]}, headers={"If-Match": seen})
    assert (changed.json()["drift"], changed.json()["tolerate"]) == ("report", ["team"])
    late = operator.patch(path, {"drift": "repair"}, headers={"If-Match": seen})
    assert_problem(late, 412, "stale")
    assert operator.get(path).json()["drift"] == "report"
    for wrong in (
        {"drift": "ignore"},
        {"runtimes": ["vllm"]},
        {"server": "https://x"},
        {"namespaces": ["A b"]},
    ):
        errors = assert_problem(operator.patch(path, wrong), 422, "invalid")["errors"]
        assert {name.split(".")[0] for name in errors} == set(wrong)


def test_what_is_seen_of_a_cluster_does_not_make_its_version_stale(operator, body):
    register(operator, body)
    path = f"{API}/clusters/k8s-a"
    seen = operator.get(path)["ETag"]
    Cluster.objects.filter(name="k8s-a").update(state_reason="Looked at.", version="v1.99")
    assert operator.get(path)["ETag"] == seen


def test_credentials_rotate_when_the_new_ones_work(operator, body, kube):
    register(operator, body)
    path = f"{API}/clusters/k8s-a/credentials"
    bad = {**body["credentials"], "token": "0" * 32}
    problem = assert_problem(operator.post(path, {"credentials": bad}), 422, "invalid")
    assert "not accepted" in problem["detail"]
    assert Cluster.objects.get(name="k8s-a").credentials_version == 1
    fresh = {**body["credentials"], "token": kube.token("admin-2", "system:masters", "system:authenticated")}
    rotated = operator.post(path, {"credentials": fresh})
    assert rotated.status_code == 200, rotated.content
    assert (rotated.json()["credentials_version"], rotated.json()["credentials_name"]) == (2, "admin-2")


def test_cordon_and_uncordon(operator):
    assert operator.post(f"{API}/clusters/de-a:cordon", {"reason": "driver"}).json()["state"] == "cordoned"
    assert_problem(operator.post(f"{API}/clusters/de-a:cordon", {}), 422, "invalid")
    assert operator.post(f"{API}/clusters/de-a:uncordon").json()["state"] == "active"
    assert_problem(operator.post(f"{API}/clusters/de-a:uncordon"), 409, "conflict")


def test_a_cluster_that_is_gone_for_good_is_given_up(operator, owner):
    made = order(owner)
    name = made["revision"]["cluster"]
    path, confirmed = f"{API}/clusters/{name}:declare-lost", {"confirm": name}
    assert_problem(operator.post(path, confirmed), 409, "conflict")
    Cluster.objects.filter(name=name).update(state="unreachable", state_reason="no answer")
    assert "confirm" in assert_problem(operator.post(path, {"confirm": "x"}), 422, "invalid")["errors"]
    answer = operator.post(path, confirmed)
    assert answer.status_code == 200, answer.content
    assert "olga@example.org" in answer.json()["cordon_reason"]
    assert owner.get(f"{API}/endpoints/{made['id']}").json()["revision"] is None


def test_what_operators_do_is_in_their_log(operator, body, caplog, django_capture_on_commit_callbacks, kube):
    with caplog.at_level("INFO", "berth.operator"), django_capture_on_commit_callbacks(execute=True):
        register(operator, body)
        operator.patch(f"{API}/clusters/k8s-a", {"drift": "report"})
        operator.post(f"{API}/clusters/k8s-a/credentials", {"credentials": body["credentials"]})
        operator.post(f"{API}/clusters/k8s-a:cordon", {"reason": "repair"})
        operator.post(f"{API}/clusters/k8s-a:uncordon")
        operator.delete(f"{API}/clusters/k8s-a")
        operator.patch(f"{API}/engine-settings/batch", {"max_num_tokens": 16384})
        operator.post(f"{API}/clusters/mars:uncordon")
    acts = [line for line in caplog.messages if " action=" in line]  # beside what they looked at
    assert [line.split(" action=")[1].split()[0] for line in acts] == [
        "cluster.register", "cluster.change", "cluster.credentials", "cluster.cordon", "cluster.uncordon",
        "cluster.remove", "engine-settings.change",
    ]  # fmt: skip
    assert all("operator=olga@example.org" in line for line in caplog.messages)
    assert body["credentials"]["token"] not in caplog.text


def test_a_cluster_goes_once_nothing_runs_there(operator, body, owner):
    register(operator, body)
    assert operator.delete(f"{API}/clusters/k8s-a").status_code == 204
    assert_problem(operator.get(f"{API}/clusters/k8s-a"), 404, "not-found")
    made = order(owner)
    held = operator.delete(f"{API}/clusters/{made['revision']['cluster']}")
    assert "delete or move" in assert_problem(held, 409, "conflict")["detail"]


def test_lists_page_by_name(operator):
    seen, url = [], f"{API}/clusters?page_size=2"
    while url:
        page = operator.get(url).json()
        seen += [each["name"] for each in page["results"]]
        url = page["next"]
    assert seen == ["de-a", "fi-a", "us-a"]
    assert_problem(operator.get(f"{API}/clusters?colour=blue"), 422, "invalid")


def test_an_image_is_pinned(operator):
    path = f"{API}/engine-images/triton-llmapi"
    assert operator.get(path).json()["pinned"] is False
    sent = {
        "reference": "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3", "digest": DIGEST,
        "min_driver": "590.44.01",
    }  # fmt: skip
    answer = operator.put(path, sent).json()
    assert (answer["pinned"], answer["digest"], answer["min_driver"]) == (True, DIGEST, "590.44.01")
    for wrong in ({"digest": "latest"}, {"reference": "no tag"}, {"min_driver": "new"}, {"colour": "x"}):
        assert_problem(operator.put(path, sent | wrong), 422, "invalid")
    assert EngineImage.objects.get(use="triton-llmapi").digest == DIGEST
    assert_problem(operator.put(f"{API}/engine-images/vllm", sent), 404, "not-found")
    assert "gateway" in [each["use"] for each in operator.get(f"{API}/engine-images").json()["results"]]


def test_engine_settings_change_within_their_bounds(operator):
    path = f"{API}/engine-settings/batch"
    changed = operator.patch(path, {"max_num_tokens": 16384, "kv_cache_dtype": "fp8", "max_batch_size": None})
    assert changed.status_code == 200, changed.content
    assert (changed.json()["max_num_tokens"], changed.json()["kv_cache_dtype"]) == (16384, "fp8")
    assert operator.get(path).json() == changed.json()
    for wrong in (
        {"kv_cache_fraction": 2}, {"scheduler_policy": "fifo"}, {"max_num_tokens": 1}, {"colour": 1},
        {"drain_s": 0},
    ):  # fmt: skip
        assert set(assert_problem(operator.patch(path, wrong), 422, "invalid")["errors"]) == set(wrong)
    assert {each["slo_class"] for each in operator.get(f"{API}/engine-settings").json()["results"]} == {
        each.name for each in SloClass.objects.all()
    }
    assert_problem(operator.get(f"{API}/engine-settings/platinum"), 404, "not-found")


def test_operators_move_endpoints_and_tenants_cannot(operator, owner, tenant):
    made = order(owner)
    path = f"{API}/endpoints/{made['id']}:move"
    target = "fi-a" if made["revision"]["cluster"] == "de-a" else "de-a"
    assert_problem(owner.post(path, {"cluster": target}), 404, "not-found")
    moved = operator.post(path, {"cluster": target})
    assert moved.status_code == 202, moved.content
    assert moved.json()["revision"]["cluster"] == target
    assert moved.json()["generation"] == made["generation"] + 1
    late = operator.post(path, {"cluster": None}, headers={"If-Match": f'W/"{made["generation"]}"'})
    assert_problem(late, 412, "stale")
    assert operator.post(path, {"cluster": None}).status_code == 202
    with scope.tenant(tenant.id):
        assert Endpoint.objects.get(id=made["id"]).cluster is None
    assert_problem(operator.post(path, {"cluster": "mars"}), 422, "invalid")
    far = operator.post(path, {"cluster": "us-a"})
    assert assert_problem(far, 409, "conflict")["refusals"]


def two_revisions(owner, tenant) -> str:
    """Order, move, and let the old revision go; gives the endpoint's id. Revision 1 and 2 have documents."""
    made = order(owner)
    other = "fi-a" if made["revision"]["cluster"] == "de-a" else "de-a"
    with scope.tenant(tenant.id):
        endpoint = Endpoint.objects.get(id=made["id"])
        services.endpoint_move(endpoint=endpoint, cluster=Cluster.objects.get(name=other), actor="test")
        for revision in Revision.objects.filter(endpoint=endpoint):
            documents = {"deployment.yaml": f"name: chat\nreplicas: {revision.number}\n"}
            RenderedConfiguration.objects.create(revision=revision, documents=documents)
        assert Revision.objects.filter(endpoint=endpoint).count() == 2
        Revision.objects.filter(endpoint=endpoint, number=1).update(retired_at=endpoint.created_at)
        Endpoint.objects.filter(id=endpoint.id).update(cluster=None)  # wherever Berth likes
    return made["id"]


def test_the_configuration_of_a_revision_is_shown_whole_and_as_a_diff(owner, tenant, stranger):
    base = f"{API}/endpoints/{two_revisions(owner, tenant)}/revisions"
    whole = owner.get(f"{base}/2/configuration").json()
    assert whole == {
        "revision": 2, "against": None,
        "documents": [{"name": "deployment.yaml", "text": "name: chat\nreplicas: 2\n"}],
    }  # fmt: skip
    diff = owner.get(f"{base}/2/configuration?against=1").json()
    assert "-replicas: 1\n+replicas: 2" in diff["documents"][0]["text"]
    assert_problem(owner.get(f"{base}/9/configuration"), 404, "not-found")
    assert_problem(owner.get(f"{base}/{10**30}/configuration"), 404, "not-found")
    assert_problem(owner.get(f"{base}/2/configuration?against=9"), 404, "not-found")
    assert_problem(owner.get(f"{base}/2/configuration?against=x"), 422, "invalid")
    assert_problem(stranger.get(f"{base}/2/configuration"), 404, "not-found")


def test_a_revision_is_restored_by_those_who_may_order(owner, tenant, stranger):
    endpoint = two_revisions(owner, tenant)
    base = f"{API}/endpoints/{endpoint}/revisions"
    assert_problem(client_of(tenant, Role.VIEWER).post(f"{base}/1:restore"), 403, "forbidden")
    assert_problem(stranger.post(f"{base}/1:restore"), 404, "not-found")
    assert_problem(owner.post(f"{base}/9:restore"), 404, "not-found")
    assert_problem(owner.post(f"{base}/2:restore"), 422, "invalid")
    stale = owner.post(f"{base}/1:restore", headers={"If-Match": 'W/"1"'})
    assert_problem(stale, 412, "stale")
    restored = client_of(tenant, Role.DEVELOPER).post(f"{base}/1:restore", {"in_place": True})
    assert restored.status_code == 202, restored.content
    with scope.tenant(tenant.id):
        assert Endpoint.objects.get(id=endpoint).restoring == 1


def test_a_tenants_secret_is_set_replaced_and_removed_and_never_shown(owner, tenant, stranger):
    model = CatalogModel.objects.get(name="llama-3.1-8b-instruct")
    path = f"{API}/models/{model.name}/secret"
    assert owner.get(path).json() == {"model": model.name, "set": False}
    for value in ("hf_one", "hf_two"):
        answer = owner.put(path, {"values": {"HF_TOKEN": value}})
        assert answer.json() == {"model": model.name, "set": True}
        assert weights_secrets(model, tenant.id) == {"HF_TOKEN": value}
    assert stranger.get(path).json()["set"] is False
    assert owner.delete(path).status_code == 204
    assert weights_secrets(model, tenant.id) == {}
    for wrong in (
        {},
        {"values": {}},
        {"values": {"lower": "x"}},
        {"values": "x"},
        {"values": {"A": "x"}, "b": 1},
    ):
        response = owner.generic("PUT", path, json.dumps(wrong), content_type="application/json")
        assert_problem(response, 422, "invalid")
    for role in (Role.DEVELOPER, Role.BILLING, Role.VIEWER):
        client = client_of(tenant, role)
        assert client.get(path).status_code == 200
        assert_problem(client.put(path, {"values": {"HF_TOKEN": "x"}}), 403, "forbidden")
        assert_problem(client.delete(path), 403, "forbidden")
    assert_problem(owner.put(f"{API}/models/none/secret", {"values": {"A": "x"}}), 404, "not-found")
