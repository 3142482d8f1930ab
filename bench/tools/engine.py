"""An engine that costs next to nothing: what Triton's ``generate_stream`` says, from memory.

``python -m bench.tools.engine PORT_FILE`` serves two models on loopback: ``whole`` answers with one event,
``pieces`` with 22, each written by itself as fast as the socket takes them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

import uvloop

WHOLE: Final = "whole"
PIECES: Final = "pieces"
EVENTS: Final = 22
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END: Final = b"0\r\n\r\n"


def path(model: str) -> str:
    """Give the path that answers for ``model``."""
    return f"/v2/models/{model}/generate_stream"


def payload(*, tokens: int) -> dict[str, Any]:
    """Give the body of a direct call."""
    return {
        "text_input": "What is an SLO class?",
        "max_tokens": tokens,
        "stream": True,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }


def _chunk(model: str, text: str, tokens: int, *, last: bool) -> bytes:
    event = {
        "model_name": model,
        "model_version": "1",
        "text_output": text,
        "num_input_tokens": 7,
        "num_output_tokens": tokens,
    }
    data = f"data: {json.dumps(event | ({'finish_reason': 'length'} if last else {}))}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


_ONE = HEAD + _chunk(WHOLE, "a promise of latency " * 5, EVENTS, last=True) + END
_MANY = [_chunk(PIECES, f" word{number}", 1, last=number == EVENTS) for number in range(1, EVENTS + 1)]
_MANY[0] = HEAD + _MANY[0]
_MANY[-1] += END


class _Engine(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._received = rest[length:]
        if head.startswith(b"POST /v2/models/whole/"):
            self._transport.write(_ONE)
        else:
            self._write(0)

    def _write(self, number: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_MANY[number])
        if number + 1 < EVENTS:
            self._loop.call_soon(self._write, number + 1)


async def _serve(port_file: Path) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Engine(loop), "127.0.0.1", 0, backlog=1024)
    scratch = port_file.with_suffix(".new")
    scratch.write_text(str(server.sockets[0].getsockname()[1]))
    scratch.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
