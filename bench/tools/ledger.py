"""A client that keeps its own books: requests at a steady rate whatever the answers do, one line for each."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

TIMEOUT_S: Final = 30.0
SEED: Final = 8
_DONE: Final = b"data: [DONE]"


class Line(msgspec.Struct, kw_only=True):
    """One request as its client saw it; times are seconds since the epoch.

    ``request_id`` is the gateway's own name for it, empty where no head of an answer came. It is ``acknowledged`` once
    all of the answer was here; without token counts among it that is an ``error``, too.
    """

    sent: float
    ended: float
    key: int
    stream: bool
    request_id: str = ""
    status: int = 0
    acknowledged: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    error: str = ""


class Client(threading.Thread):
    """Sends ``rate`` requests a second at random moments until :meth:`end`, half of them streamed.

    The ledger is a file of JSON lines, each written when its request has ended.
    """

    def __init__(self, *, gateway: str, model: str, keys: Sequence[str], rate: float, ledger: Path) -> None:
        super().__init__(name="ledger", daemon=True)
        self._url = f"{gateway}/v1/completions"
        self._model = model
        self._keys = keys
        self._rate = rate
        self._path = ledger
        self._ending = threading.Event()
        self.last_acknowledged = time.monotonic()
        self.longest_silence_s = 0.0
        self.sent = self.acknowledged = 0

    def end(self) -> list[Line]:
        """Stop sending, let what is in the air end, and give the ledger."""
        self._ending.set()
        # An outage that lasts is longest without an acknowledgement to end it.
        self.longest_silence_s = max(self.longest_silence_s, time.monotonic() - self.last_acknowledged)
        self.join(2 * TIMEOUT_S)
        return [msgspec.json.decode(line, type=Line) for line in self._path.read_bytes().splitlines()]

    def run(self) -> None:
        asyncio.run(self._send())

    async def _send(self) -> None:
        rng = random.Random(SEED)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        with self._path.open("ab", buffering=0) as ledger:
            async with aiohttp.ClientSession(
                timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
            ) as http:
                open_requests: set[asyncio.Task[None]] = set()
                due = time.monotonic()
                while not self._ending.is_set():
                    due += rng.expovariate(self._rate)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    key, stream = rng.randrange(len(self._keys)), rng.random() < 0.5
                    task = asyncio.create_task(self._one(http, ledger, key, stream))
                    open_requests.add(task)
                    task.add_done_callback(open_requests.discard)
                    self.sent += 1
                if open_requests:
                    await asyncio.wait(open_requests)

    async def _one(self, http: aiohttp.ClientSession, ledger: Any, key: int, stream: bool) -> None:
        line = Line(sent=time.time(), ended=0.0, key=key, stream=stream)
        body: dict[str, Any] = {"model": self._model, "prompt": "A revision is", "max_tokens": 16}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            headers = {"Authorization": f"Bearer {self._keys[key]}"}
            async with http.post(self._url, json=body, headers=headers) as answer:
                line.status = answer.status
                line.request_id = answer.headers.get("x-request-id", "")
                text = await answer.read()
            line.acknowledged = line.status == 200 and _is_whole(text, stream)
            usage = _usage(text, stream) if line.acknowledged else None
            if usage:
                line.input_tokens, line.output_tokens = usage
            else:
                line.error = text[-200:].decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            line.error = repr(error)[:200]
        line.ended = time.time()
        ledger.write(msgspec.json.encode(line) + b"\n")
        if line.acknowledged:
            now = time.monotonic()
            self.acknowledged += 1
            self.longest_silence_s = max(self.longest_silence_s, now - self.last_acknowledged)
            self.last_acknowledged = now


def _is_whole(text: bytes, stream: bool) -> bool:
    return _DONE in text if stream else True


def _usage(text: bytes, stream: bool) -> tuple[int, int] | None:
    """Give the token counts, input and output, of an answer that is all there; None where it holds none."""
    pieces = [line[6:] for line in text.splitlines() if line.startswith(b"data: {")] if stream else [text]
    for piece in pieces:
        try:
            usage = json.loads(piece).get("usage")
            if usage:
                return usage["prompt_tokens"], usage["completion_tokens"]
        except (ValueError, KeyError, AttributeError, TypeError):
            return None
    return None
