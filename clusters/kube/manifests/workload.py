"""The workload of one deployment: Deployment or LeaderWorkerSet, and what stands around it."""

from __future__ import annotations

from typing import Any, Final

from clusters.kube.kinds import DEPLOYMENT, LEADER_WORKER_SET, PDB, SERVICE, SERVICE_ACCOUNT
from clusters.kube.manifests import names, pods
from clusters.kube.manifests.facts import Autoscaler, CannotRender, ClusterFacts
from clusters.specs import DeploymentSpec, EngineContainer

KUEUE: Final = "kueue.x-k8s.io/queue-name"
LEADER: Final = {f"{names.PREFIX}/role": "leader"}
"""On the pods that answer requests where a replica has several."""


def service_account(spec: DeploymentSpec, facts: ClusterFacts) -> dict[str, Any]:
    """Give an account without rights and without a token in the pods."""
    return names.new(
        SERVICE_ACCOUNT,
        spec.name,
        labels=names.labels_of(spec, facts),
        namespace=names.namespace_of(spec, facts),
        automountServiceAccountToken=False,
    )


def anchor(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> dict[str, Any]:
    """Give the object that stands for the deployment: everything else is there for it.

    Raises:
        CannotRender: the replicas span nodes and the cluster has no LeaderWorkerSets.
    """
    labels = names.labels_of(spec, facts)
    if facts.kueue_queue:
        labels[KUEUE] = facts.kueue_queue
    many = spec.nodes_per_replica > 1
    if many and not facts.leader_worker_sets:
        raise CannotRender(
            f"a replica of {spec.gpus_per_replica} GPUs spans {spec.nodes_per_replica} nodes, and the cluster has"
            " no LeaderWorkerSet API; install LWS, or choose GPUs with more memory"
        )
    body = _group(spec, engine, facts) if many else _deployment(spec, engine, facts)
    if not scaled(spec, facts):
        body = {"replicas": spec.replicas, **body}
    return names.new(
        LEADER_WORKER_SET if many else DEPLOYMENT,
        names.workload_name(spec),
        labels=labels,
        namespace=names.namespace_of(spec, facts),
        spec=body,
    )


def scaled(spec: DeploymentSpec, facts: ClusterFacts) -> bool:
    """Tell whether the cluster's autoscaler owns the number of replicas."""
    return spec.scaling is not None and facts.autoscaler is not Autoscaler.NONE


def service(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> dict[str, Any]:
    """Give the Service of the pods that answer requests. Gateways call pods; it is for people and metrics."""
    return names.new(
        SERVICE,
        names.service_name(spec),
        labels=names.labels_of(spec, facts),
        namespace=names.namespace_of(spec, facts),
        spec={
            "type": "ClusterIP",
            "selector": answering(spec),
            "ports": [
                {
                    "name": port["name"],
                    "port": port["containerPort"],
                    "targetPort": port["name"],
                    "protocol": "TCP",
                }
                for port in pods.ports(engine)
            ],
        },
    )


def answering(spec: DeploymentSpec) -> dict[str, str]:
    """Give what selects the pods that answer requests."""
    return {**names.selector_of(spec), **(LEADER if spec.nodes_per_replica > 1 else {})}


def disruption_budget(spec: DeploymentSpec, facts: ClusterFacts) -> dict[str, Any]:
    """Let nodes be drained one replica at a time. A pod that does not answer is in nobody's way."""
    return names.new(
        PDB,
        spec.name,
        labels=names.labels_of(spec, facts),
        namespace=names.namespace_of(spec, facts),
        spec={
            "maxUnavailable": 1,
            "selector": {"matchLabels": answering(spec)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )


def _deployment(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> dict[str, Any]:
    return {
        "selector": {"matchLabels": names.selector_of(spec)},
        # A GPU for one more pod is seldom free: the old one goes first.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "progressDeadlineSeconds": spec.tuning.load_s + 600,
        "revisionHistoryLimit": 2,
        "template": pods.engine_pod(spec, engine, facts),
    }


def _group(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> dict[str, Any]:
    leader = pods.engine_pod(spec, engine, facts)
    leader["metadata"]["labels"] |= LEADER
    return {
        "leaderWorkerTemplate": {
            "size": spec.nodes_per_replica,
            # An engine lives and dies whole.
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": leader,
            "workerTemplate": pods.engine_pod(spec, engine, facts, worker=True),
        },
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxSurge": 0, "maxUnavailable": 1},
        },
        "startupPolicy": "LeaderCreated",
    }
