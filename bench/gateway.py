"""The gateway against the engine called directly, side by side: throughput, added latency, memory."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench.tools import berth, engine, gateway, load, triton
from bench.tools.figures import Figures, quantile, quantiles, share
from clusters.triton.repository import ENGINE_MODEL

STEP_S: Final = 2.5
CONNECTIONS: Final = (32, 256)
REAL_CONNECTIONS: Final = (1, 16)
PACED_PER_S: Final = 100.0
PACED_CONNECTIONS: Final = 32
PACED_S: Final = 3.0
ROUNDS: Final = {"answer": 4, "stream": 2}
CROWD: Final = 500
MODELS: Final = {"answer": engine.WHOLE, "stream": engine.PIECES}
REAL_TOKENS: Final = 16
SETTLE_S: Final = 3.0


def measure() -> Figures:
    """Run both sides before an engine that costs nothing, then before a real tritonserver.

    ``answer`` is a chat completion whose engine answers at once, ``stream`` one streamed in 22 pieces,
    ``real_answer`` and ``real_stream`` 16 tokens of the shipped language model.
    """
    with berth.folder() as folder:
        figures = asyncio.run(_before_a_light_engine(folder / "light"))
        with triton.running(folder / "triton") as url:
            figures |= asyncio.run(_before_a_real_engine(folder / "real", url))
    return figures


async def _before_a_light_engine(folder: Path) -> Figures:
    folder.mkdir()
    port_file = folder / "engine.port"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.tools.engine", str(port_file), cwd=load.ROOT
    )
    try:
        url = await _url(port_file)
        async with gateway.running(folder, url, MODELS) as front:
            figures: Figures = {"gateway_at_rest_mib": front.resident_mib()}
            for kind in MODELS:
                sides = {"direct": _light_direct(url, kind), "gateway": _light_through(front, kind)}
                for connections in CONNECTIONS:
                    figures |= await _full_speed(front, f"{kind}s_c{connections}", sides, connections)
                figures |= await _paced(front, kind, sides)
            figures |= await _crowd(front)
            figures["gateway_after_load_mib"] = front.resident_mib()
            await asyncio.sleep(SETTLE_S)
            figures["completed_requests"] = front.answered
            figures["completed_requests_in_shipped_usage"] = await front.stop()
    finally:
        process.terminate()
        await process.wait()
    return figures


async def _before_a_real_engine(folder: Path, url: str) -> Figures:
    folder.mkdir()
    figures: Figures = {}
    async with gateway.running(folder, url, {"real": ENGINE_MODEL}) as front:
        for kind in ("answer", "stream"):
            sides = {"direct": _real_direct(url), "gateway": _real_through(front, stream=kind == "stream")}
            for connections in REAL_CONNECTIONS:
                figures |= await _full_speed(front, f"real_{kind}s_c{connections}", sides, connections)
    return figures


async def _full_speed(
    front: gateway.Gateway, name: str, sides: dict[str, dict[str, Any]], connections: int
) -> Figures:
    figures: Figures = {}
    for side, call in sides.items():
        cpu_s = front.cpu_s()
        report = await load.run(load.plan_for(**call, connections=connections, seconds=STEP_S))
        figures[f"{name}_{side}_per_s"] = report.per_s
        figures |= quantiles(f"{name}_{side}", report.last_byte_ms, "ms", percents=(50, 99))
        if side == "gateway":
            front.count(report)
            each = share(front.cpu_s() - cpu_s, report.all_answered)
            figures[f"{name}_gateway_cpu_us_each"] = each * 1e6
            figures[f"{name}_answered_percent"] = 100 * share(report.answered, report.sent)
            figures[f"{name}_gateway_to_direct_ratio"] = share(
                report.per_s, float(figures[f"{name}_direct_per_s"])
            )
    return figures


async def _paced(front: gateway.Gateway, kind: str, sides: dict[str, dict[str, Any]]) -> Figures:
    """Send at a fixed rate to one side and the other in turn, so that what the machine does meets both."""
    last: dict[str, list[float]] = {side: [] for side in sides}
    first: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS[kind]):
        for side, call in sides.items():
            report = await load.run(
                load.plan_for(**call, connections=PACED_CONNECTIONS, seconds=PACED_S, rate=PACED_PER_S)
            )
            last[side] += report.last_byte_ms
            first[side] += report.first_byte_ms
            if side == "gateway":
                front.count(report)
    figures: Figures = {}
    for what, times in ((kind, last), (f"{kind}_first_byte", first)):
        for percent in (50, 99):
            direct, through = (quantile(times[side], percent / 100) for side in ("direct", "gateway"))
            figures[f"{what}_at_100_per_s_direct_p{percent}_ms"] = direct
            figures[f"{what}_at_100_per_s_added_p{percent}_ms"] = through - direct
    return figures


async def _crowd(front: gateway.Gateway) -> Figures:
    call = _light_through(front, "answer")
    report = front.count(await load.run(load.plan_for(**call, connections=CROWD, seconds=STEP_S)))
    name = f"answers_c{CROWD}"
    return {
        f"{name}_gateway_per_s": report.per_s,
        **quantiles(f"{name}_gateway", report.last_byte_ms, "ms", percents=(50, 99)),
        f"{name}_answered_percent": 100 * share(report.answered, report.sent),
    }


def _light_direct(url: str, kind: str) -> dict[str, Any]:
    return {
        "url": url,
        "path": engine.path(MODELS[kind]),
        "body": engine.payload(tokens=engine.EVENTS),
        "ending": '"finish_reason": "length"',
    }


def _light_through(front: gateway.Gateway, kind: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": kind,
        "messages": [{"role": "user", "content": "What is an SLO class?"}],
        "max_tokens": engine.EVENTS,
    }
    return {
        "url": front.url,
        "path": "/v1/chat/completions",
        "headers": gateway.HEADERS,
        "body": body | ({"stream": True} if kind == "stream" else {}),
        "ending": "data: [DONE]" if kind == "stream" else '"usage"',
    }


def _real_direct(url: str) -> dict[str, Any]:
    body = engine.payload(tokens=REAL_TOKENS) | {"temperature": 0.0}
    return {"url": url, "path": engine.path(ENGINE_MODEL), "body": body, "ending": '"finish_reason":"'}


def _real_through(front: gateway.Gateway, *, stream: bool) -> dict[str, Any]:
    prompt = engine.payload(tokens=REAL_TOKENS)["text_input"]
    body: dict[str, Any] = {"model": "real", "prompt": prompt, "max_tokens": REAL_TOKENS, "temperature": 0.0}
    return {
        "url": front.url,
        "path": "/v1/completions",
        "headers": gateway.HEADERS,
        "body": body | ({"stream": True} if stream else {}),
        "ending": "data: [DONE]" if stream else '"usage"',
    }


async def _url(port_file: Path) -> str:
    deadline = time.monotonic() + 15
    while not port_file.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the light engine did not start")
        await asyncio.sleep(0.02)
    return f"http://127.0.0.1:{port_file.read_text()}"
