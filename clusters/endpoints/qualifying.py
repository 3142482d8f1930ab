"""Qualifying a pool by an endpoint that runs there: what served is what its revision says."""

from __future__ import annotations

from clusters.endpoints import placement
from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.inventory.qualification import Served
from clusters.models import Endpoint, NodePool
from tenants.errors import Invalid


def served_by(endpoint: Endpoint, pool: NodePool) -> Served:
    """Give what of an endpoint runs on a pool.

    Raises:
        Invalid: nothing, or it was planned by another version.
    """
    revision = placement.current_revision(endpoint)
    if revision is None or revision.pool_id != pool.id or not revision.replicas:
        raise _invalid(f"{endpoint.name} does not run on {pool}.")
    try:
        spec = kept_spec(revision)
    except SpecUnusable as error:
        raise _invalid(str(error)) from error
    return Served(
        model=endpoint.model,
        runtime=revision.runtime,
        precision=revision.precision,
        tensor_parallel=revision.tensor_parallel,
        pipeline_parallel=revision.pipeline_parallel,
        replicas=revision.replicas,
        max_batch_size=revision.max_batch_size,
        max_num_tokens=spec.tuning.max_num_tokens,
        engine_version=spec.image.engine_version if spec.image else "",
    )


def _invalid(text: str) -> Invalid:
    return Invalid(text, errors={"endpoint": [text]})
