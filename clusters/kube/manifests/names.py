"""Names and labels of everything that Berth makes in a cluster, from one place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from clusters.kube.kinds import Kind
from clusters.kube.manifests.facts import ClusterFacts
from clusters.specs import DeploymentSpec

PREFIX: Final = "berth.dev"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
NAME: Final = "app.kubernetes.io/name"
INSTANCE: Final = "app.kubernetes.io/instance"
INSTALLATION: Final = f"{PREFIX}/installation"

ENGINE: Final = "engine"
GATEWAY: Final = "gateway"
SPACE: Final = "tenant-space"
WEIGHTS: Final = "weights"

POD_SECURITY_LEVELS: Final = {
    f"pod-security.kubernetes.io/{mode}{suffix}": value
    for mode in ("enforce", "audit", "warn")
    for suffix, value in (("", "restricted"), ("-version", "latest"))
}
"""On every namespace that Berth makes."""

_LABEL: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def slug(text: str, *, room: int = 63) -> str:
    """Give the part of a name that people read: lower case letters, digits, dashes, at most ``room``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:room].strip("-")


def digest(*parts: str, length: int = 6) -> str:
    """Give hex digits that equal parts, and practically only they, share."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:length]


def fitted(name: str, room: int) -> str:
    """Give ``name`` if it has at most ``room`` characters, else its beginning and a digest."""
    return name if len(name) <= room else f"{name[: room - 7].rstrip('-')}-{digest(name)}"


def namespace_of(spec: DeploymentSpec, facts: ClusterFacts) -> str:
    """Give the namespace of the spec's project."""
    if facts.namespace:
        return facts.namespace
    owner = spec.owner
    end = f"-{digest(owner.project_id)}"
    readable = slug(f"berth-{slug(owner.tenant)}-{slug(owner.project)}", room=63 - len(end))
    return f"{readable}{end}"


def workload_name(spec: DeploymentSpec) -> str:
    """Give the name of the Deployment, or of the LeaderWorkerSet.

    A set's pods are named after it with two numbers and a revision's hash, for which names must be shorter.
    """
    return _lettered(spec, 40) if spec.nodes_per_replica > 1 else spec.name


def service_name(spec: DeploymentSpec) -> str:
    """Give the name of Berth's own Service.

    A LeaderWorkerSet's controller makes a headless one of the set's name, and would take one that is there
    already for its own: its pods would not be found by their names.
    """
    return f"{workload_name(spec)}-http" if spec.nodes_per_replica > 1 else _lettered(spec, 63)


def _lettered(spec: DeploymentSpec, room: int) -> str:
    # Names of Services begin with a letter.
    return fitted(spec.name if spec.name[:1].isalpha() else f"s-{spec.name}", room)


def labels_of(spec: DeploymentSpec, facts: ClusterFacts, *, name: str = ENGINE) -> dict[str, str]:
    """Give the labels of everything made for one deployment."""
    labels = {
        MANAGED_BY: "berth",
        NAME: name,
        INSTANCE: spec.name,
        INSTALLATION: facts.installation,
        f"{PREFIX}/deployment": spec.name,
        **{f"{PREFIX}/{key}": value for key, value in spec.labels.items()},
    }
    if spec.owner.project_id:
        labels[f"{PREFIX}/project"] = spec.owner.project_id
    return checked(labels)


def pod_labels(spec: DeploymentSpec, facts: ClusterFacts) -> dict[str, str]:
    """Give the labels of a deployment's pods: the revision is not among them, so that pods outlive its change."""
    return {key: value for key, value in labels_of(spec, facts).items() if key != f"{PREFIX}/revision"}


def shared_labels(spec: DeploymentSpec, facts: ClusterFacts, *, name: str) -> dict[str, str]:
    """Give the labels of what the deployments of one project share."""
    labels = {MANAGED_BY: "berth", NAME: name, INSTALLATION: facts.installation}
    if "tenant" in spec.labels:
        labels[f"{PREFIX}/tenant"] = spec.labels["tenant"]
    if spec.owner.project_id:
        labels[f"{PREFIX}/project"] = spec.owner.project_id
    return checked(labels)


def checked(labels: dict[str, str]) -> dict[str, str]:
    """Give the labels if Kubernetes can take them.

    Raises:
        ValueError: a value is no label value.
    """
    for key, value in labels.items():
        if not _LABEL.fullmatch(value):
            raise ValueError(f"{value!r} cannot be the value of label {key}")
    return labels


def selector_of(spec: DeploymentSpec) -> dict[str, str]:
    """Give what selects the pods of one deployment."""
    return {NAME: ENGINE, INSTANCE: spec.name}


def new(
    kind: Kind, name: str, *, labels: Mapping[str, str], namespace: str = "", **body: Any
) -> dict[str, Any]:
    """Make an object of ``kind`` with everything in ``body`` beside its metadata."""
    metadata: dict[str, Any] = {"name": name, "labels": dict(labels)}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **body}
