"""The pods that run an engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from clusters.kube.manifests import devices, files, names, quantities, storage
from clusters.kube.manifests.facts import ClusterFacts
from clusters.specs import GIB, DeploymentSpec, EngineContainer

PRE_STOP_S: Final = 10
"""Until gateways and proxies know that a pod goes: the engine refuses new requests at once when told."""
UNLOAD_S: Final = 30
_STARTUP_PERIOD_S: Final = 10
TMP_BYTES: Final = 16 * GIB

NO_DEVICES: Final = {"NVIDIA_VISIBLE_DEVICES": "void"}
"""On containers to which no device plugin gives GPUs. NVIDIA's images ask for all of a node's, and where its
runtime is the node's default it gives them to whoever asks."""

POD_SECURITY: Final[Mapping[str, Any]] = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    # Weights may be many files; their owner is looked at once and not at every start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def engine_pod(
    spec: DeploymentSpec,
    engine: EngineContainer,
    facts: ClusterFacts,
    *,
    worker: bool = False,
    subset: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Give the template of a pod that runs the engine, or of a worker of a group that spans nodes."""
    volumes, mounts = storage.volumes(spec, engine, facts)
    volumes = [
        {"name": "files", **files.volume(spec, engine.files)},
        {"name": "tmp", "emptyDir": {"sizeLimit": quantities.of_bytes(TMP_BYTES)}},
        {
            "name": "shm",
            "emptyDir": {"medium": "Memory", "sizeLimit": quantities.of_bytes(engine.shm_bytes)},
        },
        *volumes,
    ]
    mounts = [
        {"name": "files", "mountPath": engine.files_at, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        *mounts,
    ]
    container: dict[str, Any] = {
        "name": "engine",
        "image": engine.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(engine.worker_command if worker else engine.command),
        "env": _env(spec, engine, facts),
        "resources": _resources(spec, engine, facts),
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": mounts,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if not worker:
        container |= {
            "ports": ports(engine),
            **_probes(spec, engine),
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(PRE_STOP_S)]}}},
        }
    body: dict[str, Any] = {
        **common(facts, grace_s=PRE_STOP_S + spec.tuning.drain_s + UNLOAD_S),
        "serviceAccountName": spec.name,
        **_placement(spec),
        "containers": [container],
        "volumes": volumes,
    }
    if engine.jobs:
        body["initContainers"] = [_check(spec, engine, mounts)]
    if facts.dra and spec.gpus_per_replica:
        body["resourceClaims"] = devices.claimed_by(spec.name)
    return {
        "metadata": {
            "labels": names.pod_labels(spec, facts),
            # Files are read at the start only: other files, other pods.
            "annotations": {f"{names.PREFIX}/files": files.digest(engine.files)},
        },
        "spec": body,
    }


def common(facts: ClusterFacts, *, grace_s: int) -> dict[str, Any]:
    """Give what every pod of Berth's has: no rights, no token, no root."""
    body: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": dict(POD_SECURITY),
    }
    if facts.pull_secret:
        body["imagePullSecrets"] = [{"name": facts.pull_secret}]
    return body


def ports(engine: EngineContainer) -> list[dict[str, Any]]:
    """Give the container's ports."""
    found = [{"name": "http", "containerPort": engine.http_port, "protocol": "TCP"}]
    if engine.metrics_port is not None and engine.metrics_port != engine.http_port:
        found.append({"name": "metrics", "containerPort": engine.metrics_port, "protocol": "TCP"})
    return found


def gpus_per_pod(spec: DeploymentSpec) -> int:
    """Give how many GPUs each pod of a replica holds."""
    return spec.gpus_per_replica // spec.nodes_per_replica


def tolerations(spec: DeploymentSpec) -> list[dict[str, Any]]:
    """Give the taints a pod of the spec bears. From a node that is away it goes after 30 seconds."""
    keys = ["nvidia.com/gpu", *(key for key in spec.placement.tolerate if key != "nvidia.com/gpu")]
    return [
        *({"key": key, "operator": "Exists"} for key in keys),
        *(
            {
                "key": f"node.kubernetes.io/{condition}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 30,
            }
            for condition in ("not-ready", "unreachable")
        ),
    ]


def resources(
    *, memory: int, cpus: int, gpus: Mapping[str, int] | None = None, claims: Sequence[str] = ()
) -> dict[str, Any]:
    """Give requests and limits: all memory and GPUs are reserved, processors may be more than asked for."""
    fixed = {"memory": quantities.of_bytes(memory), **{name: str(n) for name, n in (gpus or {}).items()}}
    body: dict[str, Any] = {"requests": {"cpu": str(cpus), **fixed}, "limits": fixed}
    if claims:
        body["claims"] = [{"name": name} for name in claims]
    return body


def env(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give environment variables in order of their names."""
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def _env(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> list[dict[str, Any]]:
    # Closes the administration's doors with a word that nobody is told and that each pod has its own of.
    admin = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}
    given = spec.gpus_per_replica and not facts.dra
    return [
        {"name": "ADMIN_KEY", "valueFrom": admin},
        *env(engine.env if given else {**engine.env, **NO_DEVICES}),
    ]


def _resources(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> dict[str, Any]:
    gpus = gpus_per_pod(spec)
    if facts.dra and gpus:
        return resources(memory=engine.memory_bytes, cpus=engine.cpus, claims=(devices.CLAIM,))
    return resources(
        memory=engine.memory_bytes,
        cpus=engine.cpus,
        gpus={spec.placement.resource: gpus} if gpus else None,
    )


def _probes(spec: DeploymentSpec, engine: EngineContainer) -> dict[str, Any]:
    def probe(path: str, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "successThreshold": 1,
            "failureThreshold": failures,
        }

    attempts = max(1, math.ceil(spec.tuning.load_s / _STARTUP_PERIOD_S))
    return {
        "startupProbe": probe(engine.readiness_path, period=_STARTUP_PERIOD_S, timeout=5, failures=attempts),
        "readinessProbe": probe(engine.readiness_path, period=2, timeout=2, failures=3),
        # An engine may be too busy to say so for a while; two minutes are no such while.
        "livenessProbe": probe(engine.liveness_path, period=10, timeout=5, failures=12),
    }


def _placement(spec: DeploymentSpec) -> dict[str, Any]:
    body: dict[str, Any] = {"tolerations": tolerations(spec)}
    if spec.placement.node_selector:
        body["nodeSelector"] = dict(sorted(spec.placement.node_selector.items()))
    if spec.nodes_per_replica == 1:
        body["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": names.selector_of(spec)},
            }
        ]
    return body


def _check(spec: DeploymentSpec, engine: EngineContainer, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """Look that what the jobs made is there, and say so plainly where it is not."""
    folders = [
        f"{engine.weights_at if job.kind == 'load' else engine.cache_at}/{job.output}" for job in engine.jobs
    ]
    look = 'for folder do [ -d "$folder" ] || { echo "$folder is not there" >&2; exit 1; }; done'
    return {
        "name": "check-weights",
        "image": engine.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", look, "check-weights", *folders],
        "env": env(NO_DEVICES),
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "128Mi"},
        },
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [mount for mount in mounts if mount["name"] in ("weights", "cache")],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
