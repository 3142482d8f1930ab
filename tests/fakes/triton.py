"""A Triton server that speaks ``generate_stream`` and misbehaves on request.

Run as a program, ``python -m tests.fakes.triton PORT_FILE``, it is an upstream for kill tests and benches.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web


@dataclasses.dataclass
class Behaviour:
    """How one call is answered. ``*_after`` count tokens sent before the thing happens; None is never.

    ``early_head`` answers the head before anything else, ``hang_at_end`` leaves the answer open after its last token.
    Nothing is sent before the file ``gate`` exists, if one is named.
    """

    tokens: int = 5
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    status: int = 200
    error: str | None = None
    error_after: int | None = None
    hang_after: int | None = None
    drop_after: int | None = None
    cached: int = 0
    lists: bool = False
    counts: bool = True
    finish_reason: str | None = "from-tokens"
    burst: bool = False
    gate: str = ""
    early_head: bool = False
    hang_at_end: bool = False
    until: asyncio.Event | None = None  # nothing is sent before it


@dataclasses.dataclass
class Call:
    """One request as it was received, and how it went."""

    model: str
    payload: dict[str, Any]
    headers: dict[str, str] = dataclasses.field(default_factory=dict)  # names in lower case
    sent: int = 0
    finished: bool = False
    left_at: float | None = None  # time.monotonic() when the client was seen to be gone


class FakeTriton:
    """Starts on a free port. ``behaviour`` answers every call, ``next_behaviours`` the next ones first."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.next_behaviours: list[Behaviour] = []
        self.calls: list[Call] = []
        self.url = ""

    async def __aenter__(self) -> FakeTriton:
        application = web.Application()
        application.router.add_post("/v2/models/{model}/generate_stream", self._generate)
        self._runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        payload = json.loads(await request.read())
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.match_info["model"], payload, headers)
        self.calls.append(call)
        behaviour = self.next_behaviours.pop(0) if self.next_behaviours else self.behaviour
        try:
            return await self._answer(request, call, behaviour)
        except (asyncio.CancelledError, ConnectionError):
            call.left_at = time.monotonic()
            raise

    async def _answer(self, request: web.Request, call: Call, behaviour: Behaviour) -> web.StreamResponse:
        if behaviour.error is not None and behaviour.error_after is None:
            body = json.dumps({"error": behaviour.error})
            if behaviour.status == 400:
                # A model that fails on its first response: an event, under status 400.
                return web.Response(
                    status=400, text=f"data: {body}\n\n", content_type="text/event-stream", charset="utf-8"
                )
            return web.Response(status=behaviour.status, text=body, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        if behaviour.early_head:
            await response.prepare(request)
        await asyncio.sleep(behaviour.first_delay_s)
        while behaviour.gate and not Path(behaviour.gate).exists():
            await asyncio.sleep(0.02)
        if behaviour.until is not None:
            await behaviour.until.wait()
        if behaviour.hang_after == 0:
            await asyncio.sleep(3_600)
        await response.prepare(request)
        count = min(behaviour.tokens, call.payload["max_tokens"])
        if behaviour.burst:
            events = [self._event(call, behaviour, index, count) for index in range(count)]
            for start in range(0, count, 500):
                await response.write(b"".join(events[start : start + 500]))
            call.sent = count
        else:
            await self._drip(request, response, call, behaviour, count)
        if behaviour.hang_at_end:
            await asyncio.sleep(3_600)
        await response.write_eof()
        call.finished = True
        return response

    async def _drip(
        self,
        request: web.Request,
        response: web.StreamResponse,
        call: Call,
        behaviour: Behaviour,
        count: int,
    ) -> None:
        for index in range(count):
            if index == behaviour.hang_after:
                await asyncio.sleep(3_600)
            if index == behaviour.drop_after:
                assert request.transport is not None
                request.transport.abort()
                await asyncio.sleep(1)
            if index == behaviour.error_after:
                await response.write(f"data: {json.dumps({'error': behaviour.error})}\n\n".encode())
                return
            await response.write(self._event(call, behaviour, index, count))
            call.sent += 1
            await asyncio.sleep(behaviour.delay_s)

    def _event(self, call: Call, behaviour: Behaviour, index: int, count: int) -> bytes:
        chunk: dict[str, Any] = {"text_output": f"w{index} "}
        if behaviour.counts:
            chunk["num_output_tokens"] = 1
            chunk["num_input_tokens"] = len(call.payload["text_input"].split())
            if behaviour.cached:
                chunk["num_cached_tokens"] = behaviour.cached
        if index == count - 1 and behaviour.finish_reason is not None:
            length = count == call.payload["max_tokens"]
            chunk["finish_reason"] = "length" if length else "stop"
        if behaviour.lists:
            chunk = {name: [value] for name, value in chunk.items()}
        chunk |= {"model_name": call.model, "model_version": "1"}
        return f"data: {json.dumps(chunk)}\n\n".encode()


async def _main(port_file: Path, behaviour: Behaviour) -> None:
    async with FakeTriton() as triton:
        triton.behaviour = behaviour
        port_file.write_text(triton.url)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    uvloop.run(_main(Path(sys.argv[1]), Behaviour(**settings)))
