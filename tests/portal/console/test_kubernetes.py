"""Kubernetes clusters in the console: registering, checking, what is shown of one, the way out."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from clusters.inventory import registration
from clusters.kube.client import KubeClient
from clusters.kube.kinds import NODE
from clusters.models import Cluster, NodePool, Region
from tenants import scope
from tests.api.test_clusters import kubeconfig
from tests.clusters.inventory.shapes import node
from tests.fakes.kube_api import FakeKube

HTMX = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def kube():
    with FakeKube() as server:
        with contextlib.closing(KubeClient(server.admin)) as client:
            for shape in (node("gpu-1"), node("gpu-2", conditions={"Ready": "False"})):
                name = shape["metadata"]["name"]
                client.create(NODE, {"apiVersion": "v1", "kind": "Node", **shape})
                status = [{"op": "add", "path": "/status", "value": shape["status"]}]
                client.patch(NODE, name, None, status, subresource="status")
        yield server


@pytest.fixture
def form(estate, kube) -> dict:
    """A form that registers a cluster."""
    return {
        "name": "k8s-a", "region": str(Region.objects.get(code="eu-de-1").id), "runtimes": ["triton-llmapi"],
        "mode": "cluster-wide", "server": kube.server, "ca_data": kube.ca_data, "token": kube.admin.token,
    }  # fmt: skip


@pytest.fixture
def cluster(estate, kube) -> Cluster:
    """A registered cluster with two nodes, one of which is faulty."""
    return registration.kubernetes_cluster_register(
        name="k8s-a", region=Region.objects.get(code="eu-de-1"), credentials=kube.admin,
        runtimes=["triton-llmapi"],
    )  # fmt: skip


def register(console, form):
    return console.post(reverse("console:cluster-register"), form)


def test_a_cluster_is_registered_by_token(console, form):
    answer = register(console, form)
    assert answer["Location"] == reverse("console:cluster", args=["k8s-a"])
    cluster = Cluster.objects.get(name="k8s-a")
    assert (cluster.driver, cluster.credentials_name) == ("kubernetes", "admin")
    assert "gpu-1" in console.get(answer["Location"]).text


@pytest.mark.parametrize("way", ["pasted", "uploaded"])
def test_a_cluster_is_registered_by_kubeconfig(console, form, kube, way):
    for name in ("server", "ca_data", "token"):
        del form[name]
    text = kubeconfig(kube)
    given = {"kubeconfig": text} if way == "pasted" else {
        "kubeconfig_file": SimpleUploadedFile("config", text.encode())
    }  # fmt: skip
    assert register(console, form | given).status_code == 302
    assert Cluster.objects.get(name="k8s-a").server == kube.server


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"server": ""}, "server", "Say where the API server is"),
        ({"server": "http://x"}, "server", "https"),
        ({"token": "", "server": "", "ca_data": ""}, "kubeconfig", "Give a kubeconfig"),
        ({"kubeconfig": "kind: Config"}, "server", "one or the other"),
        ({"mode": "namespaces"}, "namespaces", "at least one"),
        ({"namespaces": "team-a"}, "namespaces", "Leave this empty"),
        ({"name": "de-a"}, "name", "already exists"),
        ({"server": "https://127.0.0.1:1"}, "__all__", "refuses connections"),
    ],
)
def test_a_refusal_names_the_field_and_never_gives_a_secret_back(console, form, change, field, message):
    answer = register(console, form | change)
    assert answer.status_code == 422
    assert message in " ".join(answer.context["form"].errors[field])
    assert f'value="{(form | change)["name"]}"' in answer.text
    assert form["token"] not in answer.text
    assert "BEGIN CERTIFICATE" not in answer.text
    if "token" not in change:
        assert "Paste it again" in " ".join(answer.context["form"].errors["token"])
    assert not Cluster.objects.filter(name="k8s-a").exists()


def test_a_file_that_is_no_text_is_refused(console, form):
    del form["token"], form["server"], form["ca_data"]
    upload = SimpleUploadedFile("config", b"\xff\xfe\x00")
    answer = register(console, form | {"kubeconfig_file": upload})
    assert answer.status_code == 422
    assert "UTF-8" in str(answer.context["form"].errors["kubeconfig_file"])


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_check_tells_the_result_and_saves_nothing(console, form, kube, headers):
    path = reverse("console:cluster-register")
    sent = form | {"check": "1", "name": "", "region": ""}
    works = console.post(path, sent, headers=headers)
    assert works.status_code == 200
    assert "The connection works" in works.text
    refused = console.post(path, sent | {"server": "https://127.0.0.1:1"}, headers=headers)
    assert "The address refuses connections" in refused.text
    assert "What to do" in refused.text
    missing = console.post(path, sent | {"token": kube.token("nobody")}, headers=headers)
    assert "get, list, watch nodes" in missing.text
    unreadable = console.post(path, sent | {"server": ""}, headers=headers)
    assert "Say where the API server is" in unreadable.text
    for answer in (works, refused, missing, unreadable):
        assert form["token"] not in answer.text
        assert ("<form" in answer.text) is not bool(headers)
    assert not Cluster.objects.filter(driver="kubernetes").exists()


def test_without_javascript_a_checked_secret_is_asked_for_again(console, form):
    answer = console.post(reverse("console:cluster-register"), form | {"check": "1"})
    assert "Paste it again" in answer.text
    assert "Nothing was saved yet" not in answer.text
    assert answer.context["form"].fields["name"].required
    assert f'value="{form["name"]}"' in answer.text


def test_a_cluster_shows_its_nodes_and_what_is_wrong_with_them(console, cluster):
    answer = console.get(reverse("console:cluster", args=["k8s-a"]))
    nodes = {each["name"]: each for pool in answer.context["pools"] for each in pool["nodes"]}
    assert (nodes["gpu-1"]["state"], nodes["gpu-1"]["free"]) == ("active", 8)
    assert (nodes["gpu-2"]["state"], nodes["gpu-2"]["free"], nodes["gpu-2"]["faulty"]) == ("failed", 0, 8)
    assert nodes["gpu-2"]["fault"] in answer.text
    assert "590.44.01" in answer.text
    home = console.get(reverse("console:home")).text
    assert "gpu-2" in home
    assert "No image is pinned for triton-llmapi" in home


def test_what_could_not_be_read_is_shown_with_what_to_do(console, cluster):
    unread = [{"what": "Node odd", "why": "No <figures>.", "todo": "Declare a pool."}]
    Cluster.objects.filter(id=cluster.id).update(unread=unread)
    page = console.get(reverse("console:cluster", args=["k8s-a"])).text
    assert "No &lt;figures&gt;." in page
    assert "Declare a pool." in page


def test_a_cluster_without_gpus_says_what_is_needed(console, cluster):
    with scope.platform("tidy in a test"):
        NodePool.objects.filter(cluster=cluster).delete()
    page = console.get(reverse("console:cluster", args=["k8s-a"])).text
    assert "GPU Feature Discovery" in page
    Cluster.objects.filter(id=cluster.id).update(namespaces=["team-a"])
    page = console.get(reverse("console:cluster", args=["k8s-a"])).text
    assert "reads no nodes" in page
    assert "GPU Feature Discovery" not in page


@pytest.mark.parametrize(
    ("name", "hours", "told"),
    [
        ("admin", -1, "have expired"),
        ("admin", 72, "expire soon"),
        ("admin", 2400, ""),
        ("system:serviceaccount:berth-system:berth", 8, ""),  # renewed by Berth itself
        ("system:serviceaccount:berth-system:berth", 0.1, "expire soon"),
    ],
)
def test_credentials_that_end_are_pointed_out(console, cluster, name, hours, told):
    ends = timezone.now() + dt.timedelta(hours=hours)
    Cluster.objects.filter(id=cluster.id).update(credentials_expire_at=ends, credentials_name=name)
    for path in (reverse("console:cluster", args=["k8s-a"]), reverse("console:home")):
        page = console.get(path).text
        assert (told in page) if told else ("expire soon" not in page and "have expired" not in page)


def test_the_kept_credentials_can_be_tried(console, cluster, kube):
    path = reverse("console:cluster-check", args=["k8s-a"])
    assert "The connection works" in console.post(path).text
    assert "<form" not in console.post(path, headers=HTMX).text
    assert console.get(path).status_code == 405
    assert console.post(reverse("console:cluster-check", args=["de-a"])).status_code == 404


def test_credentials_are_rotated_only_by_ones_that_work(console, cluster, kube):
    path = reverse("console:cluster-rotate", args=["k8s-a"])
    given = {"server": kube.server, "ca_data": kube.ca_data}
    refused = console.post(path, given | {"token": "nonsense-nonsense"})
    assert refused.status_code == 422
    assert "not accepted" in refused.text
    assert "nonsense-nonsense" not in refused.text
    fresh = kube.token("admin-2", "system:masters", "system:authenticated")
    answer = console.post(path, given | {"token": fresh}, follow=True)
    assert "new credentials" in answer.text
    cluster.refresh_from_db()
    assert (cluster.credentials_version, cluster.credentials_name) == (2, "admin-2")


def test_settings_are_changed_and_a_wrong_one_is_refused_beside_its_field(console, cluster):
    path = reverse("console:cluster-settings", args=["k8s-a"])
    form = {
        "runtimes": ["triton-llmapi", "trtllm-serve"], "namespaces": "", "drift": "report", "autoscaler": "keda",
        "prometheus_url": "http://prometheus.monitoring:9090", "loader_cidrs": "10.20.0.0/16", "dra": "on",
        "storage_class": "fast", "storage_access_mode": "ReadWriteOnce",
        "pull_secret": "", "prometheus_namespace": "monitoring",
        "gateway_namespace": "berth-system", "kueue_queue": "", "tolerate": "team, spot",
    }  # fmt: skip
    answer = console.post(path, form | {"storage_class": "Not a name"})
    assert answer.status_code == 422
    assert answer.context["form"].errors["storage_class"]
    assert console.post(path, form).status_code == 302
    cluster.refresh_from_db()
    assert (cluster.drift, cluster.autoscaler, cluster.tolerate) == ("report", "keda", ["team", "spot"])
    assert cluster.storage_access_mode == "ReadWriteOnce"
    assert "one node at a time" in console.get(reverse("console:cluster", args=["k8s-a"])).text
    assert console.get(reverse("console:cluster-settings", args=["de-a"])).status_code == 404


def test_the_reserve_of_a_discovered_pool_can_be_set_and_its_nodes_cannot(console, cluster):
    pool = NodePool.objects.get(cluster=cluster)
    path = reverse("console:pool-change", args=["k8s-a", pool.name])
    assert 'name="nodes"' not in console.get(path).text
    console.post(path, {"reserve": "4", "nodes": "1", "higher_share": "50"})
    pool.refresh_from_db()
    assert (pool.reserve, pool.nodes) == (4, 2)


def test_a_pool_of_given_namespaces_is_declared_with_its_labels(console, cluster):
    Cluster.objects.filter(id=cluster.id).update(namespaces=["team-a"])
    path = reverse("console:pool-add", args=["k8s-a"])
    pool = NodePool.objects.get(cluster=cluster)
    form = {
        "name": "by-hand", "gpu_type": str(pool.gpu_type_id), "nodes": "1", "gpus_per_node": "8", "reserve": "0",
        "resource": "nvidia.com/gpu", "selector": "nvidia.com/gpu.product=X\nteam=a", "driver_version": "",
    }  # fmt: skip
    assert console.post(path, form | {"selector": "nonsense"}).status_code == 422
    assert console.post(path, form).status_code == 302
    made = NodePool.objects.get(cluster=cluster, name="by-hand")
    assert made.selector == {"nvidia.com/gpu.product": "X", "team": "a"}


def test_deregistering_takes_the_name(console, cluster):
    path = reverse("console:cluster-remove", args=["k8s-a"])
    assert console.post(path, {"confirm": "k8s"}).status_code == 422
    assert Cluster.objects.filter(name="k8s-a").exists()
    assert "is deregistered" in console.post(path, {"confirm": "k8s-a"}, follow=True).text
    assert not Cluster.objects.filter(name="k8s-a").exists()


def test_a_cluster_with_endpoints_says_which_must_go_first(console, endpoint):
    with scope.platform("look in a test"):
        name = Cluster.objects.get(revisions__endpoint=endpoint).name
    page = console.get(reverse("console:cluster-remove", args=[name]))
    assert reverse("console:endpoint", args=[endpoint.id]) in page.text
    assert 'name="confirm"' not in page.text
    assert console.post(reverse("console:cluster-remove", args=[name]), {"confirm": name}).status_code == 409
