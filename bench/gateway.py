"""The gateway beside LiteLLM's proxy and the upstream alone, before a real tritonserver, and under overload."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.tools import berth, engine, gateway, litellm, load, mock, overload, sides, triton
from bench.tools.figures import Figures, quantile, quantiles, share
from clusters.triton.repository import ENGINE_MODEL
from gateway.contract import EngineProtocol
from tests.fakes.otlp import FakeCollector

STEP_S: Final = 3.0
CONNECTIONS: Final = (1, 32, 256, 500)
STREAM_CONNECTIONS: Final = 32
LARGE_CONNECTIONS: Final = 8
REAL_CONNECTIONS: Final = (1, 16)
PACED_PER_S: Final = 100.0
PACED_CONNECTIONS: Final = 32
PACED_S: Final = 5.0
PACED_ROUNDS: Final = 4
FEATURE_ROUNDS: Final = 4
REAL_TOKENS: Final = 16
SETTLE_S: Final = 3.0
MODELS: Final = sides.KINDS
#: What is turned off or on in a gateway beside one with everything as it is shipped.
VARIANTS: Final[Mapping[str, dict[str, Any]]] = {
    "metering_off": {"module": "bench.tools.unmetered"},
    "metrics_off": {"environment": {"BERTH_GATEWAY_METRICS": "off"}},
    "tracing_on": {"environment": {"BERTH_GATEWAY_TRACES": "on"}},
    "tracing_every_request": {
        "environment": {"BERTH_GATEWAY_TRACES": "on", "BERTH_GATEWAY_TRACE_RATIO": "1"}
    },
    "limits_and_budgets_off": {"limited": False},
}
Calls = dict[str, dict[str, Any]]


def measure() -> Figures:
    """Run all comparisons; each side of one gets the same load in the same run.

    An ``answer`` is a chat completion whose upstream answers at once, a ``stream`` one streamed in 22 pieces;
    ``large`` has a prompt of 400 KB; ``real`` asks the shipped language model for 16 tokens.
    """
    with berth.folder() as folder:
        figures = asyncio.run(_before_the_mock(folder))
        with triton.running(folder / "triton") as url:
            figures |= asyncio.run(_before_triton(folder / "real", url))
    return figures


async def _before_the_mock(folder: Path) -> Figures:
    async with mock.running(folder) as url:
        figures = await _beside_peers(folder, url)
        figures |= await _features(folder / "features", url)
        figures |= await _overload(folder / "overload", url)
    return figures


async def _beside_peers(folder: Path, url: str) -> Figures:
    """Compare the three; LiteLLM is left out, aloud, where it cannot be installed."""
    async with contextlib.AsyncExitStack() as stack:
        front = await stack.enter_async_context(
            gateway.running(folder / "berth", url, MODELS, protocol=EngineProtocol.OPENAI_HTTP)
        )
        peer = None
        try:
            peer = await stack.enter_async_context(litellm.running(folder / "litellm", url, MODELS))
        except litellm.NotInstalled as error:
            print(f"LiteLLM is left out: {error}")

        def calls(kind: str, *, prompt: str = "") -> Calls:
            sides_of = {
                "upstream": sides.upstream(url, kind, prompt=prompt),
                "berth": sides.chat(front.url, kind, kind, gateway.HEADERS, prompt=prompt),
            }
            if peer is not None:
                sides_of["litellm"] = sides.chat(peer.url, kind, kind, litellm.HEADERS, prompt=prompt)
            return sides_of

        figures: Figures = _memory(front, peer, "at_rest")
        for connections in CONNECTIONS:
            figures |= await _full_speed(front, f"c{connections}", calls("answer"), connections)
        streams = await _full_speed(front, "streams", calls("stream"), STREAM_CONNECTIONS)
        figures |= {name.replace("_rps_streams", "_streams_per_s"): value for name, value in streams.items()}
        figures |= await _full_speed(front, "large", calls("answer", prompt=sides.LARGE), LARGE_CONNECTIONS)
        for kind, prefix in (("answer", ""), ("stream", "stream_")):
            figures |= await _paced(front, prefix, calls(kind))
        if peer is not None:
            figures["berth_to_litellm_c32"] = share(
                float(figures["berth_rps_c32"]), float(figures["litellm_rps_c32"])
            )
        figures |= _memory(front, peer, "after_load")
        await asyncio.sleep(SETTLE_S)
        figures["completed_requests"] = front.answered
        figures["completed_requests_in_shipped_usage"] = await front.stop()
    return figures


def _memory(front: gateway.Gateway, peer: litellm.LiteLlm | None, when: str) -> Figures:
    figures: Figures = {f"berth_{when}_mib": front.resident_mib()}
    if peer is not None:
        figures[f"litellm_{when}_mib"] = peer.resident_mib()
    return figures


async def _features(folder: Path, url: str) -> Figures:
    """Compare a gateway as it is shipped with one that lacks or has one thing, in turns."""
    cpu: Counter[str] = Counter()
    rates: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        collector = await stack.enter_async_context(FakeCollector())
        fronts = {}
        for name, options in {"shipped": {}, **VARIANTS}.items():
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "BERTH_GATEWAY_TRACES": "off"}
            given = options | {"environment": environment | options.get("environment", {})}
            fronts[name] = await stack.enter_async_context(
                gateway.running(folder / name, url, MODELS, protocol=EngineProtocol.OPENAI_HTTP, **given)
            )
        for _ in range(FEATURE_ROUNDS):
            for name, front in fronts.items():
                call = sides.chat(front.url, "answer", "answer", gateway.HEADERS)
                cpu_s = front.cpu_s()
                report = await load.run(load.plan_for(**call, connections=32, seconds=STEP_S))
                cpu[name] += share(front.cpu_s() - cpu_s, report.all_answered)
                rates[name] += report.per_s
    figures: Figures = {"shipped_cpu_us_each": cpu["shipped"] / FEATURE_ROUNDS * 1e6}
    for name in VARIANTS:
        figures[f"{name}_rps_ratio"] = share(rates[name], rates["shipped"])
        figures[f"{name}_cpu_ratio"] = share(cpu[name], cpu["shipped"])
    return figures


async def _overload(folder: Path, url: str) -> Figures:
    async with gateway.running(
        folder, url, {"bounded": engine.BOUNDED}, concurrency=engine.SLOTS, queue_s=0.5
    ) as front:
        return await overload.measure(sides.chat(front.url, "bounded", "answer", gateway.HEADERS))


async def _before_triton(folder: Path, url: str) -> Figures:
    figures: Figures = {}
    async with gateway.running(folder, url, {"real": ENGINE_MODEL}) as front:
        for kind in ("answer", "stream"):
            calls = {"direct": _real_direct(url), "gateway": _real_through(front, stream=kind == "stream")}
            for connections in REAL_CONNECTIONS:
                name = f"real_{kind}s_c{connections}"
                found = await _full_speed(front, name, calls, connections, ours="gateway")
                figures |= found
                figures[f"{name}_gateway_to_direct"] = share(
                    float(found[f"gateway_rps_{name}"]), float(found[f"direct_rps_{name}"])
                )
    return figures


async def _full_speed(
    front: gateway.Gateway, name: str, calls: Calls, connections: int, *, ours: str = "berth"
) -> Figures:
    figures: Figures = {}
    for side, call in calls.items():
        cpu_s = front.cpu_s()
        report = await load.run(load.plan_for(**call, connections=connections, seconds=STEP_S))
        figures[f"{side}_rps_{name}"] = report.per_s
        figures |= quantiles(f"{side}_{name}", report.last_byte_ms, "ms", percents=(50, 99))
        answered = share(report.answered, report.sent)
        if side == ours:
            front.count(report)
            figures[f"{side}_{name}_cpu_us_each"] = share(front.cpu_s() - cpu_s, report.all_answered) * 1e6
            figures[f"ok_share_{name}"] = answered
        else:
            figures[f"{side}_ok_share_{name}"] = answered
    return figures


async def _paced(front: gateway.Gateway, prefix: str, calls: Calls) -> Figures:
    """Send at a fixed rate to one side after the other, so that what the machine does meets all."""
    first: dict[str, list[float]] = {side: [] for side in calls}
    last: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(PACED_ROUNDS):
        for side, call in calls.items():
            report = await load.run(
                load.plan_for(**call, connections=PACED_CONNECTIONS, seconds=PACED_S, rate=PACED_PER_S)
            )
            first[side] += report.first_byte_ms
            last[side] += report.last_byte_ms
            if side == "berth":
                front.count(report)
    times = first if prefix else last
    figures: Figures = {}
    for side, name in (("berth", "added"), ("litellm", "litellm_added")):
        if side not in calls:
            continue
        for percent in (50, 99):
            alone, through = (quantile(times[which], percent / 100) for which in ("upstream", side))
            figures[f"{prefix}{name}_p{percent}_ms"] = through - alone
    return figures


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
