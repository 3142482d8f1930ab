"""Where weights and engines lie: claims of one model, shared by the endpoints of a project."""

from __future__ import annotations

import math
from typing import Any, Final

from clusters.kube.kinds import PVC
from clusters.kube.manifests import names, quantities
from clusters.kube.manifests.facts import MANY_NODES, Autoscaler, CannotRender, ClusterFacts
from clusters.specs import GIB, DeploymentSpec, EngineContainer, WeightsKind

UNKNOWN_GIB: Final = 200
"""Room for a checkpoint of which the catalog does not say how large it is."""
_FETCHED: Final = (WeightsKind.OBJECT_STORE, WeightsKind.HUGGING_FACE)


def claims(spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give the claims that Berth makes for the spec's model, none where weights come mounted.

    Raises:
        CannotRender: pods on several nodes would need a claim that one node at a time can have.
    """
    size = spec.weights.size_gib or UNKNOWN_GIB
    found = []
    if spec.weights.kind in _FETCHED:
        found.append(_claim(spec, facts, _weights_claim(spec), math.ceil(size * 1.2) + 5))
    if _has_cache(engine):
        # A checkpoint may be quantized in a few ways and built for a few limits.
        found.append(_claim(spec, facts, _cache_claim(spec), math.ceil(size * 4) + 20))
    if found and facts.storage_access_mode != MANY_NODES and _pods(spec, facts) > 1:
        raise CannotRender(
            f"the cluster's volumes are {facts.storage_access_mode}, for one node at a time, and {spec.model} would"
            f" run in {_pods(spec, facts)} pods; give the cluster a storage class with {MANY_NODES}, put the weights"
            " on a claim or in an image of your own, or ask for one replica on one node"
        )
    return found


def _pods(spec: DeploymentSpec, facts: ClusterFacts) -> int:
    scaled = spec.scaling is not None and facts.autoscaler is not Autoscaler.NONE
    replicas = spec.scaling.most if scaled and spec.scaling is not None else spec.replicas
    return replicas * spec.nodes_per_replica


def volumes(
    spec: DeploymentSpec, engine: EngineContainer, facts: ClusterFacts
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Give the volumes of weights and cache, and where an engine mounts them, to read only.

    Raises:
        CannotRender: the cluster cannot mount an image as a volume.
    """
    found: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    source = _weights_source(spec, facts)
    if source is not None:
        found.append({"name": "weights", **source})
        mounts.append({"name": "weights", "mountPath": engine.weights_at, "readOnly": True})
    if _has_cache(engine):
        found.append({"name": "cache", "persistentVolumeClaim": {"claimName": _cache_claim(spec)}})
        mounts.append({"name": "cache", "mountPath": engine.cache_at, "readOnly": True})
    return found, mounts


def _weights_source(spec: DeploymentSpec, facts: ClusterFacts) -> dict[str, Any] | None:
    weights = spec.weights
    match weights.kind:
        case WeightsKind.PVC:
            # The operator's own: nothing here writes to it.
            return {
                "persistentVolumeClaim": {"claimName": weights.uri.partition("/")[0], "readOnly": True},
            }
        case WeightsKind.OCI_IMAGE if not facts.image_volumes:
            raise CannotRender("this cluster cannot mount images as volumes; put the weights on a claim")
        case WeightsKind.OCI_IMAGE:
            return {"image": {"reference": weights.uri, "pullPolicy": "IfNotPresent"}}
        case WeightsKind.OBJECT_STORE | WeightsKind.HUGGING_FACE:
            return {"persistentVolumeClaim": {"claimName": _weights_claim(spec)}}
    return None


def _has_cache(engine: EngineContainer) -> bool:
    return any(job.kind != "load" for job in engine.jobs)


def _weights_claim(spec: DeploymentSpec) -> str:
    weights = spec.weights
    return f"weights-{names.slug(spec.model, room=40)}-{names.digest(weights.kind, weights.uri, weights.revision)}"


def _cache_claim(spec: DeploymentSpec) -> str:
    weights = spec.weights
    return (
        f"cache-{names.slug(spec.model, room=40)}-{names.digest(weights.kind, weights.uri, weights.revision)}"
    )


def _claim(spec: DeploymentSpec, facts: ClusterFacts, name: str, gib: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "accessModes": [facts.storage_access_mode],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": quantities.of_bytes(gib * GIB)}},
    }
    if facts.storage_class:
        body["storageClassName"] = facts.storage_class
    return names.new(
        PVC,
        name,
        labels=names.shared_labels(spec, facts, name=names.WEIGHTS),
        namespace=names.namespace_of(spec, facts),
        spec=body,
    )
