"""A report for people: results side by side, and in words what has to be known beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.replay.compare import Change, changes

_HEADINGS: Final = {
    "speed": "speed",
    "requests": "requests",
    "completed": "completed",
    "failed": "failed",
    "failed_percent": "failed, %",
    "seconds": "seconds",
    "requests_per_s": "answers/s",
    "mean_in_flight": "in flight, mean",
    "most_in_flight": "in flight, most",
    "input_tokens": "input tokens",
    "cached_tokens": "of them cached",
    "output_tokens": "output tokens",
    "output_tokens_per_s": "output tokens/s",
    "gpus": "GPUs",
    "output_tokens_per_s_per_gpu": "output tokens/s per GPU",
    "tokens_per_s_per_gpu": "all tokens/s per GPU",
    "ttft_p50_ms": "TTFT p50, ms",
    "ttft_p95_ms": "TTFT p95, ms",
    "ttft_p99_ms": "TTFT p99, ms",
    "ttft_due_p50_ms": "TTFT from due p50, ms",
    "ttft_due_p95_ms": "TTFT from due p95, ms",
    "ttft_due_p99_ms": "TTFT from due p99, ms",
    "itl_p50_ms": "ITL p50, ms",
    "itl_p95_ms": "ITL p95, ms",
    "itl_p99_ms": "ITL p99, ms",
    "tpot_p50_ms": "mean ITL of a request p50, ms",
    "tpot_p95_ms": "mean ITL of a request p95, ms",
    "tpot_p99_ms": "mean ITL of a request p99, ms",
    "answer_due_p50_ms": "whole answer from due p50, ms",
    "answer_due_p95_ms": "whole answer from due p95, ms",
    "answer_due_p99_ms": "whole answer from due p99, ms",
    "goodput_percent": "within the goals, %",
    "goodput_requests_per_s": "answers within the goals/s",
    "cost": "cost",
    "cost_per_million_tokens": "cost per 1M tokens",
    "cost_per_million_output_tokens": "cost per 1M output tokens",
    "gpu_cost": "cost of the GPUs",
    "gpu_cost_per_million_tokens": "cost of the GPUs per 1M tokens",
    "gpu_cost_per_million_output_tokens": "cost of the GPUs per 1M output tokens",
    "sent_late_p99_ms": "sent late p99, ms",
    "heard_late_p99_ms": "heard late p99, ms",
}

#: Left out where no result has them.
_OPTIONAL: Final = (
    "gpus", "output_tokens_per_s_per_gpu", "tokens_per_s_per_gpu", "goodput_percent", "goodput_requests_per_s",
    "cost", "cost_per_million_tokens", "cost_per_million_output_tokens",
    "gpu_cost", "gpu_cost_per_million_tokens", "gpu_cost_per_million_output_tokens",
)  # fmt: skip

#: Not worth a percentage.
_UNCOMPARED: Final = ("speed", "gpus", "sent_late_p99_ms", "heard_late_p99_ms")


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Lay results out side by side; with two, a last column says how much more the second has, and how sure that is."""
    changed = changes(*results) if len(results) == 2 else {}
    rows = [["", *(str(result["target"]) for result in results), *(["change"] if changed else [])]]
    for name, heading in _HEADINGS.items():
        values = [result.get(name) for result in results]
        if name in _OPTIONAL and not any(value is not None for value in values):
            continue
        row = [heading, *map(_shown, values)]
        if changed:
            row.append(_change(changed.get(name)) if name not in _UNCOMPARED else "")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
    return "\n".join([*lines, *(line for result in results for line in remarks(result))])


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Say what has to be known beside the figures."""
    name = result["target"]
    lines = [f"{name}: {count} x {what}" for what, count in result["failures"].items()]
    if not result["kept_up"]:
        lines.append(
            f"{name}: this machine could not keep up (99 of 100 requests were sent up to"
            f" {_shown(result['sent_late_p99_ms'])} ms late, and heard up to {_shown(result['heard_late_p99_ms'])} ms"
            " late): the figures are not the target's alone. Replay from a machine with more processor time, or slower."
        )
    pieces = result["tokens_per_piece"]
    if pieces is not None and pieces > 1.05:
        lines.append(
            f"{name}: a piece of an answer held {pieces:g} tokens on average; its time is shared evenly among them."
        )
    return lines


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _change(change: Change | None) -> str:
    if change is None:
        return ""
    told = f"{change.percent:+.1f} %"
    if change.low is None or change.high is None:
        return told
    return f"{told} ({change.low:+.1f} … {change.high:+.1f}){'' if change.is_chance else ' *'}"
