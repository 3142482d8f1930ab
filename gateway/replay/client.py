"""One request to an OpenAI endpoint, timed."""

from __future__ import annotations

import time
from typing import Any, Final

import aiohttp
import msgspec

from gateway.replay.prompts import Scale, make_prompt
from gateway.replay.trace import TracedRequest

FEW_WORDS: Final = 4
MANY_WORDS: Final = 64


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint to measure. ``url`` ends before ``/chat/completions``; prices are per million tokens."""

    name: str
    url: str
    model: str
    key: str = ""
    input_price: float | None = None
    output_price: float | None = None
    cached_price: float | None = None


class Measured(msgspec.Struct, kw_only=True):
    """How one request went. Times are seconds; None where there was no such moment.

    ``late_s`` is how much later than the trace says it was sent; ``failure`` is empty for an answer that came to
    its end; ``gaps_s`` are the times between pieces of the answer.
    """

    late_s: float
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
        self._target = target
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}

    async def scale(self) -> Scale:
        """Ask how many tokens words have here, by two short requests.

        Raises:
            TargetRefused: one of them failed, or came without usage.
        """
        counted = []
        for words in (FEW_WORDS, MANY_WORDS):
            measured = Measured(late_s=0.0)
            await self._exchange(make_prompt(words, seed=f"scale {words}"), 1, measured)
            if measured.failure or not measured.input_tokens:
                raise TargetRefused(
                    f"{self._target.name}: a short request to {self._target.url} for {self._target.model!r}"
                    f" failed: {measured.failure or 'its answer says nothing of usage'}"
                )
            counted.append(measured.input_tokens)
        return Scale.between(FEW_WORDS, counted[0], MANY_WORDS, counted[1])

    async def send(self, request: TracedRequest, *, due: float, scale: Scale, seed: str) -> Measured:
        """Send the request now, which was due at ``due`` (of ``time.perf_counter``), and hear its answer out."""
        prompt = make_prompt(scale.words(request.input_tokens), seed=seed)
        measured = Measured(late_s=max(0.0, time.perf_counter() - due))
        await self._exchange(prompt, max(1, request.output_tokens), measured)
        return measured

    async def _exchange(self, prompt: str, max_tokens: int, measured: Measured) -> None:
        body = {
            "model": self._target.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        sent = time.perf_counter()
        try:
            async with self._session.post(
                f"{self._target.url}/chat/completions",
                json=body,
                headers=self._headers,
                timeout=self._timeout,
            ) as response:
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
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return ""
            event = msgspec.json.decode(data)
            if "error" in event:
                return f"stream {_code(data)}".strip()
            if _has_text(event):
                now = time.perf_counter()
                if last is None:
                    measured.ttft_s = now - sent
                else:
                    measured.gaps_s.append(now - last)
                last = now
            if usage := event.get("usage"):
                measured.input_tokens = usage.get("prompt_tokens", 0)
                measured.output_tokens = usage.get("completion_tokens", 0)
                details = usage.get("prompt_tokens_details") or {}
                measured.cached_tokens = details.get("cached_tokens") or 0
        return "the stream ended early"


def _has_text(event: dict[str, Any]) -> bool:
    return any((choice.get("delta") or {}).get("content") for choice in event.get("choices") or ())


def _code(body: bytes) -> str:
    """Give the code of an error in OpenAI's shape, or its type."""
    try:
        error = msgspec.json.decode(body)["error"]
        return str(error.get("code") or error.get("type") or "")[:60]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return ""
