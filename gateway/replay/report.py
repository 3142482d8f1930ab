"""What came of a replay, for one target and side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.replay.client import Measured, Target

PERCENTS: Final = (50, 95, 99)
_HEADINGS: Final = {
    "requests": "requests",
    "completed": "completed",
    "failed": "failed",
    "seconds": "seconds",
    "input_tokens": "input tokens",
    "cached_tokens": "of them cached",
    "output_tokens": "output tokens",
    "output_tokens_per_s": "output tokens/s",
    "ttft_p50_ms": "TTFT p50, ms",
    "ttft_p95_ms": "TTFT p95, ms",
    "ttft_p99_ms": "TTFT p99, ms",
    "itl_p50_ms": "ITL p50, ms",
    "itl_p95_ms": "ITL p95, ms",
    "itl_p99_ms": "ITL p99, ms",
    "answer_p50_ms": "whole answer p50, ms",
    "answer_p95_ms": "whole answer p95, ms",
    "answer_p99_ms": "whole answer p99, ms",
    "cost": "cost",
    "cost_per_million_output_tokens": "cost per 1M output tokens",
    "sent_late_p99_ms": "sent late p99, ms",
}


def summarize(target: Target, measured: Sequence[Measured], *, seconds: float) -> dict[str, Any]:
    """Sum up one target. Latencies and tokens are of requests that came to their end; cost needs prices.

    ``itl`` is taken over all times between two pieces of an answer, which are tokens where the endpoint sends each
    by itself. ``sent_late`` is the replay's own lateness: where it is not small, this machine was too slow.
    """
    good = [each for each in measured if not each.failure]
    tokens = {
        name: sum(getattr(each, name) for each in good)
        for name in ("input_tokens", "cached_tokens", "output_tokens")
    }
    figures: dict[str, Any] = {
        "target": target.name,
        "requests": len(measured),
        "completed": len(good),
        "failed": len(measured) - len(good),
        "failures": dict(Counter(each.failure for each in measured if each.failure).most_common()),
        "seconds": round(seconds, 3),
        **tokens,
        "output_tokens_per_s": round(tokens["output_tokens"] / seconds, 3) if seconds else None,
    }
    for name, values in (
        ("ttft", [each.ttft_s for each in good if each.ttft_s is not None]),
        ("itl", [gap for each in good for gap in each.gaps_s]),
        ("answer", [each.total_s for each in good if each.total_s is not None]),
    ):
        figures |= {f"{name}_p{percent}_ms": _quantile_ms(values, percent) for percent in PERCENTS}
    cost = _cost(target, tokens)
    figures["cost"] = cost
    figures["cost_per_million_output_tokens"] = (
        round(cost / tokens["output_tokens"] * 1e6, 6)
        if cost is not None and tokens["output_tokens"]
        else None
    )
    figures["sent_late_p99_ms"] = _quantile_ms([each.late_s for each in measured], 99)
    return figures


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """Lay summaries out side by side; with two, a last column says how much more the second has."""
    heads = ["", *(str(summary["target"]) for summary in summaries)]
    compared = len(summaries) == 2
    rows = [heads + (["change"] if compared else [])]
    for name, heading in _HEADINGS.items():
        values = [summary[name] for summary in summaries]
        row = [heading, *map(_shown, values)]
        rows.append(row + ([_change(*values)] if compared else []))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
    for summary in summaries:
        lines += [f"{summary['target']}: {count} x {what}" for what, count in summary["failures"].items()]
    return "\n".join(line.rstrip() for line in lines)


def _quantile_ms(values: Iterable[float], percent: int) -> float | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] * 1000, 3)


def _cost(target: Target, tokens: dict[str, int]) -> float | None:
    if target.input_price is None or target.output_price is None:
        return None
    cached_price = target.input_price if target.cached_price is None else target.cached_price
    fresh = tokens["input_tokens"] - tokens["cached_tokens"]
    amount = (
        fresh * target.input_price
        + tokens["cached_tokens"] * cached_price
        + tokens["output_tokens"] * target.output_price
    )
    return round(amount / 1e6, 9)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _change(first: float | None, second: float | None) -> str:
    if not first or second is None:
        return ""
    return f"{(second / first - 1) * 100:+.1f} %"
