"""GPU memory of one engine, told apart as far as its metrics tell it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from clusters.specs import ReplicaMemory
from clusters.triton.metrics_text import Sample, samples, summed

_BLOCKS: Final = "nv_trt_llm_kv_cache_block_metrics"
_BYTES_USED: Final = ("trtllm_kv_cache_used_bytes",)
_BYTES_MAX: Final = ("trtllm_kv_cache_total_bytes", "trtllm_kv_cache_max_bytes")
_GPU_USED: Final = ("trtllm_gpu_memory_usage_bytes", "nv_gpu_memory_used_bytes")


def memory_of(
    metrics_text: str, runtime: str, *, weights: int | None = None, kv_bytes_per_token: int | None = None
) -> ReplicaMemory:
    """Read one replica's GPU memory from its engine's Prometheus text. All figures in bytes.

    Engines count their KV cache in blocks of tokens; ``kv_bytes_per_token`` of the whole replica turns them
    into bytes. No engine tells its weights' size: ``weights`` is what the plan knows. What neither the text
    nor these say is None. ``other`` is what the GPUs hold beyond both.
    """
    if runtime == "triton-python":
        return ReplicaMemory()
    read = list(samples(metrics_text))
    used, largest = _kv_bytes(read, kv_bytes_per_token)
    total = _first(read, _GPU_USED)
    other = None
    if total is not None and weights is not None and largest is not None:
        # The cache is taken whole at the start, whatever of it is in use.
        other = max(0, round(total) - weights - largest)
    return ReplicaMemory(weights=weights, kv_used=used, kv_max=largest, other=other)


def _kv_bytes(read: list[Sample], per_token: int | None) -> tuple[int | None, int | None]:
    used, largest = _first(read, _BYTES_USED), _first(read, _BYTES_MAX)
    if used is not None or largest is not None:
        return _rounded(used), _rounded(largest)
    tokens = _block(read, "tokens_per")
    if per_token is None or tokens is None:
        return None, None
    used, largest = _block(read, "used"), _block(read, "max")
    size = tokens * per_token
    return (
        None if used is None else round(used * size),
        None if largest is None else round(largest * size),
    )


def _first(read: list[Sample], names: Iterable[str]) -> float | None:
    return next((value for name in names if (value := summed(read, name)) is not None), None)


def _block(read: list[Sample], kind: str) -> float | None:
    return summed(read, _BLOCKS, kv_cache_block_type=kind)


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
