"""What replicas show of their memory, kept once it has changed enough to be worth a write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from clusters.endpoints.snapshot import served_endpoints, served_replicas
from clusters.inventory.catalog import architecture_of
from clusters.models import Gateway, Replica, Revision
from clusters.planning.architecture import Architecture
from clusters.planning.performance.memory import WEIGHT_BYTES, cache_bytes_per_token
from clusters.planning.problem import Precision
from clusters.specs import ReplicaMemory
from clusters.triton.memory import memory_of
from gateway.contract import ReplicaReport
from tenants import scope

#: Less than this part of a figure is noise.
NOTEWORTHY: Final = 0.01


def keep_memory(*, gateway: Gateway, reports: Iterable[ReplicaReport]) -> int:
    """Write down what the gateway reports of the replicas in its region and snapshot; return how many changed.

    Reports about any other replica are left: it may have gone meanwhile. Engines count their cache in tokens and
    tell nothing of their weights: both are turned into bytes with the numbers of the model as it was planned.
    """
    shown = {report.replica_id: report.metrics for report in reports}
    with scope.platform(f"replica reports of gateway {gateway.name}"):
        there = Replica.objects.filter(replica_id__in=shown, gone_at=None).values("endpoint_id")
        replicas = (
            served_replicas(served_endpoints(gateway, id__in=there))
            .filter(replica_id__in=shown, revision__cluster__region_id=gateway.region_id)
            .select_related("revision", "endpoint__model")
        )
        return sum(_keep(replica, shown[replica.replica_id]) for replica in replicas)


def _keep(replica: Replica, metrics: str) -> bool:
    found = _memory(replica.revision, architecture_of(replica.endpoint.model), metrics)
    told = {name: value for name, value in msgspec.to_builtins(found).items() if value is not None}
    if not _differs(replica.memory or {}, told):
        return False
    return bool(Replica.objects.filter(id=replica.id, gone_at=None).update(memory=told or None))


def _memory(revision: Revision, model: Architecture, metrics: str) -> ReplicaMemory:
    precision, tp = Precision(revision.precision), revision.tensor_parallel
    eight_bits = (revision.spec.get("tuning") or {}).get("kv_cache_dtype") == "fp8"
    return memory_of(
        metrics,
        revision.runtime,
        weights=round(model.parameters_total * WEIGHT_BYTES[precision]),
        kv_bytes_per_token=tp * cache_bytes_per_token(model, Precision.FP8 if eight_bits else precision, tp),
    )


def _differs(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return before.keys() != now.keys() or any(
        abs(now[name] - before[name]) > NOTEWORTHY * max(now[name], before[name]) for name in now
    )
