"""TensorRT-LLM's ``trtllm-serve``, by its OpenAI-style completions.

Always streams, because a client that leaves is noticed there, and always asks for usage with every chunk, so
that counts are exact for answers that are broken off too. The prompt is rendered by the gateway. Nothing but
:data:`PATH` is ever asked of the engine, which mounts administration without any authentication beside it.

The engine refuses fields that it does not know. Its completions know no ``cache_salt``. Sources:
https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/serve/openai_protocol.py and
https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/serve/postprocess_handlers.py
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

import msgspec

from gateway.contract import Replica, Timeouts
from gateway.engines.base import (
    ContextLengthExceeded,
    Delta,
    EngineAnsweredError,
    EngineError,
    EngineRequest,
    EngineUnreachable,
)
from gateway.engines.events import Address, EventStream, open_stream
from gateway.engines.http import HttpPool, HttpResponse

PATH: Final = "/v1/completions"
#: The engine's server closes connections that were idle for 5 s: ours must be gone before.
IDLE_S: Final = 4.0

_DONE: Final = b"[DONE]"
_FINISHED: Final = ("stop", "length")
# The engine's own words where a prompt does not fit; they name its limits and counts.
_TOO_LONG: Final = re.compile(
    r"max_seq_len|max_num_tokens|max_input_len|maximum (context|sequence|input) length", re.IGNORECASE
)


class _PromptDetails(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Choice(msgspec.Struct):
    text: str | None = ""
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    object: str = ""
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    message: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class OpenAiHttp:
    """Speaks to replicas over one shared pool of connections, which should keep none longer than ``IDLE_S``."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool

    async def generate(self, *, replica: Replica, request: EngineRequest, timeouts: Timeouts) -> OpenAiStream:
        """Post the request; returns with the first piece of the answer already read.

        Raises:
            EngineError: the engine refused, failed or was late before its first piece.
        """
        try:
            address = _address(replica.url)
        except ValueError as error:
            raise EngineUnreachable(str(error)) from error
        body = _payload(request, model=replica.engine_model)
        return await open_stream(
            functools.partial(OpenAiStream, between_tokens_s=timeouts.between_tokens_s),
            pool=self._pool,
            address=address,
            body=body,
            timeouts=timeouts,
            refusal=_refusal,
            traceparent=request.traceparent,
        )


class OpenAiStream(EventStream):
    """One answer in progress. Usage counts the whole answer so far; where a chunk has none, text is one token."""

    def __init__(self, response: HttpResponse, *, between_tokens_s: float) -> None:
        super().__init__(response, between_tokens_s=between_tokens_s)
        self._input_tokens = 0
        self._cached_tokens = 0
        self._output_tokens = 0
        self._done = False

    def read_event(self, event: bytes) -> Delta | None:
        data = event.removeprefix(b"data:").strip()
        if data == _DONE:
            self._done = True
            return None
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EngineAnsweredError("an event could not be understood", status=200) from error
        if chunk.error is not None or chunk.object == "error":
            raise _failure(chunk, status=200)
        choice = chunk.choices[0] if chunk.choices else _Choice()
        text = choice.text or ""
        output_tokens = self._count(chunk.usage, text)
        if choice.finish_reason is not None and choice.finish_reason not in _FINISHED:
            # Its tokens were generated, and count.
            self.fail(EngineAnsweredError("it gave the request up", status=200))
        return Delta(text, output_tokens, self._input_tokens, self._cached_tokens, choice.finish_reason)

    def check_end(self) -> None:
        if not self._done:
            raise EngineAnsweredError("the answer ended before its end was marked", status=200)

    def _count(self, usage: _Usage | None, text: str) -> int:
        before = self._output_tokens
        if usage is None:
            self._output_tokens += 1 if text else 0
        else:
            self._output_tokens = usage.completion_tokens or 0
            self._input_tokens = usage.prompt_tokens
            details = usage.prompt_tokens_details
            self._cached_tokens = min(details.cached_tokens, usage.prompt_tokens) if details else 0
        return self._output_tokens - before


@functools.lru_cache(maxsize=4096)
def _address(url: str) -> Address:
    return Address.of(url, PATH)


def _payload(request: EngineRequest, *, model: str) -> bytes:
    payload: dict[str, Any] = {
        "model": model,
        "prompt": request.prompt,
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"):
        value = getattr(request, name)
        if value is not None:
            payload[name] = value
    if request.stop:
        payload["stop"] = request.stop
    return msgspec.json.encode(payload)


def _refusal(body: bytes, status: int) -> EngineError:
    try:
        chunk = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        chunk = _Chunk()
    return _failure(chunk, status=status)


def _failure(chunk: _Chunk, *, status: int) -> EngineError:
    message = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
    # The engine's text may quote the prompt, so that none of it is passed on.
    if _TOO_LONG.search(str(message or chunk.message or "")):
        return ContextLengthExceeded("")
    return EngineAnsweredError(f"it answered an error, status {status}", status=status)
