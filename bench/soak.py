"""An hour at half load: does the gateway's memory grow, do its latencies?

Run by name only: ``make bench BENCH=soak``. ``BERTH_SOAK_MINUTES`` sets another length.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from bench.tools import berth, gateway, load, sides
from bench.tools.figures import Figures, quantile, share
from bench.tools.mock import running as mock
from gateway.contract import EngineProtocol

ONLY_BY_NAME: Final = True
MINUTES: Final = 60.0
WINDOW_S: Final = 30.0
FULL_S: Final = 10.0
CONNECTIONS: Final = 32
LOAD_SHARE: Final = 0.5
#: Left out of the slope: caches fill and the heap takes its shape.
WARM_UP_SHARE: Final = 0.2


def measure() -> Figures:
    """Find the full speed, then send half of it, answers and streams in turn, and look every half minute."""
    minutes = float(os.environ.get("BERTH_SOAK_MINUTES", MINUTES))
    with berth.folder() as folder:
        return asyncio.run(_soak(folder, minutes))


async def _soak(folder: Path, minutes: float) -> Figures:
    async with (
        mock(folder) as url,
        gateway.running(folder / "berth", url, sides.KINDS, protocol=EngineProtocol.OPENAI_HTTP) as front,
    ):
        calls = {kind: sides.chat(front.url, kind, kind, gateway.HEADERS) for kind in sides.KINDS}
        rates = {}
        for kind, call in calls.items():
            full = front.count(await load.run(load.plan_for(**call, connections=CONNECTIONS, seconds=FULL_S)))
            rates[kind] = full.per_s * LOAD_SHARE
        memory: list[float] = []
        p99: list[float] = []
        sent = answered = 0
        windows = max(4, round(minutes * 60 / WINDOW_S))
        for window in range(windows):
            kind = tuple(calls)[window % len(calls)]
            report = front.count(
                await load.run(
                    load.plan_for(**calls[kind], connections=CONNECTIONS, seconds=WINDOW_S, rate=rates[kind])
                )
            )
            sent += report.sent
            answered += report.answered
            memory.append(front.resident_mib())
            now_ms = quantile(report.last_byte_ms, 0.99)
            if kind == "answer":
                p99.append(now_ms)
            # An hour is long: what was seen so far is of use if it is broken off.
            print(
                f"  {window + 1} of {windows}: {kind}, {report.answered} of {report.sent}, p99 {now_ms:.1f} ms,"
                f" {memory[-1]:.1f} MiB",
                flush=True,
            )
        warm = round(len(memory) * WARM_UP_SHARE)
        third = max(1, len(p99) // 3)
        return {
            "minutes": minutes,
            **{f"{kind}_rate_per_s": rate for kind, rate in rates.items()},
            "requests": sent,
            "ok_share": share(answered, sent),
            "memory_first_mib": memory[0],
            "memory_last_mib": memory[-1],
            "memory_slope_mib_per_10_min": _slope(memory[warm:]) * 600 / WINDOW_S,
            "answer_p99_first_third_ms": quantile(p99[:third], 0.5),
            "answer_p99_last_third_ms": quantile(p99[-third:], 0.5),
            "answer_p99_worst_window_ms": max(p99),
            "completed_requests": front.answered,
            "completed_requests_in_shipped_usage": await front.stop(),
        }


def _slope(values: list[float]) -> float:
    """Give the least-squares slope by step."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return share(above, sum((place - middle) ** 2 for place in range(count)))
