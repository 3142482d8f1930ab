"""From one typed spec to Kubernetes objects: pure functions, equal input gives equal output."""

from __future__ import annotations

from typing import Any, Final

from clusters.kube.kinds import JOB, PVC, RESOURCE_CLAIM_TEMPLATE, Kind
from clusters.kube.manifests import devices, files, jobs, optional, pods, storage, workload
from clusters.kube.manifests.facts import Autoscaler, CannotRender, ClusterFacts
from clusters.kube.manifests.gateway import gateway
from clusters.kube.manifests.names import labels_of, namespace_of, selector_of, workload_name
from clusters.kube.manifests.space import engine_policy, space
from clusters.kube.manifests.texts import to_texts
from clusters.specs import DeploymentSpec, EngineContainer

__all__ = [
    "ONCE",
    "Autoscaler",
    "CannotRender",
    "ClusterFacts",
    "engine",
    "gateway",
    "labels_of",
    "namespace_of",
    "render",
    "render_texts",
    "selector_of",
    "space",
    "to_texts",
    "workload_name",
]

ONCE: Final[tuple[Kind, ...]] = (PVC, JOB, RESOURCE_CLAIM_TEMPLATE)
"""Kinds to create where they are missing and never to change: the API refuses most changes of them, and
deployments that share one by its name may differ in what does not matter for it, such as their nodes."""


def render(spec: DeploymentSpec, container: EngineContainer, facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give every object of a deployment in the order of applying, the project's namespace first.

    Objects do not wait for each other: engines need what the jobs make, and are better applied after them.

    Raises:
        CannotRender: the cluster can never run it; the message says what to change.
    """
    return [*space(spec, facts), *engine(spec, container, facts)]


def engine(spec: DeploymentSpec, container: EngineContainer, facts: ClusterFacts) -> list[dict[str, Any]]:
    """Give the objects of a deployment in its project's namespace, its anchor after all it needs.

    Raises:
        CannotRender: the cluster can never run it; the message says what to change.
    """
    anchor = workload.anchor(spec, container, facts)
    return [
        workload.service_account(spec, facts),
        engine_policy(spec, facts, http_port=container.http_port, metrics_port=container.metrics_port),
        *files.config_maps(spec, container.files, facts),
        *_claims(spec, facts),
        *storage.claims(spec, container, facts),
        *jobs.jobs(spec, container, facts),
        anchor,
        workload.service(spec, container, facts),
        workload.disruption_budget(spec, facts),
        *optional.optional(spec, container, facts),
    ]


def _claims(spec: DeploymentSpec, facts: ClusterFacts) -> list[dict[str, Any]]:
    if not facts.dra or not spec.gpus_per_replica:
        return []
    return [
        devices.claim_template(
            spec.name,
            resource=spec.placement.resource,
            gpus=pods.gpus_per_pod(spec),
            labels=labels_of(spec, facts),
            namespace=namespace_of(spec, facts),
        )
    ]


def render_texts(spec: DeploymentSpec, container: EngineContainer, facts: ClusterFacts) -> dict[str, str]:
    """Give what :func:`render` gives as YAML for people and for diffs, without the values of secrets.

    Raises:
        CannotRender: the cluster can never run it; the message says what to change.
    """
    return to_texts(render(spec, container, facts))
