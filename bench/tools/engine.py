"""Engines that cost next to nothing, from memory: Triton's ``generate_stream`` and OpenAI's completions.

``python -m bench.tools.engine PORT_FILE`` serves on loopback. Triton's models are ``whole``, which answers with one
event, and ``pieces``, which answers with 22, each written by itself as fast as the socket takes them. OpenAI's paths
know the same two, and stream where the body asks for it. The model ``bounded`` is as slow as a real engine that
is full: it works on :data:`SLOTS` requests at once, :data:`SERVICE_S` seconds each, and lets the others queue.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from pathlib import Path
from typing import Any, Final

import uvloop

WHOLE: Final = "whole"
PIECES: Final = "pieces"
BOUNDED: Final = "bounded"
EVENTS: Final = 22
SLOTS: Final = 8
SERVICE_S: Final = 0.08
PROMPT_TOKENS: Final = 7
CHAT_PATH: Final = "/v1/chat/completions"
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END: Final = b"0\r\n\r\n"
_TEXT: Final = "a promise of latency " * 5


def path(model: str) -> str:
    """Give the path of Triton's protocol that answers for ``model``."""
    return f"/v2/models/{model}/generate_stream"


def payload(*, tokens: int) -> dict[str, Any]:
    """Give the body of a direct call by Triton's protocol."""
    return {
        "text_input": "What is an SLO class?",
        "max_tokens": tokens,
        "stream": True,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(document: dict[str, Any]) -> bytes:
    return _chunk(f"data: {json.dumps(document)}\n\n".encode())


def _triton(model: str, text: str, tokens: int, *, last: bool) -> bytes:
    document = {
        "model_name": model,
        "model_version": "1",
        "text_output": text,
        "num_input_tokens": PROMPT_TOKENS,
        "num_output_tokens": tokens,
    }
    return _event(document | ({"finish_reason": "length"} if last else {}))


def _usage(tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": PROMPT_TOKENS + tokens,
    }


def _openai(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": "mock-1", "object": kind, "created": 1_700_000_000, "model": "mock", **more}


def _openai_whole(*, chat: bool) -> bytes:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
    choice |= {"message": {"role": "assistant", "content": _TEXT}} if chat else {"text": _TEXT}
    kind = "chat.completion" if chat else "text_completion"
    body = json.dumps(_openai(kind, choices=[choice], usage=_usage(EVENTS))).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _openai_pieces(*, chat: bool, words: int = EVENTS) -> list[bytes]:
    kind = "chat.completion.chunk" if chat else "text_completion"
    events = []
    for number in range(1, words + 1):
        text = f" word{number}" if words > 1 else _TEXT
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if number == words else None}
        choice |= {"delta": {"content": text}} if chat else {"text": text}
        tokens = number if words > 1 else EVENTS
        events.append(_event(_openai(kind, choices=[choice], usage=_usage(tokens))))
    events[0] = STREAM_HEAD + events[0]
    events[-1] += _event(_openai(kind, choices=[], usage=_usage(EVENTS))) + _chunk(b"data: [DONE]\n\n") + END
    return events


_TRITON_WHOLE: Final = [STREAM_HEAD + _triton(WHOLE, _TEXT, EVENTS, last=True) + END]
_TRITON_PIECES: Final = [
    _triton(PIECES, f" word{number}", 1, last=number == EVENTS) for number in range(1, EVENTS + 1)
]
_TRITON_PIECES[0] = STREAM_HEAD + _TRITON_PIECES[0]
_TRITON_PIECES[-1] += END
#: By chat or not, streamed or not, in pieces or at once.
_OPENAI: Final = {
    (chat, streamed, pieces): _openai_pieces(chat=chat, words=EVENTS if pieces else 1)
    if streamed
    else [_openai_whole(chat=chat)]
    for chat in (True, False)
    for streamed in (True, False)
    for pieces in (True, False)
}


def _openai_answer(request: bytes, *, chat: bool) -> list[bytes]:
    streamed = b'"stream":true' in request or b'"stream": true' in request
    return _OPENAI[chat, streamed, b'"pieces"' in request]


class _Capacity:
    """:data:`SLOTS` places; who finds none waits in line."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._free = SLOTS
        self._line: deque[_Engine] = deque()

    def serve(self, engine: _Engine) -> None:
        if self._free:
            self._free -= 1
            self._loop.call_later(SERVICE_S, self._done, engine)
        else:
            self._line.append(engine)

    def _done(self, engine: _Engine) -> None:
        engine.answer(_TRITON_WHOLE)
        self._free += 1
        while self._free and self._line:
            waiting = self._line.popleft()
            if not waiting.gone:  # an engine stops what nobody listens to
                self.serve(waiting)


class _Engine(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: _Capacity) -> None:
        self._loop = loop
        self._capacity = capacity
        self._received = bytearray()
        self._needed = 0

    @property
    def gone(self) -> bool:
        return bool(self._transport.is_closing())

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._needed:
            head, found, _ = received.partition(b"\r\n\r\n")
            if not found:
                return
            _, found, rest = head.lower().partition(b"\r\ncontent-length:")
            length = int(rest.partition(b"\r\n")[0]) if found else 0
            self._needed = len(head) + 4 + length
        if len(received) < self._needed:
            return
        request = bytes(received[: self._needed])
        del received[: self._needed]
        self._needed = 0
        self._serve(request)

    def _serve(self, request: bytes) -> None:
        target = request[5 : request.index(b" ", 5)]
        if target == b"/v2/models/bounded/generate_stream":
            self._capacity.serve(self)
        elif target.startswith(b"/v2/models/"):
            self.answer(_TRITON_WHOLE if target.startswith(b"/v2/models/whole/") else _TRITON_PIECES)
        else:
            self.answer(_openai_answer(request, chat=b"/chat/" in target))

    def answer(self, events: list[bytes]) -> None:
        self._write(events, 0)

    def _write(self, events: list[bytes], number: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(events[number])
        if number + 1 < len(events):
            self._loop.call_soon(self._write, events, number + 1)


async def _serve(port_file: Path) -> None:
    loop = asyncio.get_running_loop()
    capacity = _Capacity(loop)
    server = await loop.create_server(lambda: _Engine(loop, capacity), "127.0.0.1", 0, backlog=1024)
    scratch = port_file.with_suffix(".new")
    scratch.write_text(str(server.sockets[0].getsockname()[1]))
    scratch.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
