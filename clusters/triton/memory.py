"""GPU memory of one engine, told apart as far as its metrics tell it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from clusters.specs import ReplicaMemory

_LINE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$", re.ASCII)
_LABEL: Final = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', re.ASCII)
_BLOCKS: Final = "nv_trt_llm_kv_cache_block_metrics"
_BYTES_USED: Final = ("trtllm_kv_cache_used_bytes",)
_BYTES_MAX: Final = ("trtllm_kv_cache_total_bytes", "trtllm_kv_cache_max_bytes")
_GPU_USED: Final = ("trtllm_gpu_memory_usage_bytes", "nv_gpu_memory_used_bytes")


class _Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


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
    samples = list(_samples(metrics_text))
    used, largest = _kv_bytes(samples, kv_bytes_per_token)
    total = next((found for name in _GPU_USED if (found := _sum(samples, name)) is not None), None)
    other = None
    if total is not None and weights is not None and largest is not None:
        # The cache is taken whole at the start, whatever of it is in use.
        other = max(0, round(total) - weights - largest)
    return ReplicaMemory(weights=weights, kv_used=used, kv_max=largest, other=other)


def _kv_bytes(samples: list[_Sample], per_token: int | None) -> tuple[int | None, int | None]:
    used = next((found for name in _BYTES_USED if (found := _sum(samples, name)) is not None), None)
    largest = next((found for name in _BYTES_MAX if (found := _sum(samples, name)) is not None), None)
    if used is not None or largest is not None:
        return _rounded(used), _rounded(largest)
    tokens = _block(samples, "tokens_per")
    if per_token is None or tokens is None:
        return None, None
    used, largest = _block(samples, "used"), _block(samples, "max")
    size = tokens * per_token
    return (
        None if used is None else round(used * size),
        None if largest is None else round(largest * size),
    )


def _block(samples: list[_Sample], kind: str) -> float | None:
    return _sum(samples, _BLOCKS, kv_cache_block_type=kind)


def _sum(samples: list[_Sample], name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for sample in samples
        if sample.name == name and all(sample.labels.get(key) == value for key, value in labels.items())
    ]
    return sum(found) if found else None


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _samples(text: str) -> Iterator[_Sample]:
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        # Triton writes "Nan" for what it has not measured.
        if math.isfinite(value) and value >= 0:
            yield _Sample(match[1], dict(_LABEL.findall(match[2] or "")), value)
