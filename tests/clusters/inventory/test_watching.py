"""The watcher as it runs: threads of its own, real commits, a stand-in for each cluster's API server."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest
from celery.exceptions import OperationalError
from django.db import connection
from django.utils import timezone

from clusters.drivers.base import TryLater
from clusters.endpoints.watching import Watcher
from clusters.inventory import registration, services
from clusters.inventory.drivers import installation_of
from clusters.inventory.reading import inventory_read
from clusters.kube.client import KubeClient
from clusters.kube.kinds import LEADER_WORKER_SET, NODE, POD
from clusters.models import (
    Cluster,
    Condition,
    Endpoint,
    Gateway,
    GpuType,
    Node,
    NodePool,
    Replica,
    Revision,
)
from tenants import scope
from tests.clusters.inventory.holding import hold
from tests.clusters.inventory.shapes import node, pod
from tests.clusters.inventory.there import admitted, put, take
from tests.databases import ROOT
from tests.estate import bootstrap
from tests.factories import make_tenant
from tests.fakes.kube_api import FakeKube

pytestmark = pytest.mark.usefixtures("committed_db")

PATIENCE_S = 180  # a process of its own may take a minute to start where others keep the processors busy


def until(there, what="it happened"):
    """Poll until ``there`` gives something true, and give it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := there()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture
def kube():
    with FakeKube() as kube:
        put(kube, node("gpu-1"), node("gpu-2"))
        yield kube


@pytest.fixture
def region(committed_db):
    bootstrap()
    return services.region_register(code="eu-de-1", name="F", country="DE", zones=["EU"], certifications=[])


@pytest.fixture
def cluster(region, kube):
    return registration.kubernetes_cluster_register(
        name="k8s-a", region=region, credentials=admitted(kube), runtimes=["triton-llmapi"]
    )


@pytest.fixture
def watching(monkeypatch):
    """Run watchers that tick and probe quickly; gives what starts another, and all are stopped in the end."""
    monkeypatch.setattr("clusters.endpoints.watching.TICK_S", 0.1)
    monkeypatch.setattr("clusters.endpoints.watching.LOOK_S", 0.1)
    for name, seconds in (
        ("PROBE_S", 0.2),
        ("PROBE_AGAIN_S", 0.1),
        ("RENEW_EVERY_S", 0.2),
        ("READ_AFTER_S", 0.1),
    ):
        monkeypatch.setattr(f"clusters.endpoints.watching_kubernetes.{name}", seconds)
    with contextlib.ExitStack() as running:

        def start():
            watcher, stop = Watcher(), threading.Event()
            thread = threading.Thread(target=watcher.run, args=(stop,), name="a-watcher")
            thread.start()

            def end():
                stop.set()
                thread.join(PATIENCE_S)
                assert not thread.is_alive()

            running.callback(end)
            return end

        yield start


def held_by(cluster):
    """An endpoint that holds GPUs on the first node, settled."""
    pool = until(lambda: NodePool.objects.filter(cluster=cluster).first())
    revision = hold(make_tenant("acme", gpus=64), pool, nodes=[0], gpus=2)
    return revision.endpoint_id


def is_due(endpoint_id):
    with scope.platform("a test"):
        return Endpoint.objects.get(id=endpoint_id).due_at is not None


def settle(endpoint_id):
    with scope.platform("a test"):
        Endpoint.objects.filter(id=endpoint_id).update(due_at=None)


def state(cluster):
    return Cluster.objects.get(id=cluster.id).state


def watched(kube):
    """Wait until the watches of a cluster are open."""
    until(lambda: kube.watches >= 6, "the watches are open")


def test_a_broken_gpu_is_written_down_and_whoever_holds_gpus_there_is_woken(cluster, kube, watching):
    endpoint_id = held_by(cluster)
    watching()
    watched(kube)
    put(kube, node("gpu-1", conditions={"XIDErrors": "True"}))
    until(lambda: Node.objects.filter(name="gpu-1", fault__contains="XID").exists(), "the fault is read")
    until(lambda: is_due(endpoint_id), "its holder is woken")
    take(kube, NODE, "gpu-2")
    until(lambda: Node.objects.get(name="gpu-2").gone_at, "the node is seen to be gone")


def test_pods_of_others_are_counted_as_they_come_and_go(cluster, kube, watching):
    watching()
    watched(kube)
    other = pod("gpu-1", 3)
    put(kube, other)
    until(lambda: Node.objects.get(name="gpu-1").foreign == 3)
    take(kube, POD, other["metadata"]["name"], "default")
    until(lambda: Node.objects.get(name="gpu-1").foreign == 0)


def test_a_change_of_our_objects_wakes_the_endpoint_or_the_gateway_they_are_of(
    cluster, kube, watching, region
):
    endpoint_id = held_by(cluster)
    gateway = Gateway.objects.create(name="gw", region=region, cluster=cluster, token_digest="x")
    watching()
    watched(kube)
    settle(endpoint_id)
    ours = pod("gpu-1", 2, installation=installation_of(cluster))
    ours["metadata"]["labels"]["berth.dev/endpoint"] = str(endpoint_id)
    put(kube, ours)
    until(lambda: is_due(endpoint_id), "the endpoint is woken")
    theirs = pod("gpu-1", 0, installation=installation_of(cluster))
    theirs["metadata"]["labels"]["berth.dev/gateway"] = str(gateway.id)
    odd = pod("gpu-1", 0, installation=installation_of(cluster))
    odd["metadata"]["labels"]["berth.dev/endpoint"] = "no-uuid"
    put(kube, odd, theirs)
    until(lambda: Gateway.objects.get(id=gateway.id).due_at, "the gateway is woken")
    assert Node.objects.get(name="gpu-1").foreign == 0


def test_what_another_installation_does_wakes_nobody(cluster, kube, watching):
    endpoint_id = held_by(cluster)
    watching()
    watched(kube)
    settle(endpoint_id)
    stranger = pod("gpu-1", 1, installation=uuid.uuid4().hex)
    stranger["metadata"]["labels"]["berth.dev/endpoint"] = str(endpoint_id)
    put(kube, stranger)
    until(lambda: Node.objects.get(name="gpu-1").foreign == 1)  # it was seen, as a stranger's
    assert not is_due(endpoint_id)


def test_a_cluster_that_is_away_slows_no_other_and_comes_back(cluster, kube, watching, region):
    with FakeKube() as second:
        put(second, node("gpu-9"))
        other = registration.kubernetes_cluster_register(
            name="k8s-b", region=region, credentials=admitted(second), runtimes=["triton-llmapi"]
        )
        watching()
        watched(kube)
        watched(second)
        kube.away()
        until(lambda: state(cluster) == "unreachable")
        assert Cluster.objects.get(id=cluster.id).state_reason
        put(second, node("gpu-9", conditions={"XIDErrors": "True"}))
        until(lambda: Node.objects.filter(name="gpu-9").exclude(fault="").exists(), "the other is read")
        assert state(other) == "active"
        assert Node.objects.filter(name="gpu-1", gone_at=None).exists()  # nothing is concluded from silence
        kube.back()
        until(lambda: state(cluster) == "active")
        put(kube, node("gpu-3"))
        until(lambda: Node.objects.filter(name="gpu-3").exists(), "it is read again")


def test_whoever_was_told_that_a_cordoned_cluster_is_away_is_woken_when_it_is_back(cluster, kube, watching):
    endpoint_id = held_by(cluster)
    services.cluster_cordon(cluster=cluster, reason="repair")
    watching()
    watched(kube)
    settle(endpoint_id)
    kube.away()
    with scope.platform("a test"):
        tenant_id = Endpoint.objects.get(id=endpoint_id).tenant_id
    with scope.tenant(tenant_id):
        Condition.objects.create(
            tenant_id=tenant_id, endpoint_id=endpoint_id, type="Reachable", status="true", reason="r", message="m",
            observed_generation=1, changed_at=timezone.now(),
        )  # fmt: skip
    until(lambda: is_due(endpoint_id), "it is told")
    assert state(cluster) == "unreachable"  # so that no pass dials it
    with scope.tenant(tenant_id):
        Condition.objects.update(status="false")  # as its pass writes it
    settle(endpoint_id)
    kube.back()
    until(lambda: is_due(endpoint_id), "it is told again")
    assert state(cluster) == "cordoned"
    assert Cluster.objects.get(id=cluster.id).state_reason == "repair"


def test_kinds_that_a_cluster_gets_later_are_watched_from_then_on(cluster, kube, watching, monkeypatch):
    monkeypatch.setattr("clusters.endpoints.watching_kubernetes.ABOUT_EVERY_S", 0.2)
    watching()
    until(lambda: kube.watches == 6)
    kube.serve(LEADER_WORKER_SET)
    until(lambda: kube.watches == 7)


@pytest.mark.parametrize("trouble", ["expire", "reset_watches"])
def test_a_watch_that_ends_is_begun_anew_and_nothing_is_missed(cluster, kube, watching, trouble):
    watching()
    watched(kube)
    getattr(kube, trouble)()
    put(kube, node("gpu-3"))
    until(lambda: Node.objects.filter(name="gpu-3").exists())


def test_credentials_that_are_no_longer_accepted_are_told_and_new_ones_followed(cluster, kube, watching):
    watching()
    watched(kube)
    kube.revoke(registration.credentials_of(cluster).token)
    until(lambda: state(cluster) == "unreachable")
    assert "credentials" in Cluster.objects.get(id=cluster.id).state_reason
    registration.credentials_rotate(cluster=cluster, credentials=admitted(kube))
    until(lambda: state(cluster) == "active")
    put(kube, node("gpu-3"))
    until(lambda: Node.objects.filter(name="gpu-3").exists())


def test_where_namespaces_are_given_only_those_are_watched(region, kube, watching):
    with contextlib.closing(KubeClient(kube.admin)) as client:
        for name in ("chat", "batch"):
            client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster = registration.kubernetes_cluster_register(
        name="k8s-n",
        region=region,
        credentials=kube.admin,
        runtimes=["triton-llmapi"],
        namespaces=["chat", "batch"],
    )
    pool = services.pool_add(
        cluster=cluster, name="h100", gpu_type=GpuType.objects.get(name="h100_sxm"), nodes=1, gpus_per_node=8
    )
    kube.forget_calls()
    endpoint_id = hold(make_tenant("acme"), pool, nodes=[0], gpus=1).endpoint_id
    watching()
    until(lambda: kube.watches == 8, "four kinds in two namespaces")
    settle(endpoint_id)
    ours = pod("gpu-1", 1, installation=installation_of(cluster))
    ours["metadata"] |= {"namespace": "chat"}
    ours["metadata"]["labels"]["berth.dev/endpoint"] = str(endpoint_id)
    put(kube, ours)
    until(lambda: is_due(endpoint_id))
    reads = {(call.resource, call.namespace) for call in kube.calls if call.verb in ("list", "watch")}
    assert {namespace for _, namespace in reads} == {"chat", "batch"}
    assert "nodes" not in {resource for resource, _ in reads}


def test_clusters_that_come_and_go_are_noticed(region, kube, watching):
    watching()
    cluster = registration.kubernetes_cluster_register(
        name="k8s-new", region=region, credentials=admitted(kube), runtimes=["triton-llmapi"]
    )
    watched(kube)
    registration.cluster_remove(cluster=cluster)
    until(lambda: kube.watches == 0, "nothing is watched there any more")


def test_a_list_that_is_refused_is_told_and_pools_stay(cluster, kube, watching, region):
    kube.fail(
        403, times=10_000, reason="Forbidden", message="nodes is forbidden", verb="list", resource="nodes"
    )
    watching()
    until(lambda: Cluster.objects.get(id=cluster.id).unread, "it is told")
    assert "forbidden" in Cluster.objects.get(id=cluster.id).unread[0]["why"]
    assert NodePool.objects.get().nodes == 2
    kube.heal()
    until(lambda: not Cluster.objects.get(id=cluster.id).unread, "it is read again")


def test_a_picture_that_is_no_longer_kept_true_is_not_told_as_new(cluster, kube, watching, monkeypatch):
    monkeypatch.setattr("clusters.endpoints.watching_kubernetes.PATIENCE_S", 0.0)
    monkeypatch.setattr("clusters.endpoints.watching_kubernetes.READ_EVERY_S", 0.1)
    monkeypatch.setattr("clusters.inventory.reading.NOTE_READ_EVERY", dt.timedelta())
    watching()
    watched(kube)
    for verb in ("list", "watch"):
        kube.fail(
            403, times=10_000, reason="Forbidden", message="nodes is forbidden", verb=verb, resource="nodes"
        )
    kube.reset_watches()
    until(lambda: Cluster.objects.get(id=cluster.id).unread, "it is told")
    last = Cluster.objects.get(id=cluster.id).read_at
    put(kube, pod("gpu-1", 3))  # of the pods there is news, of the nodes there is none
    until(lambda: "forbidden" in str(Cluster.objects.get(id=cluster.id).unread), "why is told")
    assert Cluster.objects.get(id=cluster.id).read_at == last
    kube.heal()
    until(lambda: not Cluster.objects.get(id=cluster.id).unread, "it is read again")
    assert Cluster.objects.get(id=cluster.id).read_at > last


def test_a_wake_that_was_lost_is_made_good(cluster, kube, watching, monkeypatch):
    monkeypatch.setattr("clusters.endpoints.watching_kubernetes.LOOK_EVERY_S", 0.1)
    endpoint_id = held_by(cluster)
    with scope.platform("a test"):
        revision = Revision.objects.get(endpoint=endpoint_id)
    with scope.tenant(revision.tenant_id):
        Replica.objects.create(
            tenant_id=revision.tenant_id, endpoint_id=endpoint_id, revision=revision, replica_id="r-1",
            index=0, phase="ready", node="gpu-1", started_at=timezone.now(),
        )  # fmt: skip
    broken = node("gpu-1", conditions={"XIDErrors": "True"})
    put(kube, broken)
    inventory_read(
        cluster, nodes=[broken, node("gpu-2")], pods=[], now=timezone.now()
    )  # and nobody was woken
    settle(endpoint_id)
    watching()
    until(lambda: is_due(endpoint_id))


def test_of_two_watchers_one_watches_and_the_other_takes_over(cluster, kube, watching):
    end_first = watching()
    watched(kube)
    alone = kube.watches
    watching()
    put(kube, node("gpu-3"))
    until(lambda: Node.objects.filter(name="gpu-3").exists())
    assert kube.watches == alone
    end_first()
    put(kube, node("gpu-4"))
    until(lambda: Node.objects.filter(name="gpu-4").exists(), "the other has taken over")
    watched(kube)


def test_a_database_that_throws_everybody_out_is_come_back_to(cluster, kube, watching):
    watching()
    watched(kube)
    for _ in range(3):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
            )
    put(kube, node("gpu-3"))
    until(lambda: Node.objects.filter(name="gpu-3").exists())


def test_a_broker_that_is_away_costs_only_the_hurry(cluster, kube, watching, monkeypatch):
    def away(*args, **kwargs):
        raise OperationalError("refused")

    monkeypatch.setattr("clusters.endpoints.wake.current_app.send_task", away)
    endpoint_id = held_by(cluster)
    watching()
    watched(kube)
    put(kube, node("gpu-1", conditions={"XIDErrors": "True"}))
    until(lambda: is_due(endpoint_id), "the row is due for the sweeper")


def test_local_clusters_are_asked_all_the_time(region, watching, monkeypatch):
    local = services.cluster_register(name="here", region=region, driver="local", runtimes=["triton-python"])

    class Driver:
        error: Exception | None = TryLater("the supervisor is not running")
        asked = 0

        def deployments(self):
            self.asked += 1
            if self.error:
                raise self.error
            return []

    driver = Driver()
    monkeypatch.setattr("clusters.inventory.drivers.driver_for", lambda *how: driver)
    watching()
    until(lambda: state(local) == "unreachable")
    driver.error = ValueError("a bug")  # even then the next looks come
    so_far = driver.asked
    until(lambda: driver.asked > so_far + 2)
    driver.error = None
    until(lambda: state(local) == "active")
    assert Cluster.objects.get(id=local.id).last_seen_at <= timezone.now()


def test_all_threads_end_with_the_watcher(cluster, kube, watching):
    before = set(threading.enumerate())
    end = watching()
    watched(kube)
    end()
    until(lambda: set(threading.enumerate()) <= before, "its threads are gone")
    until(lambda: kube.watches == 0, "no watch is left open")


def test_the_process_ends_cleanly_when_it_is_told_to(committed_db, cluster, kube, tmp_path):
    environment = os.environ | {
        "DATABASE_URL": committed_db,
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
    }
    command = [sys.executable, "manage.py", "watch_clusters"]
    log = tmp_path / "stderr"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=errors) as process,
    ):
        try:
            until(lambda: kube.watches >= 6 or process.poll() is not None, "the watches are open")
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            print(log.read_text())
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()
    until(lambda: kube.watches == 0, "no watch is left open")
