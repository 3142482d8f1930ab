"""Which replicas a deployment's pods make: what holds GPUs, from when, until when."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from clusters.drivers.kubernetes.status import Seen, replicas_of
from clusters.specs import DeploymentSpec, Phase, Trouble

LWS = "leaderworkerset.sigs.k8s.io"
READY_NODE = {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
SILENT_NODE = {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}


def at(minute: int) -> str:
    return f"2026-01-01T00:{minute:02}:00Z"


def pod(uid: str, *, born: int = 0, node: str = "n", scheduled: int = 0, **choices: Any) -> dict[str, Any]:
    """A pod; ``group`` and ``worker`` number those of a group, ``ready``, ``going`` and ``phase`` say how it is."""
    labels = {}
    if "worker" in choices:
        group = choices.get("group", 0)
        labels = {
            f"{LWS}/group-index": str(group),
            f"{LWS}/worker-index": str(choices["worker"]),
            f"{LWS}/group-key": f"key-{group}",
        }
    ready = "True" if choices.get("ready") else "False"
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": at(9)}]
    if node:
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": at(scheduled)})
    meta: dict[str, Any] = {"uid": uid, "name": uid, "creationTimestamp": at(born), "labels": labels}
    if choices.get("going"):
        meta["deletionTimestamp"] = at(8)
    return {
        "metadata": meta,
        "spec": {"nodeName": node},
        "status": {
            "phase": choices.get("phase", "Running"),
            "conditions": conditions,
            "podIP": f"10.0.0.{born + 1}",
        },
    }


def seen(*pods: dict[str, Any], replicas: int = 1, size: int = 1, **workload: Any) -> list[tuple]:
    anchor: dict[str, Any] = {"metadata": {"uid": "anchor"}, **workload}
    if size > 1:
        anchor["spec"] = {"leaderWorkerTemplate": {"size": size}}
    spec = DeploymentSpec(
        name="d",
        labels={},
        runtime="r",
        model="m",
        replicas=replicas,
        gpu_type="H100",
        gpus_per_replica=1,
        context_tokens=1,
        max_output_tokens=1,
        max_batch_size=1,
    )
    nodes = {"n": READY_NODE, "silent": SILENT_NODE}
    found = replicas_of(
        Seen(
            spec=spec,
            workload=anchor,
            pods=pods,
            jobs=(),
            engine_model="m",
            http_port=80,
            node_of=nodes.get,
            tail_of=lambda *_: "",
        )
    )
    return [(each.replica_id, each.phase) for each in found] if "plain" not in workload else found


def group(index: int, *, born: int = 0, **choices: Any) -> list[dict[str, Any]]:
    return [
        pod(f"{born}-{index}-{worker}", born=born, worker=worker, group=index, **choices) for worker in (0, 1)
    ]


def test_a_group_is_one_replica_and_answers_at_its_leader():
    pods = [*group(1, ready=True), *group(0, ready=True)]
    assert seen(*pods, replicas=2, size=2) == [("0-0-0", Phase.READY), ("0-1-0", Phase.READY)]


def test_gpus_of_a_group_are_held_from_when_all_its_pods_have_nodes():
    leader, worker = group(0)
    waiting = pod("w", worker=1, node="")
    assert seen(leader, size=2) == [("0-0-0", Phase.PENDING)]
    assert seen(leader, waiting, size=2) == [("0-0-0", Phase.PENDING)]
    late = pod("w", worker=1, scheduled=7)
    (replica,) = seen(leader, late, size=2, plain=True)
    assert (replica.phase, replica.started_at) == (
        Phase.STARTING,
        dt.datetime(2026, 1, 1, 0, 7, tzinfo=dt.UTC),
    )
    assert seen(leader, worker | {"status": {"phase": "Failed"}}, size=2) == [("0-0-0", Phase.STARTING)]


def test_workers_without_their_leader_are_no_replica():
    _, leftover = group(0, going=True)
    assert seen(leftover, size=2) == []
    fresh, _ = group(0, born=5)
    assert seen(leftover, fresh, size=2) == [("5-0-0", Phase.PENDING)]


def test_a_group_that_goes_keeps_its_leaders_id():
    leader, worker = group(0, ready=True)
    worker["metadata"]["deletionTimestamp"] = at(8)
    assert seen(leader, worker, size=2) == [("0-0-0", Phase.DRAINING)]


@pytest.mark.parametrize(
    ("node", "going", "phase"),
    [
        ("silent", False, Phase.STARTING),
        ("silent", True, Phase.DRAINING),
        ("gone", False, Phase.FAILED),
        ("gone", True, Phase.FAILED),
    ],
)
def test_a_silent_node_holds_its_gpus_and_a_gone_one_does_not(node, going, phase):
    (replica,) = seen(pod("p", node=node, going=going, ready=True), plain=True)
    assert (replica.phase, replica.trouble) == (phase, Trouble.NODE)


def test_what_ended_and_was_replaced_does_not_come_back():
    ended, second = pod("first", born=0, phase="Failed"), pod("second", born=1, ready=True)
    assert seen(ended) == [("first", Phase.FAILED)]
    assert seen(ended, second) == [("second", Phase.READY)]
    assert seen(ended, second, replicas=2) == [("second", Phase.READY)]
    again = pod("third", born=2, phase="Failed")
    assert seen(ended, again) == [("third", Phase.FAILED)]


def test_a_refusal_that_comes_again_is_another_one():
    ids = set()
    for minute in (1, 2):
        failure = {"type": "ReplicaFailure", "status": "True", "message": "quota"}
        ((name, phase),) = seen(status={"conditions": [{**failure, "lastTransitionTime": at(minute)}]})
        assert phase is Phase.PENDING
        ids.add(name)
    assert len(ids) == 2


def holding(uid: str, gpus: int, resource: str = "nvidia.com/gpu", **choices: Any) -> dict[str, Any]:
    made = pod(uid, **choices)
    made["spec"]["containers"] = [{"resources": {"limits": {resource: str(gpus)}}}]
    return made


def gpus_seen(*pods: dict[str, Any], size: int = 1) -> int | None:
    anchor: dict[str, Any] = {"metadata": {"uid": "anchor"}, "spec": {"leaderWorkerTemplate": {"size": size}}}
    (found,) = replicas_of(
        Seen(
            spec=DeploymentSpec(
                name="d", labels={}, runtime="r", model="m", replicas=1, gpu_type="H100", gpus_per_replica=2,
                context_tokens=1, max_output_tokens=1, max_batch_size=1,
            ),
            workload=anchor, pods=pods, jobs=(), engine_model="e", http_port=8000, node_of=lambda name: READY_NODE,
            tail_of=lambda pod, container, previous: "",
        )
    )  # fmt: skip
    return found.gpus


def test_gpus_are_what_the_pods_on_their_nodes_ask_for():
    assert gpus_seen(holding("a", 4, ready=True)) == 4
    assert gpus_seen(holding("a", 1, "nvidia.com/mig-1g.10gb", ready=True)) == 1
    group = [holding("a", 8, group=0, worker=0, ready=True), holding("b", 8, group=0, worker=1, ready=True)]
    assert gpus_seen(*group, size=2) == 16
    group[1]["status"]["phase"] = "Failed"
    assert gpus_seen(*group, size=2) == 8
    assert gpus_seen(holding("a", 4, node="")) == 0


def test_gpus_that_claims_hold_are_not_told():
    claiming = holding("a", 0, ready=True)
    claiming["spec"]["resourceClaims"] = [{"name": "gpus"}]
    assert gpus_seen(claiming) is None
