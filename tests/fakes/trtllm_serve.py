"""A ``trtllm-serve`` that completes prompts: refuses fields it does not know, and misbehaves on request."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import Any

from aiohttp import web

#: Fields of the engine's completion request that the gateway may have reason to send.
KNOWN = {
    "model", "prompt", "max_tokens", "stream", "stream_options", "temperature", "top_p", "seed", "stop",
    "frequency_penalty", "presence_penalty", "n", "user", "add_special_tokens",
}  # fmt: skip


@dataclasses.dataclass
class Behaviour:
    """How one call is answered. ``*_after`` count tokens sent before the thing happens; None is never."""

    tokens: int = 5
    delay_s: float = 0.0
    status: int = 200
    error: str = ""
    error_after: int | None = None
    hang_after: int | None = None
    drop_after: int | None = None
    end_after: int | None = None
    cached: int = 0
    continuous: bool = True
    finish_reason: str | None = None


@dataclasses.dataclass
class Call:
    """One request as it was received, and how it went."""

    path: str
    payload: dict[str, Any]
    sent: int = 0
    finished: bool = False
    left_at: float | None = None  # time.monotonic() when the client was seen to be gone


class FakeTrtllmServe:
    """Starts on a free port. ``next_behaviours`` answer the next calls, ``behaviour`` all others."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.next_behaviours: list[Behaviour] = []
        self.calls: list[Call] = []
        self.metrics = ""
        self.url = ""

    async def __aenter__(self) -> FakeTrtllmServe:
        application = web.Application()
        application.router.add_get("/prometheus/metrics", self._metrics)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self.metrics)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        call = Call(request.path, json.loads(body) if body else {})
        self.calls.append(call)
        behaviour = self.next_behaviours.pop(0) if self.next_behaviours else self.behaviour
        if unknown := call.payload.keys() - KNOWN:
            return _error(400, f"Extra inputs are not permitted: {sorted(unknown)}")
        if behaviour.error and behaviour.error_after is None:
            return _error(behaviour.status, behaviour.error)
        try:
            return await self._stream(request, call, behaviour)
        except (asyncio.CancelledError, ConnectionError):
            call.left_at = time.monotonic()
            raise

    async def _stream(self, request: web.Request, call: Call, behaviour: Behaviour) -> web.StreamResponse:
        assert call.payload["stream"] is True
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        if behaviour.hang_after == 0:
            await asyncio.sleep(3_600)
        await response.prepare(request)
        count = min(behaviour.tokens, call.payload["max_tokens"])
        length = count == call.payload["max_tokens"]
        reason = behaviour.finish_reason or ("length" if length else "stop")
        for index in range(count):
            if index == behaviour.hang_after:
                await asyncio.sleep(3_600)
            if index == behaviour.drop_after:
                assert request.transport is not None
                request.transport.abort()
                await asyncio.sleep(1)
            if index == behaviour.error_after:
                await response.write(_event({"error": {"message": behaviour.error, "code": 500}}))
                return response
            if index == behaviour.end_after:
                return response
            choice = {
                "index": 0, "text": f"w{index} ", "token_ids": None, "logprobs": None,
                "finish_reason": reason if index == count - 1 else None, "stop_reason": None,
            }  # fmt: skip
            usage = _usage(call, behaviour, index + 1) if behaviour.continuous else None
            await response.write(_chunk(call, [choice], usage))
            call.sent += 1
            await asyncio.sleep(behaviour.delay_s)
        if call.payload["stream_options"]["include_usage"]:
            await response.write(_chunk(call, [], _usage(call, behaviour, count)))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        call.finished = True
        return response


def _usage(call: Call, behaviour: Behaviour, output: int) -> dict[str, Any]:
    prompt = len(call.payload["prompt"].split())
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": behaviour.cached},
    }


def _chunk(call: Call, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
    return _event(
        {
            "id": "cmpl-1", "object": "text_completion", "created": 1, "model": call.payload["model"],
            "choices": choices, "usage": usage,
        }
    )  # fmt: skip


def _event(document: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(document)}\n\n".encode()


def _error(status: int, message: str) -> web.Response:
    document = {
        "object": "error",
        "message": message,
        "type": "BadRequestError",
        "param": None,
        "code": status,
    }
    return web.json_response(document, status=status)
