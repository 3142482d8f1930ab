"""What is made once, what is left as it is, and what is taken back: claims, jobs, secrets, namespaces."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.drivers.base import TryLater
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.specs import Phase, Placement, Trouble
from tests.clusters.drivers.contract import deleted, observed_ready, until
from tests.clusters.drivers.kubernetes_world import INSTALLATION
from tests.clusters.drivers.test_kubernetes_troubles import FETCHED, TOKEN, troubled
from tests.fakes.kubelet import Fault

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def admin(cluster):
    """The cluster's administrator, with tools of their own."""
    client = KubeClient(cluster.server.admin, field_manager="admin")
    yield client
    client.close()


def fetched(cluster, name, **changes):
    return cluster.spec(name, runtime="triton-llmapi", weights=FETCHED, **changes)


def brought_up(cluster, spec) -> None:
    def up() -> bool:
        cluster.driver.apply(spec)
        status = cluster.driver.observe(spec.name)
        return bool(status) and [r.phase for r in status.replicas] == [Phase.READY]

    until(up, patience_s=cluster.patience_s, what=f"{spec.name} ready")


def the(cluster, kind, spec):
    (found,) = cluster.admin.list(kind, cluster.place(spec)).items
    return found


def test_a_claim_that_an_administrator_brought_stays_with_its_namespace(cluster, admin):
    spec = cluster.spec("beside-weights")
    cluster.driver.apply(spec)
    place = cluster.place(spec)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights", "namespace": place},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    admin.create(kinds.PVC, claim, place)
    deleted(cluster, spec.name)
    assert admin.get(kinds.PVC, "weights", place) is not None
    assert not (admin.get(kinds.NAMESPACE, place)["metadata"]).get("deletionTimestamp")
    left = {kind for kind, _ in cluster.everything(place)}
    assert not left & {"Deployment", "Pod", "Job", "Service", "PodDisruptionBudget", "Secret"}
    cluster.driver.apply(spec)  # it may come back there
    observed_ready(cluster, spec.name, replicas=1)
    deleted(cluster, spec.name)
    admin.delete(kinds.PVC, "weights", place)
    admin.delete(kinds.NAMESPACE, place)


@pytest.mark.parametrize("other_can_be_read", [True, False])
def test_a_deployment_is_gone_only_once_its_jobs_hold_nothing(cluster, admin, other_can_be_read):
    name = "job-goes" if other_can_be_read else "job-goes-blind"
    spec = fetched(cluster, name)
    other = cluster.spec(f"{name}-other", owner=spec.owner)
    cluster.driver.apply(other)
    place = cluster.place(spec)
    cluster.kubelet.faults["fetch"] = Fault("stuck", job="load-")
    cluster.driver.apply(spec)
    if not other_can_be_read:
        mark = {"metadata": {"annotations": {"berth.dev/spec": "{}"}}}
        admin.patch(kinds.DEPLOYMENT, other.name, place, mark)

    def jobs_pods() -> list:
        found = admin.list(kinds.POD, place, labels="batch.kubernetes.io/job-name").items
        return found if all(each["spec"].get("nodeName") for each in found) else []

    until(jobs_pods, patience_s=cluster.patience_s, what="the job's pod")
    cluster.kubelet.drain_s = 0.5
    try:
        assert cluster.driver.delete(spec.name) is False
        deleted(cluster, spec.name)
        assert jobs_pods() == []
        assert admin.list(kinds.JOB, place).items == []
    finally:
        cluster.kubelet.drain_s = 0.1
        cluster.kubelet.heal()
    deleted(cluster, other.name)


def test_two_who_share_a_claim_do_not_write_it_by_turns(cluster):
    one = fetched(cluster, "sharing-one")
    two = dataclasses.replace(
        fetched(cluster, "sharing-two", owner=one.owner),
        labels=one.labels | {"tenant": "t-1", "endpoint": "e-2"},
    )
    two = dataclasses.replace(two, placement=Placement(node_selector={"nvidia.com/gpu.present": "true"}))
    for spec in (one, two):
        brought_up(cluster, spec)
    claim = the(cluster, kinds.PVC, one)
    assert "berth.dev/render" not in (claim["metadata"].get("annotations") or {})
    writes = cluster.writes()
    for spec in (one, two, one, two):
        assert cluster.driver.apply(spec) is False
    assert cluster.writes() == writes
    for spec in (one, two):
        deleted(cluster, spec.name)


def test_a_claim_that_cannot_grow_is_noted_and_asked_once(cluster):
    """No storage class there lets claims grow: the engine runs on all the same."""
    spec = fetched(cluster, "growing")
    brought_up(cluster, spec)
    larger = dataclasses.replace(spec, weights=dataclasses.replace(FETCHED, size_gib=90))
    name = the(cluster, kinds.PVC, spec)["metadata"]["name"]
    cluster.driver.apply(larger)
    found = the(cluster, kinds.PVC, spec)
    writes = cluster.writes()
    assert cluster.driver.apply(larger) is False
    assert cluster.writes() == writes
    drift = cluster.driver.observe("growing").drift
    asked = found["spec"]["resources"]["requests"]["storage"]
    grew = asked not in ("7Gi", "6656Mi", "6Gi")
    assert grew or [each for each in drift if f"{name} has {asked}" in each and "cannot grow" in each], drift
    deleted(cluster, "growing")


def test_what_a_webhook_changes_each_time_is_written_once(cluster, admin):
    driver = cluster.driver_with()
    apply = driver.client.apply

    def mutated(obj, **how):
        live = apply(obj, **how)
        if live["kind"] != "Deployment":
            return live
        steps = [{"op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 7}]
        meta = live["metadata"]
        return admin.patch(kinds.DEPLOYMENT, meta["name"], meta["namespace"], steps)

    driver.client.apply = mutated
    spec = cluster.spec("mutated")
    assert driver.apply(spec) is True
    writes = cluster.writes()
    assert driver.apply(spec) is False
    assert cluster.writes() == writes
    assert driver.drifted([spec]) == {"mutated": ()}
    (drift,) = driver.observe("mutated").drift
    assert "terminationGracePeriodSeconds is 7, ordered" in drift
    # Something else is put right as ever.
    admin.patch(kinds.DEPLOYMENT, "mutated", cluster.place(spec), {"spec": {"replicas": 2}})
    assert driver.drifted([spec])["mutated"]
    assert driver.apply(spec) is True
    assert driver.apply(spec) is False
    driver.close()
    deleted(cluster, "mutated")


def test_a_failed_fetch_is_tried_again_with_another_key(cluster):
    spec = fetched(cluster, "refetched", secrets={"HF_TOKEN": TOKEN})
    sharing = fetched(cluster, "refetched-too", owner=spec.owner, secrets={"HF_TOKEN": TOKEN})
    cluster.kubelet.faults["fetch"] = Fault("job", "403", job="load-")
    for each in (spec, sharing):
        cluster.driver.apply(each)
    failed = troubled(cluster, spec.name, Trouble.WEIGHTS)
    assert failed.phase is Phase.FAILED
    before = the(cluster, kinds.JOB, spec)["metadata"]["uid"]
    for each in (spec, sharing):
        cluster.driver.apply(each)
    assert the(cluster, kinds.JOB, spec)["metadata"]["uid"] == before
    cluster.kubelet.heal()
    brought_up(cluster, dataclasses.replace(spec, secrets={"HF_TOKEN": TOKEN[::-1]}))
    assert the(cluster, kinds.JOB, spec)["metadata"]["uid"] != before
    brought_up(cluster, sharing)
    for each in (spec, sharing):
        deleted(cluster, each.name)


def test_a_failed_fetch_that_others_share_is_tried_again_on_coming_back(cluster):
    spec = fetched(cluster, "comes-back")
    sharing = fetched(cluster, "stays-there", owner=spec.owner)
    cluster.kubelet.faults["fetch"] = Fault("job", "403", job="load-")
    for each in (spec, sharing):
        cluster.driver.apply(each)
    troubled(cluster, spec.name, Trouble.WEIGHTS)
    deleted(cluster, spec.name)
    cluster.kubelet.heal()
    brought_up(cluster, spec)
    brought_up(cluster, sharing)
    for each in (spec, sharing):
        deleted(cluster, each.name)


def test_a_secret_that_somebody_removed_is_written_for_the_job_that_waits(cluster, admin):
    spec = fetched(cluster, "secretless", secrets={"HF_TOKEN": TOKEN})
    cluster.kubelet.faults["fetch"] = Fault("stuck", job="load-")
    cluster.driver.apply(spec)
    place = cluster.place(spec)

    def waiting():
        found = admin.list(kinds.POD, place, labels="batch.kubernetes.io/job-name").items
        return found[0] if found and found[0]["spec"].get("nodeName") else None

    pod = until(waiting, patience_s=cluster.patience_s, what="the job's pod")
    name = the(cluster, kinds.JOB, spec)["metadata"]["name"]
    admin.delete(kinds.SECRET, name, place)
    said = {"reason": "CreateContainerConfigError", "message": f'secret "{name}" not found'}
    status = {
        "name": "load",
        "ready": False,
        "restartCount": 0,
        "image": "i",
        "imageID": "",
        "state": {"waiting": said},
    }
    admin.patch(
        kinds.POD,
        pod["metadata"]["name"],
        place,
        {"status": {"containerStatuses": [status]}},
        subresource="status",
    )
    assert cluster.driver.apply(spec) is True
    assert admin.get(kinds.SECRET, name, place) is not None
    cluster.kubelet.heal()
    deleted(cluster, spec.name)


def test_a_bound_that_is_lifted_goes_and_a_controllers_own_stay(cluster, admin):
    spec = cluster.spec("bounded", gpu_quota=4)
    cluster.driver.apply(spec)
    place = cluster.place(spec)
    bounds = {"requests.nvidia.com/gpu"}

    def bounded() -> list:
        quotas = admin.list(kinds.RESOURCE_QUOTA, place).items
        return [each for each in quotas if bounds & set(each["spec"].get("hard") or ())]

    assert len(bounded()) == 1
    anchor = admin.get(kinds.DEPLOYMENT, spec.name, place)
    made = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": "keda-hpa-bounded",
            "namespace": place,
            "labels": {"berth.dev/deployment": spec.name, "berth.dev/installation": INSTALLATION},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": spec.name,
                    "uid": anchor["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name},
            "maxReplicas": 2,
        },
    }
    admin.create(kinds.HPA, made, place)
    free = dataclasses.replace(spec, gpu_quota=None)
    assert cluster.driver.drifted([free])[spec.name]
    assert cluster.driver.apply(free) is True
    assert bounded() == []
    assert admin.get(kinds.HPA, "keda-hpa-bounded", place) is not None
    assert cluster.driver.apply(free) is False
    deleted(cluster, spec.name)


def test_what_is_being_removed_is_told_apart_for_each(cluster):
    spec = cluster.spec("told-apart")
    cluster.driver.apply(spec)
    observed_ready(cluster, spec.name, replicas=1)
    cluster.kubelet.drain_s = 1.0
    try:
        cluster.driver.delete(spec.name)
        found = cluster.driver.drifted([spec, cluster.spec("never-there")])
        assert isinstance(found[spec.name], TryLater)
        assert found["never-there"]
    finally:
        cluster.kubelet.drain_s = 0.1
    deleted(cluster, spec.name)
