"""What bars a pool or a shape from an order whatever is free there: law, licence, runtime, silicon.

Each rule gives the reason and a sentence, or None where nothing is barred.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from clusters.planning.plans import Reason
from clusters.planning.problem import Order, Pool, Precision
from clusters.planning.residency import residency_allows

#: Runtimes whose models cannot be split over GPUs.
SINGLE_GPU_RUNTIMES: Final = frozenset({"triton-python"})


def pool_fault(order: Order, pool: Pool) -> tuple[Reason, str] | None:
    """Judge what no choice of shape can change: where the pool stands and what it can run."""
    model = order.model
    if not residency_allows(order.residency, pool.region, pool.zones):
        return Reason.RESIDENCY, (
            f"cluster {pool.cluster} stands in region {pool.region} (zones: {_listed(pool.zones)}) "
            f"and does not satisfy residency {order.residency}"
        )
    missing = order.certifications - pool.certifications
    if missing:
        return Reason.CERTIFICATION, (
            f"cluster {pool.cluster} lacks certification {_listed(missing)}; it has "
            f"{_listed(pool.certifications)}"
        )
    if model.zones is not None and not model.zones & pool.zones:
        return Reason.MODEL_ZONE, (
            f"the licence of {model.name} allows zones {_listed(model.zones)}; cluster "
            f"{pool.cluster} belongs to zones: {_listed(pool.zones)}"
        )
    if runtime_for(order, pool) is None:
        return Reason.RUNTIME, (
            f"{model.name} runs on {', '.join(model.runtimes) or 'no runtime'}; cluster {pool.cluster} "
            f"offers {_listed(pool.runtimes)}"
        )
    return None


def shape_fault(
    order: Order, pool: Pool, precision: Precision, *, tp: int, pp: int
) -> tuple[Reason, str] | None:
    """Judge whether the pool's nodes, GPUs and runtime can take the shape at all."""
    if tp > 1 and (runtime := runtime_for(order, pool)) in SINGLE_GPU_RUNTIMES:
        return Reason.RUNTIME, f"runtime {runtime} cannot split a model over {tp} GPUs"
    if order.model.heads % tp:
        return Reason.RUNTIME, f"{order.model.name} has {order.model.heads} attention heads: no split by {tp}"
    if pool.gpu.tflops(precision) <= 0:
        return Reason.PRECISION, (f"{pool.gpu.name} in cluster {pool.cluster} cannot compute in {precision}")
    if tp * pp > pool.gpus_per_node:
        return Reason.NODE_SIZE, (
            f"a replica of {tp * pp} GPUs does not fit into a node of cluster "
            f"{pool.cluster}, which has {pool.gpus_per_node}"
        )
    return None


def runtime_for(order: Order, pool: Pool) -> str | None:
    """The model's most preferred runtime that the pool offers."""
    return next((runtime for runtime in order.model.runtimes if runtime in pool.runtimes), None)


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
