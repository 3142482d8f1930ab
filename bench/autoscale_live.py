"""What do replicas that follow the load cost and keep on real engines, beside a fixed floor and a fixed ceiling?

``autoscale`` asks the same of a simulated day. Here everything runs as in the demo, with real tritonservers. One trace,
quiet, busy, quiet, is replayed against one endpoint three times: with one replica, with ``CEILING`` of them, and
between both as Berth decides. What a replica works on at once is pinned to few requests, so that the busy part is more
than one can do. The class's quiet time is shortened. Run by name only: ``make bench BENCH=autoscale_live``.
``BERTH_AUTOSCALE_SECONDS`` sets another length of the quiet parts.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import random
import time
from typing import Any, Final

import httpx

from bench.tools import berth
from bench.tools.change import await_serving, gpu_hours, set_class
from bench.tools.figures import Figures
from gateway.replay.arrivals import replay
from gateway.replay.client import Target
from gateway.replay.report import Goals, summarize
from gateway.replay.trace import TracedRequest
from portal.demo import accounts
from tests.scenarios.stack import Session, Stack, wait

ONLY_BY_NAME: Final = True
SECONDS: Final = 45.0
BUSY_S: Final = 60.0
CEILING: Final = 3
BATCH: Final = 2
QUIET_S: Final = 30
OUTPUT_TOKENS: Final = 120
INPUT_TOKENS: Final = 40
SEED: Final = 8
MODEL: Final = "following"
#: Shares of what one replica was measured to do: quiet, busy.
QUIET_SHARE: Final = 0.25
BUSY_SHARE: Final = 1.4
#: The targets of the class standard.
GOALS: Final = Goals(ttft_ms=2000.0, itl_ms=80.0)
ARMS: Final = ("floor", "ceiling", "auto")


def broken(figures: Figures) -> list[str]:
    """Name the promises that these figures break."""
    return [
        f"{arm}: {figures[f'{arm}_lost']} requests were lost" for arm in ("auto",) if figures[f"{arm}_lost"]
    ]


def measure() -> Figures:
    """Replay the trace three times."""
    seconds = float(os.environ.get("BERTH_AUTOSCALE_SECONDS", SECONDS))
    begun = os.getloadavg()[0]
    with berth.whole() as stack:
        return {"load_at_begin": begun} | _run(stack, seconds) | {"load_at_end": os.getloadavg()[0]}


def _run(stack: Stack, seconds: float) -> Figures:
    set_class(stack.data_dir, "standard", quiet_s=QUIET_S)
    owner = stack.sign_in(accounts.TENANTS[0].owner)
    endpoint = owner.order(MODEL, replicas=1, pins={"max_batch_size": BATCH})
    owner.await_state(endpoint["id"], "ready", 240)
    key = owner.inference_key()
    await_serving(stack, MODEL, key)
    capacity = _capacity(stack, key)
    trace = _trace(capacity, seconds)
    figures: Figures = {
        "replica_does_per_s": round(capacity, 2),
        "requests": len(trace),
        "trace_s": round(trace[-1].at_s, 1),
        "ceiling": CEILING,
        "batch": BATCH,
    }
    for arm in ARMS:
        figures |= {
            f"{arm}_{name}": value for name, value in _arm(stack, owner, endpoint["id"], arm, key, trace)
        }
    return figures


def _arm(
    stack: Stack, owner: Session, endpoint_id: str, arm: str, key: str, trace: list[TracedRequest]
) -> list[tuple[str, Any]]:
    path = f"/endpoints/{endpoint_id}"
    replicas = CEILING if arm == "ceiling" else 1
    if not _settled(owner, path, replicas):
        owner.patch(path, {"replicas": replicas})
    wait(lambda: _settled(owner, path, replicas), 240, lambda: f"{arm}: {owner.get(path)['state']}")
    if arm == "auto":
        owner.client.put(
            f"/api/v1{path}/autoscaling", json={"enabled": True, "floor": 1, "ceiling": CEILING},
            headers=owner._csrf(),
        ).raise_for_status()  # fmt: skip
    since = dt.datetime.now(dt.UTC)
    target = Target(name=arm, url=f"{stack.gateway}/v1", model=MODEL, key=key)
    (run,) = asyncio.run(replay(trace, [target], timeout_s=120))
    until = dt.datetime.now(dt.UTC)
    result = summarize(run, GOALS)
    found = [
        ("lost", result["failed"]),
        ("lost_because", "; ".join(result["failures"]) or "none"),
        ("attainment_percent", result["goodput_percent"]),
        ("ttft_due_p95_ms", result["ttft_due_p95_ms"]),
        ("itl_p95_ms", result["itl_p95_ms"]),
        ("gpu_hours", round(gpu_hours(stack.data_dir, endpoint_id, since, until), 4)),
        ("seconds", result["seconds"]),
        ("kept_up", result["kept_up"]),
    ]
    if arm == "auto":
        made = owner.get(f"{path}/scaling-decisions")["results"]
        told = [
            f"{each['before']} to {each['after']} ({each['why']}, {each['outcome']})"
            for each in reversed(made)
        ]
        found.append(("decisions", "; ".join(told) or "none"))
    return found


def _settled(owner: Session, path: str, replicas: int) -> bool:
    found = owner.get(path)
    serving = [each for each in found["observed_replicas"] if each["phase"] == "ready"]
    return found["state"] == "ready" and len(serving) == len(found["observed_replicas"]) == replicas


def _capacity(stack: Stack, key: str) -> float:
    """Give how many requests a second one replica answers with all its places taken."""
    count = 6 * BATCH

    async def ask() -> float:
        places = asyncio.Semaphore(BATCH)
        async with httpx.AsyncClient(timeout=120) as client:

            async def one(number: int) -> None:
                body = {
                    "model": MODEL, "max_tokens": OUTPUT_TOKENS,
                    "messages": [{"role": "user", "content": f"harbour signal {number} " * (INPUT_TOKENS // 4)}],
                }  # fmt: skip
                async with places:
                    answer = await client.post(
                        f"{stack.gateway}/v1/chat/completions",
                        json=body,
                        headers={"Authorization": f"Bearer {key}"},
                    )
                    answer.raise_for_status()

            begin = time.monotonic()
            await asyncio.gather(*(one(number) for number in range(count)))
            return count / (time.monotonic() - begin)

    return asyncio.run(ask())


def _trace(capacity: float, seconds: float) -> list[TracedRequest]:
    """Quiet, busy, quiet: requests of one length at random moments."""
    rng = random.Random(SEED)
    trace = []
    at, end = 0.0, 2 * seconds + BUSY_S
    while True:
        busy = seconds <= at < seconds + BUSY_S
        at += rng.expovariate(capacity * (BUSY_SHARE if busy else QUIET_SHARE))
        if at >= end:
            return trace
        trace.append(TracedRequest(at, INPUT_TOKENS, OUTPUT_TOKENS))
