"""An open loop: requests go out when the trace says, however slowly answers come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import aiohttp

from gateway.replay.client import Client, Measured, Target, TargetRefused
from gateway.replay.trace import TracedRequest

#: How often it is looked how late this process itself is, in hearing as in sending.
_WATCH_S: Final = 0.01

#: How long before the first request is due its prompt begins to be made.
_AHEAD_S: Final = 0.05


class Run(NamedTuple):
    """One target's answers. ``behind_s`` are how much later than asked this process came to look at its clock."""

    target: Target
    measured: list[Measured]
    seconds: float
    began: float  # of time.time
    most_in_flight: int
    behind_s: list[float]
    server: str


async def replay(
    trace: Sequence[TracedRequest],
    targets: Sequence[Target],
    *,
    timeout_s: float,
    warm_up: int = 0,
    together: bool = False,
) -> list[Run]:
    """Send the whole trace to one target after the other, or to all ``together``; each gets the same prompts.

    ``warm_up`` requests like the first ones of the trace are sent and heard out before, and not measured.

    Raises:
        TargetRefused: a target does not answer as an OpenAI endpoint should; nothing was replayed.
    """
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        clients = [Client(target, session, timeout_s=timeout_s) for target in targets]
        for client in clients:
            await client.learn_scale()
        if together:
            for client in clients:
                await _warm_up(client, trace, warm_up)
            return await asyncio.gather(*(_run(client, trace) for client in clients))
        runs = []
        for client in clients:
            await _warm_up(client, trace, warm_up)
            runs.append(await _run(client, trace))
        return runs


async def _warm_up(client: Client, trace: Sequence[TracedRequest], count: int) -> None:
    """Raises TargetRefused where every one of these requests fails."""
    answers = [
        await client.send(
            client.prepare(trace[number % len(trace)], seed=f"warm-up {number}"),
            at_s=0.0,
            due=time.perf_counter(),
        )
        for number in range(count)
    ]
    client.most_in_flight = 0
    if answers and all(answer.failure for answer in answers):
        raise TargetRefused(f"{client.target.name}: all warm-up requests failed: {answers[-1].failure}")


async def _run(client: Client, trace: Sequence[TracedRequest]) -> Run:
    behind_s: list[float] = []
    watch = asyncio.create_task(_watch(behind_s))
    tasks = []
    began, begin = time.time() + _AHEAD_S, time.perf_counter() + _AHEAD_S
    try:
        for number, request in enumerate(trace):
            # Made before it is due, so that the making of a prompt delays no sending.
            body = client.prepare(request, seed=str(number))
            due = begin + request.at_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(client.send(body, at_s=request.at_s, due=due)))
        measured = await asyncio.gather(*tasks)
    finally:
        watch.cancel()
    return Run(
        client.target,
        measured,
        time.perf_counter() - begin,
        began,
        client.most_in_flight,
        behind_s,
        client.server,
    )


async def _watch(behind_s: list[float]) -> None:
    while True:
        due = time.perf_counter() + _WATCH_S
        await asyncio.sleep(_WATCH_S)
        behind_s.append(time.perf_counter() - due)
