"""What the engine says about itself, under the names that TensorRT-LLM's own Triton backend uses."""

from __future__ import annotations

import json
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_BLOCKS = {
    "max": "maxNumBlocks",
    "free": "freeNumBlocks",
    "used": "usedNumBlocks",
    "tokens_per": "tokensPerBlock",
}
_REQUESTS = {"active": "numActiveRequests", "waiting": "numQueuedRequests", "max": "maxNumActiveRequests"}


class Gauges:
    """Gauges of requests and KV cache blocks.

    Only one thread may call it: tritonserver dies when two set metrics at the same time.
    """

    def __init__(self, model: str, version: str) -> None:
        labels = {"model": model, "version": version}
        self._families = []  # the metrics end with them
        self._blocks = self._family(
            "nv_trt_llm_kv_cache_block_metrics", "KV cache blocks", "kv_cache_block_type", _BLOCKS, labels
        )
        self._requests = self._family(
            "nv_trt_llm_request_metrics", "Requests by state", "request_type", _REQUESTS, labels
        )
        self._shown: dict[Any, float] = {}

    def show(self, statistics: Any) -> None:
        """Show one iteration's statistics, as the LLM API gives them: a dict or its JSON text."""
        found = json.loads(statistics) if isinstance(statistics, str | bytes) else statistics
        self._set("blocks", self._blocks, _BLOCKS, found.get("kvCacheStats") or {})
        self._set("requests", self._requests, _REQUESTS, found)

    def idle(self) -> None:
        """Say that nothing runs: the engine gives no statistics then."""
        self._set("requests", self._requests, _REQUESTS, {"numActiveRequests": 0, "numQueuedRequests": 0})

    def _family(
        self, name: str, description: str, label: str, values: dict[str, str], labels: dict[str, str]
    ) -> dict[str, Any]:
        family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.GAUGE)
        self._families.append(family)
        return {value: family.Metric(labels=labels | {label: value}) for value in values}

    def _set(self, kind: str, metrics: dict[str, Any], fields: dict[str, str], found: dict[str, Any]) -> None:
        for value, field in fields.items():
            number = found.get(field)
            # Each set is a round trip to the server.
            if isinstance(number, int | float) and self._shown.get((kind, value)) != number:
                metrics[value].set(number)
                self._shown[kind, value] = number
