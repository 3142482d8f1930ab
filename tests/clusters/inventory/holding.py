"""An endpoint's rows that hold GPUs on given nodes, without a planner that chooses them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from clusters.models import CatalogModel, Endpoint, NodePool, Reservation, Revision, SloClass
from tenants import scope
from tenants.models import Tenant
from tests.factories import default_project

_numbers = itertools.count(1)


def hold(tenant: Tenant, pool: NodePool, *, nodes: Sequence[int], gpus: int) -> Revision:
    """Reserve ``gpus`` on each of ``nodes``, by index, for a new endpoint of the tenant."""
    number = next(_numbers)
    project = default_project(tenant)
    with scope.tenant(tenant.id):
        endpoint = Endpoint.objects.create(
            tenant_id=tenant.id,
            project=project,
            name=f"held-{number}",
            model=CatalogModel.objects.get(name="llama-3.1-8b-instruct"),
            slo_class=SloClass.objects.get(name="standard"),
        )
        revision = Revision.objects.create(
            tenant_id=tenant.id,
            endpoint=endpoint,
            number=1,
            generation=1,
            cluster=pool.cluster,
            pool=pool,
            deployment=f"held-{number}",
            runtime="triton-llmapi",
            gpu_type=pool.gpu_type.name,
            precision="bf16",
            tensor_parallel=gpus,
            pipeline_parallel=1,
            replicas=len(nodes),
            context_tokens=4096,
            max_batch_size=8,
            plan={},
        )
        Reservation.objects.create(
            tenant_id=tenant.id,
            endpoint=endpoint,
            revision=revision,
            pool=pool,
            nodes=list(nodes),
            gpus_per_replica=gpus,
        )
    return revision
