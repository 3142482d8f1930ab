"""From a plan's answer to the spec that a revision freezes, and from there to what its cluster is told."""

from __future__ import annotations

import dataclasses
import math
import uuid

import msgspec

from clusters.drivers.base import TryLater
from clusters.endpoints.autoscaling.handed_over import cluster_scaling
from clusters.inventory.catalog import weights_of, weights_secrets
from clusters.inventory.images import image_of
from clusters.models import CatalogModel, Endpoint, NodePool, Revision, SloClass
from clusters.planning.plans import Configuration
from clusters.specs import DeploymentSpec, Owner, Placement, Tuning, WeightsKind
from tenants.sealing import CannotOpen, KeysAway
from tenants.services import quota_limits

#: A move or a restore runs beside what it replaces, for as long as that takes.
ROOM_FOR_CHANGE = 2
NEEDS_NO_SECRET = {WeightsKind.BUILT_IN, WeightsKind.PVC}


class SpecUnusable(Exception):
    """What a revision needs cannot be read any more; the message says what to do."""


def spec_for(
    *, endpoint: Endpoint, chosen: Configuration, pool: NodePool, name: str, revision_id: uuid.UUID
) -> DeploymentSpec:
    """Write down how ``chosen`` is to be run in ``pool`` under ``name``, with today's images and settings."""
    return DeploymentSpec(
        name=name,
        labels=_labels(endpoint, revision_id),
        runtime=chosen.runtime,
        model=endpoint.model.name,
        replicas=chosen.replicas,
        gpu_type=chosen.gpu,
        gpus_per_replica=chosen.gpus_per_replica,
        context_tokens=endpoint.context_cap,
        max_output_tokens=endpoint.answer_cap,
        max_batch_size=chosen.max_batch_size,
        owner=Owner(
            tenant=endpoint.tenant.slug,
            project=endpoint.project.slug,
            project_id=str(endpoint.project_id),
        ),
        slo_class=endpoint.slo_class.name,
        precision=chosen.precision,
        tensor_parallel=chosen.tp,
        pipeline_parallel=chosen.pp,
        tuning=patient(chosen.tuning, endpoint.slo_class),
        weights=weights_of(endpoint.model, precision=chosen.precision),
        image=image_of(chosen.runtime),
        placement=Placement(
            resource=pool.resource,
            gpus_per_node=pool.gpus_per_node,
            node_selector=pool.selector,
            tolerate=tuple(pool.cluster.tolerate),
        ),
        tool_parser=endpoint.model.tool_parser,
    )


def patient(tuning: Tuning, slo_class: SloClass) -> Tuning:
    """Let an engine that is told to go finish any answer that its class allows: it goes as soon as it is idle."""
    longest_s = math.ceil(slo_class.total_timeout_s)
    return dataclasses.replace(tuning, drain_s=max(tuning.drain_s, longest_s))


def spec_again(
    *, endpoint: Endpoint, earlier: Revision, name: str, revision_id: uuid.UUID, replicas: int
) -> DeploymentSpec:
    """Write down an earlier revision's spec anew under ``name``, its images and settings as they were then."""
    return dataclasses.replace(
        kept_spec(earlier),
        name=name,
        labels=_labels(endpoint, revision_id),
        replicas=replicas,
    )


def kept_spec(revision: Revision) -> DeploymentSpec:
    """Read the spec that a revision froze.

    Raises:
        SpecUnusable: it cannot be read; the message says what to do.
    """
    try:
        return DeploymentSpec.from_document(revision.spec)
    except msgspec.ValidationError as error:
        raise SpecUnusable(
            f"Revision {revision.number} was written by another version of Berth; pause and resume the endpoint "
            "to have it planned anew."
        ) from error


def spec_of(endpoint: Endpoint, revision: Revision, *, gpu_quota: int | None) -> DeploymentSpec:
    """Give what the cluster is to run for a revision now; ``gpu_quota`` is :func:`gpu_quota` of its tenant.

    Raises:
        SpecUnusable: the spec or the credentials for its weights cannot be read; the message says what to do.
        TryLater: the credentials cannot be opened now.
    """
    spec = dataclasses.replace(
        kept_spec(revision),
        replicas=revision.replicas,
        scaling=cluster_scaling(revision),
        gpu_quota=gpu_quota,
    )
    if spec.weights.kind in NEEDS_NO_SECRET:
        return spec
    try:
        return dataclasses.replace(
            spec, secrets=weights_secrets(_model_of(endpoint, spec), endpoint.tenant_id)
        )
    except KeysAway as error:
        raise TryLater(error.message) from error
    except CannotOpen as error:
        raise SpecUnusable(
            f"The credentials for the weights of {endpoint.model.name} cannot be opened any more; set them again."
        ) from error


def _model_of(endpoint: Endpoint, spec: DeploymentSpec) -> CatalogModel:
    """Give the model that a spec runs: while one is changed for its variant, not both are the endpoint's."""
    if spec.model == endpoint.model.name:
        return endpoint.model
    return CatalogModel.objects.filter(name=spec.model).first() or endpoint.model


def gpu_quota() -> int | None:
    """Give how many GPUs a namespace of the open tenant may hold at most, None for no bound."""
    limit = quota_limits().get("gpus")
    return None if limit is None else ROOM_FOR_CHANGE * limit


def _labels(endpoint: Endpoint, revision_id: uuid.UUID) -> dict[str, str]:
    return {
        "tenant": str(endpoint.tenant_id),
        "project": str(endpoint.project_id),
        "endpoint": str(endpoint.id),
        "revision": str(revision_id),
    }
