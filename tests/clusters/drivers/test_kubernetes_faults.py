"""Faults that are made through a cluster's API server: what they do there, and that nothing of them stays."""

from __future__ import annotations

import itertools
import os
import random
import resource
import subprocess
import sys
import time

import pytest

from clusters.drivers.faults import Kind, Plan, Refused, Wish
from clusters.drivers.kubernetes.faults import CONDITION, KubernetesFaults, filling
from clusters.drivers.kubernetes.scope import Scope
from clusters.inventory.faults import Eviction, eviction, node_fault
from clusters.kube import kinds
from clusters.specs import EngineImage, GatewaySpec
from embedded.faults.journal import Fault
from tests.clusters.drivers.contract import observed_ready, until
from tests.clusters.drivers.kubernetes_world import INSTALLATION, NODES, REGISTRY

pytestmark = pytest.mark.kubernetes
NUMBERS = itertools.count(1)
SCOPE = Scope(installation=INSTALLATION)


def wish(kind: Kind, target: str, **more: object) -> Wish:
    return Wish(kind=kind, target=target, seconds=5, rng=random.Random(1), **more)  # type: ignore[arg-type]


def undo(faults: KubernetesFaults, plan: Plan) -> None:
    fault = Fault(id="f", kind="x", target="y", until=0, undo=plan.undo)
    faults.undo(fault)
    faults.undo(fault)  # once more changes nothing


@pytest.fixture
def own(cluster):
    """Faults with the rights of Berth's own account."""
    return KubernetesFaults(cluster.berth(), SCOPE, cluster="k8s-a")


@pytest.fixture
def admin(cluster):
    return KubernetesFaults(cluster.admin, SCOPE, cluster="k8s-a")


@pytest.fixture
def running(cluster):
    spec = cluster.spec(f"practised-{next(NUMBERS)}")  # the one before may be on its way out
    cluster.driver.apply(spec)
    observed_ready(cluster, spec.name, replicas=1)
    return spec


@pytest.fixture
def gateway(cluster):
    """A gateway's pod that is ready."""
    image = EngineImage(reference=f"{REGISTRY}gateway:1", digest=f"sha256:{'b' * 64}")
    spec = GatewaySpec(
        name="gw-1", region="eu-de-1", replicas=1, image=image, control_plane_url="https://berth.example",
        token="berth_gateway_x", peppers={1: "ab" * 32},
    )  # fmt: skip
    cluster.driver.apply_gateway(spec)

    def pod():
        found = cluster.admin.list(kinds.POD, "berth-gateway").items
        return next((each for each in found if (each.get("spec") or {}).get("nodeName")), None)

    yield until(pod, patience_s=cluster.patience_s, what="the gateway's pod")
    until(lambda: cluster.driver.delete_gateway("gw-1"), patience_s=cluster.patience_s, what="its end")


def test_a_killed_engine_is_deleted_without_grace_and_replaced(cluster, own, running):
    (before,) = cluster.driver.observe(running.name).replicas
    plan = own.plan(wish(Kind.KILL, f"engine:{running.name}"))
    assert "delete without grace" in plan.told
    plan.do()
    (after,) = until(
        lambda: [
            each
            for each in cluster.driver.observe(running.name).replicas
            if each.replica_id != before.replica_id
        ],
        patience_s=cluster.patience_s,
        what="another replica",
    )
    assert after.replica_id != before.replica_id
    assert plan.undo == ()


def test_a_cut_engine_is_cut_again_when_berth_repairs_it_and_whole_afterwards(cluster, own, running):
    def policy():
        return cluster.admin.get(kinds.NETWORK_POLICY, running.name, cluster.place(running))["spec"]

    before = policy()
    assert before["ingress"]
    plan = own.plan(wish(Kind.CUT, f"engine:{running.name}"))
    plan.do()
    assert policy()["ingress"] == []
    cluster.driver.apply(running)
    assert policy()["ingress"] == before["ingress"]
    assert plan.hold is not None
    plan.hold()
    assert policy()["ingress"] == []
    undo(own, plan)
    assert policy() == before
    assert cluster.driver.apply(running) is False  # as ordered


def test_a_node_has_a_gpu_fault_as_the_inventory_reads_it_and_has_it_no_more(cluster, own, admin):
    def node():
        return cluster.admin.get(kinds.NODE, NODES[0])

    plan = admin.plan(wish(Kind.GPU, f"node:{NODES[0]}"))
    assert node_fault(node()) == ""
    plan.do()
    fault = node_fault(node())
    assert fault.startswith(f"GPU fault ({CONDITION}): XID 79")
    assert eviction(fault) is Eviction.AT_ONCE
    undo(admin, plan)
    assert node_fault(node()) == ""
    assert all(each["type"] != CONDITION for each in node()["status"]["conditions"])
    with pytest.raises(Refused, match="--kubeconfig"):
        own.plan(wish(Kind.GPU, f"node:{NODES[0]}")).do()
    with pytest.raises(Refused, match="has no node gone"):
        admin.plan(wish(Kind.GPU, "node:gone"))
    with pytest.raises(Refused, match="the target is node:NAME"):
        admin.plan(wish(Kind.GPU, "engine:practised"))


def test_a_lost_region_runs_nothing_until_it_is_back(cluster, admin, running):
    def cordoned():
        nodes = cluster.admin.list(kinds.NODE).items
        return {each["metadata"]["name"] for each in nodes if each["spec"].get("unschedulable")}

    closed = NODES[-1]
    cluster.admin.patch(kinds.NODE, closed, None, {"spec": {"unschedulable": True}})
    try:
        (before,) = cluster.driver.observe(running.name).replicas
        plan = admin.plan(wish(Kind.REGION, "eu-de-1"))
        plan.do()
        try:
            assert set(NODES) <= cordoned()
            replicas = cluster.driver.observe(running.name).replicas
            assert before.replica_id not in {each.replica_id for each in replicas}
        finally:
            undo(admin, plan)
        assert cordoned() == {closed}  # what somebody else cordoned stays so
    finally:
        cluster.admin.patch(kinds.NODE, closed, None, {"spec": {"unschedulable": None}})


def test_a_gateways_volume_is_filled_by_a_pod_beside_it(cluster, own, admin, gateway):
    with pytest.raises(Refused, match="--kubeconfig"):
        own.plan(wish(Kind.FILL, "gateway:gw-1")).do()
    plan = admin.plan(wish(Kind.FILL, "gateway:gw-1"))
    plan.do()
    (step,) = plan.undo
    filler = cluster.admin.get(kinds.POD, step["name"], step["namespace"])
    assert filler["spec"]["nodeName"] == gateway["spec"]["nodeName"]
    assert filler["spec"]["containers"][0]["image"] == gateway["spec"]["containers"][0]["image"]
    undo(admin, plan)
    until(
        lambda: cluster.admin.get(kinds.POD, step["name"], step["namespace"]) is None,
        patience_s=cluster.patience_s,
        what="the filler's end",
    )


def test_what_the_filler_runs_fills_what_there_is_and_frees_it(tmp_path):
    pod = {
        "metadata": {"name": "g-0", "namespace": "n"},
        "spec": {"containers": [{"name": "gateway", "image": "i"}], "volumes": [{"name": "data"}]},
    }
    (container,) = filling(pod, seconds=600)["spec"]["containers"]
    _, _, script, _, seconds = container["command"]
    room = 3 * 2**20 + 4096
    file = tmp_path / "filler"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(file), seconds],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    try:
        deadline = time.monotonic() + 20
        while not file.exists() or os.stat(file).st_size < room:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        assert process.wait(20) == 0
        assert not file.exists()
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("kind", "target", "why"),
    [
        (Kind.PAUSE, "engine:a", "fault cut engine:a"),
        (Kind.SLOW, "gateway:b", "fault cut gateway:b"),
        (Kind.KILL, "web", "engine:NAME, gateway:NAME and node:NAME"),
        (Kind.CUT, "engine:nobody", "No pod of engine nobody"),
        (Kind.FILL, "engine:a", "gateway:NAME"),
    ],
)
def test_what_an_api_server_cannot_do_is_refused_with_the_reason(own, kind, target, why):
    with pytest.raises(Refused, match=why):
        own.plan(wish(kind, target))
