"""Letting Berth into a Kubernetes cluster: checked first, sealed, renewed, changed, and taken away."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusters.drivers.base import GiveUp
from clusters.inventory import registration
from clusters.inventory.access import credentials_of
from clusters.inventory.drivers import access_of, driver_of
from clusters.inventory.renewing import credentials_renew_due
from clusters.inventory.services import cluster_cordon, cluster_register, cluster_uncordon
from clusters.kube.client import KubeClient
from clusters.kube.kinds import LEADER_WORKER_SET
from clusters.models import Cluster, Endpoint, EndpointScaling, Gateway, NodePool, Revision
from tenants import scope
from tenants.errors import Conflict, Invalid, Stale
from tests.clusters.inventory.holding import hold
from tests.clusters.inventory.shapes import node, pod
from tests.clusters.inventory.there import admitted, kubeconfig, put
from tests.fakes.kube_api import FakeKube

pytestmark = pytest.mark.django_db


@pytest.fixture
def kube():
    with FakeKube() as kube:
        yield kube


@pytest.fixture
def register(region, kube):
    def register(name="k8s-a", credentials=None, **settings):
        return registration.kubernetes_cluster_register(
            name=name,
            region=region,
            credentials=credentials or admitted(kube),
            runtimes=settings.pop("runtimes", ["triton-llmapi"]),
            **settings,
        )

    return register


def test_a_registered_cluster_shows_its_gpus_at_once(register, kube):
    kube.set_version(1, 36)
    kube.serve(LEADER_WORKER_SET)
    put(kube, node("gpu-1"), node("gpu-2"), pod("gpu-1", 2))
    cluster = register(drift="report", tolerate=["team"])
    assert (cluster.state, cluster.credentials_version, cluster.drift) == ("active", 1, "report")
    assert cluster.credentials_name == "system:serviceaccount:berth-access:berth"
    assert cluster.version.startswith("v1.36")
    assert "leaderworkersets.leaderworkerset.x-k8s.io" in cluster.features
    assert cluster.read_at is not None
    assert cluster.unread == []
    assert NodePool.objects.get().nodes == 2
    facts = access_of(cluster).facts
    assert facts.leader_worker_sets
    assert facts.image_volumes
    assert facts.installation == cluster.id.hex


def test_credentials_rest_sealed_and_open_again(register, kube):
    given = admitted(kube)
    cluster = register(credentials=given)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clusters_cluster::text FROM clusters_cluster WHERE id = %s", [cluster.id])
        (row,) = cursor.fetchone()
        cursor.execute(
            "SELECT encode(credentials, 'escape') FROM clusters_cluster WHERE id = %s", [cluster.id]
        )
        (secret,) = cursor.fetchone()
    assert given.token not in row
    assert given.token not in secret
    assert credentials_of(Cluster.objects.get(id=cluster.id)) == given
    Cluster.objects.filter(id=cluster.id).update(id="0190b0a0-0000-7000-8000-000000000000")
    with pytest.raises(Conflict, match="cannot be opened"):  # what was sealed for another row
        credentials_of(Cluster.objects.get(name="k8s-a"))


def test_a_kubeconfig_is_data_and_nothing_in_it_is_run(kube):
    given = admitted(kube)
    assert registration.credentials_from_kubeconfig(kubeconfig(given)) == given
    with pytest.raises(Invalid) as refused:
        registration.credentials_from_kubeconfig(kubeconfig(given, exec={"command": "/bin/sh"}))
    assert "exec" in refused.value.errors["kubeconfig"][0]
    with pytest.raises(Invalid, match="context"):
        registration.credentials_from_kubeconfig(kubeconfig(given), context="elsewhere")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"server": "http://10.0.0.1", "token": "t"}, "server"),
        ({"server": "https://10.0.0.1"}, "token"),
        ({"server": "https://10.0.0.1", "token": "t", "ca_data": "none"}, "ca_data"),
        ({"server": "https://10.0.0.1", "client_certificate": "none"}, "client_certificate"),
    ],
)
def test_typed_credentials_name_the_field_that_is_wrong(given, field):
    with pytest.raises(Invalid) as refused:
        registration.credentials_given(**given)
    assert list(refused.value.errors) == [field]


def test_typed_credentials_are_taken(kube):
    given = registration.credentials_given(server=f"{kube.server}/", ca_data=kube.ca_data, token=" abc ")
    assert (given.server, given.token) == (kube.server, "abc")
    assert registration.connection_check(credentials=given).code == "unauthorized"


def test_a_missing_permission_is_named_and_nothing_is_registered(register, kube):
    with pytest.raises(Invalid) as refused:
        register(credentials=admitted(kube, without="networkpolicies"))
    (text,) = refused.value.errors["connection"]
    assert "patch networkpolicies.networking.k8s.io" in text
    assert not Cluster.objects.filter(name="k8s-a").exists()


def test_each_failure_of_the_check_is_readable(register, kube):
    kube.set_version(1, 27)
    with pytest.raises(Invalid, match="too old"):
        register()
    kube.set_version(1, 34)
    with pytest.raises(Invalid, match="not accepted"):
        register(credentials=kube.credentials("unknown"))
    credentials = admitted(kube)
    kube.away()
    with pytest.raises(Invalid, match="refuses"):
        register(credentials=credentials)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"drift": "ignore"}, "drift"),
        ({"autoscaler": "magic"}, "autoscaler"),
        ({"autoscaler": "keda"}, "prometheus_url"),
        ({"loader_cidrs": ["10.20.0.1/16"]}, "loader_cidrs"),
        ({"runtimes": ["vllm"]}, "runtimes"),
        ({"namespaces": ["Not_A_Namespace"]}, "namespaces"),
        ({"tolerate": ["a b"]}, "tolerate"),
        ({"gateway_namespace": ""}, "gateway_namespace"),
        ({"storage_class": "Fast!"}, "storage_class"),
        ({"storage_access_mode": "ReadOnlyMany"}, "storage_access_mode"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_settings_are_checked_before_the_cluster_is_asked(register, kube, settings, field):
    credentials = admitted(kube)
    kube.forget_calls()
    with pytest.raises(Invalid) as refused:
        register(credentials=credentials, **settings)
    assert field in refused.value.errors
    assert kube.calls == []


def test_a_name_is_taken_once(register):
    register()
    with pytest.raises(Invalid, match="already exists"):
        register()


def test_what_cannot_be_listed_is_told_and_the_cluster_is_registered(register, kube):
    kube.fail(500, times=20, verb="list", resource="nodes")
    cluster = register()
    assert "cannot be listed" in cluster.unread[0]["why"]
    kube.heal()


def test_new_credentials_are_tried_before_the_old_are_given_up(register, kube):
    cluster = register()
    old = credentials_of(cluster)
    with pytest.raises(Invalid, match="not accepted"):
        registration.credentials_rotate(cluster=cluster, credentials=kube.credentials("unknown"))
    assert credentials_of(Cluster.objects.get(id=cluster.id)) == old
    before = driver_of(cluster)
    rotated = registration.credentials_rotate(cluster=cluster, credentials=kube.admin)
    assert (rotated.credentials_version, rotated.credentials_name) == (2, "admin")
    assert rotated.credentials_expire_at is None
    kube.revoke(old.token)
    after = driver_of(Cluster.objects.get(id=cluster.id))
    assert after is not before
    assert list(after.deployments()) == []
    assert driver_of(Cluster.objects.get(id=cluster.id)) is after


def test_a_token_is_renewed_when_two_thirds_of_its_life_are_over(register, kube):
    cluster = register(credentials=admitted(kube, seconds=3600))
    issued = timezone.now()
    assert cluster.credentials_expire_at > issued + dt.timedelta(minutes=59)
    assert credentials_renew_due(now=issued + dt.timedelta(minutes=30)) == 0
    old = credentials_of(cluster)
    assert credentials_renew_due(now=issued + dt.timedelta(minutes=45)) == 1
    renewed = Cluster.objects.get(id=cluster.id)
    assert credentials_of(renewed).token != old.token
    assert renewed.credentials_version == 2
    kube.revoke(old.token)
    assert registration.connection_check(credentials=credentials_of(renewed)).ok


def test_a_cluster_that_gives_no_new_token_keeps_the_old_one(register, kube):
    cluster = register()
    kube.away()
    assert credentials_renew_due(now=timezone.now() + dt.timedelta(minutes=50)) == 0
    assert Cluster.objects.get(id=cluster.id).credentials_version == 1


def test_settings_can_be_changed(register):
    cluster = register()
    changed = registration.cluster_change(
        cluster=cluster,
        drift="report",
        storage_class="fast.ssd",
        storage_access_mode="ReadWriteOnce",
        tolerate=["team", "team"],
        autoscaler="keda",
        prometheus_url="http://prometheus.monitoring:9090",
    )
    changed.refresh_from_db()
    assert (changed.drift, changed.storage_class, changed.tolerate) == ("report", "fast.ssd", ["team"])
    assert access_of(changed).drift == "report"
    assert access_of(changed).facts.storage_access_mode == "ReadWriteOnce"
    with pytest.raises(Invalid):
        registration.cluster_change(cluster=cluster, drift="ignore")


def test_a_cluster_in_use_keeps_to_its_namespaces_and_stays(register, kube, tenant):
    put(kube, node("gpu-1"))
    cluster = register(credentials=kube.admin)
    revision = hold(tenant, NodePool.objects.get(), nodes=[0], gpus=1)
    with pytest.raises(Invalid, match="namespace is missing"):
        registration.cluster_change(cluster=cluster, namespaces=["chat"])
    with pytest.raises(Conflict, match="namespaces"):
        registration.cluster_change(cluster=cluster, namespaces=["default"])
    with pytest.raises(Conflict, match="1 revisions"):
        registration.cluster_remove(cluster=cluster)
    with scope.platform("a test"):
        Revision.objects.filter(id=revision.id).update(cleaned_at=timezone.now())
    registration.cluster_remove(cluster=cluster)
    kept = Cluster.objects.get(id=cluster.id)  # the revision's history names it
    assert (kept.state, kept.credentials) == ("cordoned", None)
    with pytest.raises(GiveUp, match="no credentials"):
        driver_of(kept)


def test_replicas_are_looked_at_once_somebody_else_decides_on_them(register, kube, tenant):
    put(kube, node("gpu-1"))
    cluster = register(credentials=kube.admin)
    revision = hold(tenant, NodePool.objects.get(), nodes=[0], gpus=1)
    with scope.platform("a test"):
        EndpointScaling.objects.create(
            tenant_id=tenant.id, endpoint=revision.endpoint, enabled=True, since=timezone.now()
        )
    registration.cluster_change(cluster=cluster, drift="report")
    with scope.platform("a test"):
        assert EndpointScaling.objects.get().due_at is None, "one that sleeps is not looked at"
    registration.cluster_change(cluster=cluster, autoscaler="hpa")
    with scope.platform("a test"):
        assert EndpointScaling.objects.get().due_at is not None


def test_nodes_are_read_no_more_where_namespaces_are_given(register, kube):
    put(kube, node("gpu-1"))
    cluster = register(credentials=kube.admin)
    assert NodePool.objects.count() == 1
    changed = registration.cluster_change(cluster=cluster, namespaces=["default"])
    assert changed.namespaces == ["default"]
    assert access_of(changed).namespaces == ("default",)
    assert not NodePool.objects.exists()


def test_a_cluster_that_never_ran_anything_goes_without_a_trace(register, kube, region):
    put(kube, node("gpu-1"))
    cluster = register()
    Gateway.objects.create(name="gw", region=region, cluster=cluster, token_digest="x")
    with pytest.raises(Conflict, match="gateway gw"):
        registration.cluster_remove(cluster=cluster)
    Gateway.objects.all().delete()
    registration.cluster_remove(cluster=cluster)
    assert not Cluster.objects.filter(id=cluster.id).exists()
    assert not NodePool.objects.exists()


def test_only_local_clusters_come_without_credentials(region):
    with pytest.raises(Invalid, match="credentials"):
        cluster_register(name="x", region=region, driver="kubernetes", runtimes=["triton-llmapi"])
    local = cluster_register(name="x", region=region, driver="local", runtimes=["triton-python"])
    with pytest.raises(Conflict, match="no Kubernetes cluster"):
        registration.cluster_change(cluster=local, drift="report")


def test_credentials_of_another_cluster_are_refused(register, kube):
    cluster = register(credentials=kube.admin)
    assert cluster.identity
    with FakeKube() as other, pytest.raises(Invalid, match="another cluster") as refused:
        registration.credentials_rotate(cluster=cluster, credentials=other.admin)
    cluster.refresh_from_db()
    assert cluster.identity in str(refused.value)
    assert (cluster.server, cluster.credentials_version) == (kube.server, 1)


def test_a_cluster_that_is_registered_twice_is_told_on_both(register, kube):
    first = register()
    assert first.unread == []
    second = register("k8s-b")
    assert "registered as k8s-a, too" in second.unread[0]["what"]
    assert second.identity == first.identity


def test_with_given_namespaces_nothing_tells_which_cluster_it_is(register, kube):
    cluster = register(credentials=kube.admin, namespaces=["default"])
    assert cluster.identity == ""
    assert registration.credentials_rotate(cluster=cluster, credentials=kube.admin).credentials_version == 2


def test_the_namespace_of_gateways_stays_while_one_is_there(register, region):
    cluster = register()
    gateway = Gateway.objects.create(name="gw", region=region, cluster=cluster, token_digest="x")
    with pytest.raises(Conflict, match="gateway gw in berth-gateway"):
        registration.cluster_change(cluster=cluster, gateway_namespace="edge")
    registration.cluster_change(cluster=cluster, drift="report", gateway_namespace="berth-gateway")
    gateway.delete()
    assert registration.cluster_change(cluster=cluster, gateway_namespace="edge").gateway_namespace == "edge"


def test_settings_that_were_changed_meanwhile_are_stale(register):
    cluster = register()
    seen = Cluster.objects.get(id=cluster.id)
    registration.cluster_change(cluster=cluster, drift="report")
    with pytest.raises(Stale):
        registration.cluster_change(cluster=seen, only_as_seen=True, storage_class="fast")
    assert registration.cluster_change(cluster=seen, storage_class="fast").drift == "report"


def test_what_was_pinned_to_a_cluster_that_goes_is_placed_freely(register, kube, tenant):
    put(kube, node("gpu-1"))
    cluster = register(credentials=kube.admin)
    revision = hold(tenant, NodePool.objects.get(), nodes=[0], gpus=1)
    with scope.platform("a test"):
        Endpoint.objects.filter(id=revision.endpoint_id).update(cluster=cluster)
        Revision.objects.filter(id=revision.id).update(cleaned_at=timezone.now())
    registration.cluster_remove(cluster=cluster)
    assert Cluster.objects.get(id=cluster.id).removed_at is not None
    with scope.platform("a test"):
        assert Endpoint.objects.get(id=revision.endpoint_id).cluster is None


def test_a_cordon_and_an_outage_do_not_overwrite_each_other(cluster):
    Cluster.objects.filter(id=cluster.id).update(state="unreachable", state_reason="no answer")
    cordoned = cluster_cordon(cluster=cluster, reason="repair")
    assert (cordoned.state, cordoned.state_reason) == ("unreachable", "no answer")
    assert cordoned.cordon_reason == "repair"
    freed = cluster_uncordon(cluster=cluster)
    assert (freed.state, freed.cordon_reason) == ("unreachable", "")
    Cluster.objects.filter(id=cluster.id).update(state="active", state_reason="")
    assert cluster_cordon(cluster=cluster, reason="repair").state == "cordoned"
    assert cluster_uncordon(cluster=cluster).state == "active"
    with pytest.raises(Conflict, match="not cordoned"):
        cluster_uncordon(cluster=cluster)


def test_nobody_waits_behind_a_lock_for_a_cluster_that_is_asked(register, kube, monkeypatch):
    cluster = register(credentials=kube.admin)
    asked, get = [], KubeClient.get
    monkeypatch.setattr(
        KubeClient, "get", lambda *args, **values: asked.append(len(queries)) or get(*args, **values)
    )
    for act in (
        lambda: registration.credentials_rotate(cluster=cluster, credentials=kube.admin),
        lambda: register("k8s-b", credentials=kube.admin),
        lambda: registration.cluster_change(cluster=cluster, namespaces=["default"]),
    ):
        asked.clear()
        with CaptureQueriesContext(connection) as queries:
            act()
        before = [each["sql"] for each in queries.captured_queries[: asked[-1]]]
        assert [sql for sql in before if sql.startswith(("INSERT", "UPDATE")) or " FOR " in sql] == []
        assert any(" FOR " in each["sql"] or each["sql"].startswith("INSERT") for each in queries)
