"""How full an engine says its KV cache is, in its Prometheus text.

Triton's TensorRT-LLM backends count blocks by kind, ``trtllm-serve`` gives the share or bytes. Sources:
https://github.com/triton-inference-server/tensorrtllm_backend#triton-metrics and TensorRT-LLM's
``tensorrt_llm/metrics``.
"""

from __future__ import annotations

from typing import Final

#: From here on an engine lets requests wait for memory, or takes it from those that run.
SHORT_OF_MEMORY: Final = 0.95

_PREFIXES: Final = ("nv_trt_llm_kv_cache_block_metrics", "trtllm_kv_cache_")
_SHARE: Final = "trtllm_kv_cache_utilization"
_USED_AND_MOST: Final = (
    ('kv_cache_block_type="used"', 'kv_cache_block_type="max"'),
    ("trtllm_kv_cache_used_bytes", "trtllm_kv_cache_total_bytes"),
    ("trtllm_kv_cache_used_bytes", "trtllm_kv_cache_max_bytes"),
)


def kv_share(metrics: str) -> float | None:
    """Give the used share of the fullest KV cache, from 0 to 1, None where nothing is said of it."""
    values: dict[str, float] = {}  # by name and labels
    for line in metrics.splitlines():
        if line.startswith(_PREFIXES):
            series, _, number = line.rpartition(" ")
            try:
                values[series] = float(number)
            except ValueError:
                continue
    shares = [value for series, value in values.items() if series.startswith(_SHARE)]
    for used, most in _USED_AND_MOST:
        for series, value in values.items():
            if used in series and (whole := values.get(series.replace(used, most))):
                shares.append(value / whole)
    return max(shares, default=None)
