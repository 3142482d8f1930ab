"""One request to an OpenAI endpoint, timed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import msgspec

from gateway.replay.prompts import Scale, make_prompt, make_words
from gateway.replay.trace import TracedRequest

FEW_WORDS: Final = 4
MANY_WORDS: Final = 64

#: Fields of a delta that hold what a model made.
_MADE: Final = ("content", "reasoning_content", "reasoning", "tool_calls")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint to measure. ``url`` ends before ``/chat/completions``; prices are per million tokens.

    ``gpus`` serve it, at ``gpu_price`` each for an hour. ``more`` are further fields of each request's body.
    """

    name: str
    url: str
    model: str
    key: str = ""
    input_price: float | None = None
    output_price: float | None = None
    cached_price: float | None = None
    gpus: float | None = None
    gpu_price: float | None = None
    more: Mapping[str, Any] = {}


class Measured(msgspec.Struct, kw_only=True):
    """How one request went. Times are seconds; None where there was no such moment.

    ``late_s`` is how much later than the trace says it was sent; ``failure`` is empty for an answer that came to
    its end; ``gaps_s`` are the times between pieces of the answer. ``ttft_s`` and ``total_s`` run from the sending.
    """

    at_s: float = 0.0
    late_s: float = 0.0
    failure: str = ""
    ttft_s: float | None = None
    total_s: float | None = None
    gaps_s: list[float] = []
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class TargetRefused(Exception):
    """The target does not answer as an OpenAI endpoint should; the message says how."""


class Client:
    """Sends to ``target`` over ``session``; one request may take ``timeout_s`` seconds."""

    def __init__(self, target: Target, session: aiohttp.ClientSession, *, timeout_s: float) -> None:
        self.target = target
        self.scale = Scale(0.0, 1.0)
        self.server = ""
        self.in_flight = self.most_in_flight = 0
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._headers = {"Content-Type": "application/json"}
        if target.key:
            self._headers["Authorization"] = f"Bearer {target.key}"

    async def learn_scale(self) -> None:
        """Ask how many tokens words have here, by two short requests.

        Raises:
            TargetRefused: one of them failed, or came without usage.
        """
        counted = []
        for words in (FEW_WORDS, MANY_WORDS):
            measured = Measured()
            await self._exchange(self._body(make_words(words, seed=f"scale {words}"), 1), measured)
            if measured.failure or not measured.input_tokens:
                raise TargetRefused(
                    f"{self.target.name}: a short request to {self.target.url} for {self.target.model!r}"
                    f" failed: {measured.failure or 'its answer says nothing of usage'}"
                )
            counted.append(measured.input_tokens)
        self.scale = Scale.between(FEW_WORDS, counted[0], MANY_WORDS, counted[1])

    def prepare(self, request: TracedRequest, *, seed: str) -> bytes:
        """Make the body of a request, ahead of the moment at which it is due."""
        return self._body(make_prompt(request, self.scale, seed=seed), max(1, request.output_tokens))

    async def send(self, body: bytes, *, at_s: float, due: float) -> Measured:
        """Send the request now, which was due at ``due`` (of ``time.perf_counter``), and hear its answer out."""
        measured = Measured(at_s=at_s, late_s=max(0.0, time.perf_counter() - due))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._exchange(body, measured)
        finally:
            self.in_flight -= 1
        return measured

    def _body(self, prompt: str, max_tokens: int) -> bytes:
        return msgspec.json.encode(
            {
                "model": self.target.model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": max_tokens,
                "stream": True,
                "stream_options": {"include_usage": True},
                **self.target.more,
            }
        )

    async def _exchange(self, body: bytes, measured: Measured) -> None:
        sent = time.perf_counter()
        try:
            async with self._session.post(
                f"{self.target.url}/chat/completions",
                data=body,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                self.server = response.headers.get("Server", self.server)[:100]
                if response.status == 200:
                    measured.failure = await self._listen(response, sent, measured)
                else:
                    measured.failure = f"{response.status} {_code(await response.read())}".strip()
        except TimeoutError:
            measured.failure = "timeout"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            measured.failure = type(error).__name__
        if not measured.failure:
            measured.total_s = time.perf_counter() - sent

    async def _listen(self, response: aiohttp.ClientResponse, sent: float, measured: Measured) -> str:
        last = None
        measured.gaps_s = gaps = []
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return ""
            event = msgspec.json.decode(data)
            if "error" in event:
                return f"stream {_code(data)}".strip()
            if _has_output(event):
                now = time.perf_counter()
                if last is None:
                    measured.ttft_s = now - sent
                else:
                    gaps.append(now - last)
                last = now
            if usage := event.get("usage"):
                measured.input_tokens = usage.get("prompt_tokens", 0)
                measured.output_tokens = usage.get("completion_tokens", 0)
                details = usage.get("prompt_tokens_details") or {}
                measured.cached_tokens = details.get("cached_tokens") or 0
        return "the stream ended early"


def _has_output(event: dict[str, Any]) -> bool:
    return any(
        delta.get(name)
        for choice in event.get("choices") or ()
        if (delta := choice.get("delta"))
        for name in _MADE
    )


def _code(body: bytes) -> str:
    """Give the code of an error in OpenAI's shape, or its type."""
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error.get("code") or error.get("type") or "")[:60]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return ""
