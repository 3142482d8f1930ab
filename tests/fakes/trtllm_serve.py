"""A ``trtllm-serve``: refuses fields it does not know, and misbehaves on request."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import struct
import time
from typing import Any

from aiohttp import web

#: Fields of the engine's requests that the gateway may have reason to send.
KNOWN = {
    "model", "max_tokens", "stream", "stream_options", "temperature", "top_p", "seed", "stop", "frequency_penalty",
    "presence_penalty", "n", "user", "add_special_tokens", "logit_bias", "response_format", "logprobs", "priority",
}  # fmt: skip
KNOWN_AT = {
    "/v1/completions": KNOWN | {"prompt"},
    "/v1/chat/completions": KNOWN
    | {"messages", "tools", "tool_choice", "parallel_tool_calls", "top_logprobs", "cache_salt", "priority"},
    "/v1/embeddings": {"model", "input", "encoding_format", "dimensions", "user"},
}


@dataclasses.dataclass
class Behaviour:
    """How one call is answered. ``*_after`` count tokens sent before the thing happens; None is never.

    ``words`` are the tokens of an answer, ``w0 w1 …`` where they are None. ``tool_calls`` are parts of tool calls,
    one for each token from the first on, in place of its text. ``early_head`` answers the head before anything else,
    ``hang_at_end`` leaves the answer open after its last token, before all usage is told.
    """

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
    words: list[str] | None = None
    early_head: bool = False
    hang_at_end: bool = False
    tool_calls: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Call:
    """One request as it was received, and how it went. ``sent`` counts tokens, of all choices."""

    path: str
    payload: dict[str, Any]
    headers: dict[str, str]
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
        call = Call(request.path, json.loads(body) if body else {}, dict(request.headers))
        self.calls.append(call)
        behaviour = self.next_behaviours.pop(0) if self.next_behaviours else self.behaviour
        if request.path not in KNOWN_AT:
            return _error(404, "Not Found")
        if unknown := call.payload.keys() - KNOWN_AT[request.path]:
            return _error(400, f"Extra inputs are not permitted: {sorted(unknown)}")
        if call.payload.get("n", 1) > 1 and call.payload.get("temperature") == 0:
            return _error(400, "Greedy decoding does not allow multiple returns.")
        if behaviour.error and behaviour.error_after is None:
            return _error(behaviour.status, behaviour.error)
        try:
            if request.path == "/v1/embeddings":
                return await self._embed(call, behaviour)
            return await self._stream(request, call, behaviour)
        except (asyncio.CancelledError, ConnectionError):
            call.left_at = time.monotonic()
            raise

    async def _embed(self, call: Call, behaviour: Behaviour) -> web.Response:
        if behaviour.hang_after == 0:
            await asyncio.sleep(3_600)
        inputs = call.payload["input"]
        size = call.payload.get("dimensions", 3)
        rows = []
        for index, text in enumerate(inputs):
            vector: Any = [float(len(text))] * size
            if call.payload["encoding_format"] == "base64":
                vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
            rows.append({"index": index, "object": "embedding", "embedding": vector})
        if behaviour.end_after == 0:
            rows.pop()
        tokens = sum(len(text.split()) for text in inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        call.finished = True
        return web.json_response(
            {"id": "embd-1", "object": "list", "data": rows, "model": "x", "usage": usage}
        )

    async def _stream(self, request: web.Request, call: Call, behaviour: Behaviour) -> web.StreamResponse:
        assert call.payload["stream"] is True
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        if behaviour.early_head:
            await response.prepare(request)
        if behaviour.hang_after == 0:
            await asyncio.sleep(3_600)
        await response.prepare(request)
        chat = call.path == "/v1/chat/completions"
        choices = range(call.payload.get("n", 1))
        words = behaviour.words or [f"w{index} " for index in range(behaviour.tokens)]
        count = min(len(words), call.payload["max_tokens"])
        length = count == call.payload["max_tokens"]
        reason = behaviour.finish_reason or ("length" if length else "stop")
        chunk = _chat_chunk if chat else _completion_chunk
        if chat:
            for choice in choices:
                await response.write(
                    chunk(call, choice, {"role": "assistant"}, None, _usage(call, behaviour, 0))
                )
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
            usage = _usage(call, behaviour, index + 1) if behaviour.continuous else None
            brings: dict[str, Any] = {"content": words[index]}
            if index < len(behaviour.tool_calls):
                brings = {"content": "", "tool_calls": [behaviour.tool_calls[index]]}
            for choice in choices:
                await response.write(
                    chunk(call, choice, brings, reason if index == count - 1 else None, usage)
                )
                call.sent += 1
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.hang_at_end:
            await asyncio.sleep(3_600)
        if call.payload["stream_options"]["include_usage"]:
            total = _usage(call, behaviour, count * len(choices))
            await response.write(_event({"object": "x", "model": "x", "choices": [], "usage": total}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        call.finished = True
        return response


def _usage(call: Call, behaviour: Behaviour, output: int) -> dict[str, Any]:
    if "prompt" in call.payload:
        prompt = len(call.payload["prompt"].split())
    else:
        prompt = sum(1 + len((message["content"] or "").split()) for message in call.payload["messages"])
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": behaviour.cached},
    }


def _completion_chunk(
    call: Call, index: int, brings: dict[str, Any], finish_reason: str | None, usage: dict[str, Any] | None
) -> bytes:
    text = brings["content"]
    logprobs = None
    if call.payload.get("logprobs"):
        logprobs = {
            "tokens": [text],
            "token_logprobs": [-0.5],
            "top_logprobs": [{text: -0.5}],
            "text_offset": [0],
        }
    choice = {
        "index": index, "text": text, "token_ids": None, "logprobs": logprobs, "finish_reason": finish_reason,
        "stop_reason": None,
    }  # fmt: skip
    return _chunk(call, "text_completion", choice, usage)


def _chat_chunk(
    call: Call, index: int, delta: dict[str, Any], finish_reason: str | None, usage: dict[str, Any] | None
) -> bytes:
    choice: dict[str, Any] = {"index": index, "delta": delta}
    if call.payload.get("logprobs") and delta.get("content"):
        token = {"token": delta["content"], "logprob": -0.5, "bytes": list(delta["content"].encode())}
        choice["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}
    if finish_reason is not None:
        choice["finish_reason"] = finish_reason
    return _chunk(call, "chat.completion.chunk", choice, usage)


def _chunk(call: Call, kind: str, choice: dict[str, Any], usage: dict[str, Any] | None) -> bytes:
    return _event(
        {
            "id": "cmpl-1", "object": kind, "created": 1, "model": call.payload["model"],
            "choices": [choice], "usage": usage,
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
