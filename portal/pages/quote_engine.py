"""What a plan says of speed, memory and engines, as the quote panel and an endpoint's page show it."""

from __future__ import annotations

from typing import Any, Final

from clusters.models import SloClass
from clusters.planning.plans import Configuration, MemoryBreakdown
from clusters.specs import Tuning
from portal.templatetags.berth import count, decimals, gib, ms, percent, sentence

#: What the expected times were come by.
SOURCES: Final = {
    "measured here": "Measured on this installation's own GPUs",
    "measured": "Measured on these GPUs",
    "calibrated": "Estimated by measurements of other GPUs or models",
    "roofline": "Estimated from the data sheet of the GPU",
}

_SCHEDULERS: Final = {
    "GUARANTEED_NO_EVICT": "a request that was begun is never put back",
    "MAX_UTILIZATION": "as many requests as possible; some are put back when memory runs out",
    "STATIC_BATCH": "a batch is finished before the next begins",
}


def times(chosen: Configuration, slo_class: SloClass) -> dict[str, Any]:
    """Give expected times beside the class's targets, with how far they may be off and where they come from."""
    return {
        "rows": [
            _time("First token, p95", chosen.ttft_p95_ms, chosen.ttft_error, slo_class.ttft_p95_ms),
            _time("Between tokens, p95", chosen.itl_p95_ms, chosen.itl_error, slo_class.itl_p95_ms),
            {"what": "Whole answer, mean", "expected": ms(chosen.answer_ms), "error": "", "target": "none"},
        ],
        "source": f"{SOURCES.get(chosen.performance_source, chosen.performance_source)}, at the load given. "
        "In 9 of 10 cases times are off by no more than is said beside them.",
    }


def _time(what: str, expected: float, error: float, target: int | None) -> dict[str, str]:
    return {
        "what": what,
        "expected": ms(expected),
        "error": f"± {percent(error, 0)}" if error < 1 else f"up to x {decimals(1 + error, 1)}",
        "target": "none" if target is None else ms(target),
    }


def memory(told: MemoryBreakdown) -> dict[str, Any]:
    """Give the memory of one GPU told apart, as ``components/stacked_meter.html`` takes it."""
    parts = [
        ("Weights", told.weights_gib),
        ("KV cache", told.kv_gib),
        ("Activations", told.activations_gib),
        ("Framework", told.framework_gib),
    ]
    whole = max(told.available_gib, told.needed_gib, 0.001)
    segments, begun = [], 0.0
    for number, (label, size) in enumerate(parts, 1):
        width = 100 * size / whole
        segments.append(
            {
                "label": label,
                "text": gib(size),
                "number": number,
                "x": f"{begun:.2f}",
                "width": f"{width:.2f}",
            }
        )
        begun += width
    return {
        "label": "Memory of each GPU",
        "text": f"{gib(told.needed_gib)} of {gib(told.available_gib)}",
        "segments": segments,
        "rest": {"label": "Free", "text": gib(max(0.0, told.available_gib - told.needed_gib))},
    }


def techniques(chosen: Configuration) -> list[dict[str, str]]:
    """Give which techniques are on, and why."""
    return [
        {"name": each.name, "setting": each.setting, "why": sentence(each.why)} for each in chosen.techniques
    ]


def engine_settings(tuning: Tuning) -> list[dict[str, Any]]:
    """Give how the engines are set, as facts."""
    batch = "as many as fit" if tuning.max_batch_size is None else f"{count(tuning.max_batch_size)} requests"
    cache = f"{percent(tuning.kv_cache_fraction, 0)} of what is free, {tuning.kv_cache_dtype}"
    overlap = "steps are prepared while others run" if tuning.overlap_scheduler else "off"
    every = f"every {count(tuning.stream_interval)} tokens" if tuning.stream_interval > 1 else "every token"
    return [
        {"label": "Batch limit", "value": batch},
        {"label": "Step limit", "value": f"{count(tuning.max_num_tokens)} tokens"},
        {"label": "KV cache", "value": cache},
        {"label": "Chunked prefill", "value": _switch(tuning.chunked_prefill)},
        {"label": "Prefix reuse", "value": _switch(tuning.kv_block_reuse)},
        {"label": "Scheduler", "value": _SCHEDULERS.get(tuning.scheduler_policy, tuning.scheduler_policy)},
        {"label": "Overlap", "value": overlap},
        {"label": "CUDA graphs", "value": _switch(tuning.cuda_graphs)},
        {"label": "Attention", "value": tuning.attention_backend, "code": True},
        {"label": "Streams send", "value": every},
    ]


def _switch(on: bool) -> str:
    return "on" if on else "off"
