"""Triton's ``generate_stream`` extension, with the tensor names of TensorRT-LLM's classic front model.

Always streams, because Triton notices a client that leaves only there, and always asks for both
token counts and for output without the input, on which exact counts depend. The model gives one answer
at a time and cuts stop texts itself. Sources:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md and
https://github.com/triton-inference-server/tensorrtllm_backend/blob/main/docs/model_config.md
"""

from __future__ import annotations

import functools
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from gateway.contract import Replica, Timeouts
from gateway.engines import features
from gateway.engines.base import (
    ContextLengthExceeded,
    Delta,
    EngineAnsweredError,
    EngineError,
    EngineRequest,
    EngineStream,
    EngineUnreachable,
    answered_error,
)
from gateway.engines.events import Address, EventStream, open_stream
from gateway.engines.fan_out import fan_out
from gateway.engines.http import HttpPool, HttpResponse

_CONTEXT: Final = "context_length_exceeded:"
_MESSAGE_LIMIT: Final = 300


class _Chunk(msgspec.Struct):
    text_output: str = ""
    num_output_tokens: int | None = None
    num_input_tokens: int = 0
    num_cached_tokens: int = 0
    finish_reason: str | None = None
    error: Any = None


class _BatchedChunk(msgspec.Struct):
    text_output: tuple[str, ...] = ("",)
    num_output_tokens: tuple[int, ...] = ()
    num_input_tokens: tuple[int, ...] = (0,)
    num_cached_tokens: tuple[int, ...] = (0,)
    finish_reason: tuple[str, ...] = ("",)

    def first(self) -> _Chunk:
        return _Chunk(
            text_output=self.text_output[0],
            num_output_tokens=self.num_output_tokens[0] if self.num_output_tokens else None,
            num_input_tokens=self.num_input_tokens[0],
            num_cached_tokens=self.num_cached_tokens[0],
            finish_reason=self.finish_reason[0],
        )


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_batched = msgspec.json.Decoder(_BatchedChunk).decode


def _decode(event: bytes) -> _Chunk:
    # Triton writes a tensor of one element as a scalar, and one with a batch dimension as a list.
    try:
        return _decode_chunk(event)
    except msgspec.ValidationError:
        return _decode_batched(event).first()


class TritonGenerate:
    """Speaks to replicas over one shared pool of connections."""

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool

    async def generate(self, *, replica: Replica, request: EngineRequest, timeouts: Timeouts) -> EngineStream:
        """Post the request; returns with the first piece of the answer already read.

        Raises:
            EngineError: the engine refused, failed or was late before its first piece.
        """
        try:
            address = _address(replica.url, replica.engine_model).traced(request.traceparent)
        except ValueError as error:
            raise EngineUnreachable(str(error)) from error

        async def start(request: EngineRequest) -> EngineStream:
            return await open_stream(
                functools.partial(TritonStream, between_tokens_s=timeouts.between_tokens_s),
                pool=self._pool,
                address=address,
                body=_payload(request, replica),
                timeouts=timeouts,
                refusal=_refusal,
            )

        return await (fan_out(start, request) if request.choices > 1 else start(request))


@functools.lru_cache(maxsize=4096)
def _address(url: str, engine_model: str) -> Address:
    path = urlsplit(url).path.rstrip("/")
    return Address.of(url, f"{quote(path)}/v2/models/{quote(engine_model, safe='')}/generate_stream")


class TritonStream(EventStream):
    """One answer in progress."""

    def __init__(self, response: HttpResponse, *, between_tokens_s: float) -> None:
        super().__init__(response, between_tokens_s=between_tokens_s)
        self._input_tokens = 0
        self._cached_tokens = 0

    def read_event(self, event: bytes) -> Delta:
        try:
            chunk = _decode(event.removeprefix(b"data:"))
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError) as error:
            raise EngineAnsweredError("an event could not be understood", status=200) from error
        if chunk.error is not None:
            raise _failure(chunk.error, status=200)
        if chunk.num_input_tokens > self._input_tokens:
            self._input_tokens = chunk.num_input_tokens
        if chunk.num_cached_tokens > self._cached_tokens:
            self._cached_tokens = min(chunk.num_cached_tokens, self._input_tokens)
        output_tokens = chunk.num_output_tokens
        if output_tokens is None:
            # An engine that does not count still sends one token per event.
            output_tokens = 1 if chunk.text_output else 0
        return Delta(
            chunk.text_output,
            output_tokens,
            self._input_tokens,
            self._cached_tokens,
            chunk.finish_reason or None,
        )


def _payload(request: EngineRequest, replica: Replica) -> bytes:
    payload: dict[str, Any] = {
        "text_input": request.prompt,
        "max_tokens": request.max_tokens,
        "stream": True,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty"):
        value = getattr(request, name)
        if value is not None:
            payload[name] = value
    if request.stop:
        payload["stop_words"] = request.stop
    if request.cache_salt and features.CACHE_SALT in replica.features:
        payload["cache_salt"] = request.cache_salt
    return msgspec.json.encode(payload)


def _refusal(body: bytes, status: int) -> EngineError:
    try:
        message = _decode(body.strip().removeprefix(b"data:")).error
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
        message = None
    return _failure(message, status=status)


def _failure(message: Any, *, status: int) -> EngineError:
    _, found, explanation = str(message).partition(_CONTEXT)
    if found:
        return ContextLengthExceeded(explanation.strip()[:_MESSAGE_LIMIT])
    return answered_error(status, str(message))
