"""Replicas that span nodes: planned, reserved on whole nodes, given back."""

from __future__ import annotations

import pytest

from clusters.endpoints import services
from clusters.inventory import services as inventory
from clusters.inventory.capacity import capacities
from clusters.inventory.drivers import feature
from clusters.kube.kinds import LEADER_WORKER_SET
from clusters.models import CatalogModel, Cluster, GpuType, Reservation
from tenants import scope
from tenants.services import quota_set
from tests.clusters.endpoints.conftest import fresh

MODEL = "dense-400b"


@pytest.fixture
def pool(estate, tenant):
    """Three nodes of eight H100 where a group of pods can be one replica, and a model that needs two of them."""
    CatalogModel.objects.create(
        name=MODEL,
        title="Dense 400B",
        description="Too large for a node.",
        licence="Apache-2.0",
        runtimes=["triton-llmapi"],
        precisions=["bf16"],
        context_tokens=8192,
        chat_template="{{ messages }}",
        architecture={
            "parameters": 400_000_000_000, "active_parameters": 400_000_000_000, "layers": 120, "hidden": 16_384,
            "heads": 128, "kv_heads": 8, "head_size": 128, "vocabulary": 128_256,
        },
    )  # fmt: skip
    cluster = estate.clusters["fi-a"]
    Cluster.objects.filter(id=cluster.id).update(
        features=[feature(LEADER_WORKER_SET)], runtimes=["triton-llmapi", "triton-python"]
    )
    with scope.tenant(tenant.id):
        quota_set(resource="gpus", limit=64)
    h100 = GpuType.objects.get(name="h100_sxm")
    return inventory.pool_add(cluster=cluster, name="h100", gpu_type=h100, nodes=3, gpus_per_node=8)


def free(pool):
    return capacities(pool_ids=[pool.id])[0].free_per_node


def test_a_replica_over_two_nodes_holds_them_whole_until_it_is_released(order, settle, pool, tenant):
    endpoint = settle(order(model=MODEL, slo_class="batch", input_tokens=100, output_tokens=50))
    assert endpoint.state == "ready", endpoint.state_reason
    with scope.tenant(tenant.id):
        held = Reservation.objects.held().get(endpoint=endpoint)
        assert (held.span, held.replicas, held.gpus, len(set(held.nodes))) == (2, 1, 16, 2)
        revision = held.revision
    assert (revision.tensor_parallel, revision.pipeline_parallel) == (8, 2)
    assert sorted(free(pool)) == [0, 0, 8]
    with scope.tenant(tenant.id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
    settle(fresh(endpoint))
    assert free(pool) == (8, 8, 8)


def test_a_second_such_replica_needs_two_more_whole_nodes(order, settle, pool, tenant):
    endpoint = settle(order(model=MODEL, slo_class="batch"))
    with scope.tenant(tenant.id), pytest.raises(services.Conflict, match="has 8 free GPUs"):
        services.endpoint_scale(endpoint=endpoint, replicas=2, actor="a test")
