"""TensorRT-LLM's ``trtllm-serve``, by its OpenAI-style completions, chats and embeddings.

Always streams text, because a client that leaves is noticed there, and always asks for usage with every chunk, so
that counts are exact for answers that are broken off too. The prompt is rendered by the gateway, unless the request
needs what only the engine's own chats can do. Nothing but :data:`PATHS` is ever asked of the engine, which mounts
administration without any authentication beside it.

The engine refuses fields that it does not know. Its completions know no ``cache_salt``. Sources:
https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/serve/openai_protocol.py and
https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/serve/postprocess_handlers.py
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.contract import Replica, Timeouts
from gateway.engines import features
from gateway.engines.base import (
    ContextLengthExceeded,
    Delta,
    EngineAnsweredError,
    EngineChat,
    EngineError,
    EngineRequest,
    EngineStream,
    EngineUnreachable,
    RequestRefused,
    answered_error,
)
from gateway.engines.embeddings import embed
from gateway.engines.events import Address, EventStream, open_stream
from gateway.engines.fan_out import fan_out
from gateway.engines.http import HttpPool, HttpResponse
from gateway.engines.stops import StopCut

COMPLETIONS: Final = "/v1/completions"
CHATS: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
PATHS: Final = (COMPLETIONS, CHATS, EMBEDDINGS)
#: The engine's server closes connections that were idle for 5 s: ours must be gone before.
IDLE_S: Final = 4.0

_DONE: Final = b"[DONE]"
_FINISHED: Final = ("stop", "length", "tool_calls")
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


class _FunctionPart(msgspec.Struct, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class _ToolCallPart(msgspec.Struct, omit_defaults=True):
    index: int = 0
    id: str | None = None
    function: _FunctionPart | None = None


class _ChatDelta(msgspec.Struct, omit_defaults=True):
    content: str | None = None
    tool_calls: list[_ToolCallPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None

    def more(self) -> dict[str, Any] | None:
        """What is in it beside the text."""
        members: dict[str, Any] = msgspec.to_builtins(self)
        members.pop("content", None)
        return {name: value for name, value in members.items() if value} or None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = ""
    delta: _ChatDelta | None = None
    logprobs: dict[str, Any] | None = None
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

    async def generate(self, *, replica: Replica, request: EngineRequest, timeouts: Timeouts) -> EngineStream:
        """Post the request; returns with the first piece of the answer already read.

        Raises:
            EngineError: the engine refused, failed or was late before its first piece.
        """
        refusal = functools.partial(_refusal, passed_on=_passed_on(request))
        if request.embedding is not None:
            return await embed(
                request.embedding,
                model=replica.engine_model,
                pool=self._pool,
                address=_address(replica.url, EMBEDDINGS).traced(request.traceparent),
                timeouts=timeouts,
                refusal=refusal,
            )

        path = COMPLETIONS if request.chat is None else CHATS
        address = _address(replica.url, path).traced(request.traceparent)

        async def start(request: EngineRequest) -> EngineStream:
            stream = await open_stream(
                functools.partial(
                    OpenAiStream, between_tokens_s=timeouts.between_tokens_s, choices=request.choices
                ),
                pool=self._pool,
                address=address,
                body=_payload(request, replica),
                timeouts=timeouts,
                refusal=refusal,
            )
            return StopCut(stream, request.stop, choices=request.choices) if request.stop else stream

        # The engine refuses several answers where nothing is left to chance.
        if request.choices > 1 and request.temperature == 0:
            return await fan_out(start, request)
        return await start(request)


class OpenAiStream(EventStream):
    """One answer in progress.

    Usage counts the whole of one choice so far, and in the last event that of all; where an event has none, what it
    brings is one token.
    """

    def __init__(self, response: HttpResponse, *, between_tokens_s: float, choices: int) -> None:
        super().__init__(response, between_tokens_s=between_tokens_s)
        self._choices = choices
        self._input_tokens = 0
        self._cached_tokens = 0
        self._output_tokens: dict[int, int] = {}
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
            raise _failure(chunk, status=200, passed_on=False)
        if not chunk.choices:
            return self._delta("", self._correct(chunk.usage), None)
        choice = chunk.choices[0]
        if not 0 <= choice.index < self._choices:
            raise EngineAnsweredError("it gave a choice that nobody asked for", status=200)
        text, more = choice.text or "", None
        if choice.delta is not None:
            text, more = choice.delta.content or "", choice.delta.more()
        output_tokens = self._count(choice.index, chunk.usage, bool(text or more))
        if choice.finish_reason is not None and choice.finish_reason not in _FINISHED:
            # Its tokens were generated, and count.
            self.fail(EngineAnsweredError("it gave the request up", status=200))
        return self._delta(text, output_tokens, choice.finish_reason, choice.index, more, choice.logprobs)

    def check_end(self) -> None:
        if not self._done:
            raise EngineAnsweredError("the answer ended before its end was marked", status=200)

    def _delta(
        self,
        text: str,
        output_tokens: int,
        finish_reason: str | None,
        index: int = 0,
        more: dict[str, Any] | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> Delta:
        return Delta(
            text,
            output_tokens,
            self._input_tokens,
            self._cached_tokens,
            finish_reason,
            index,
            more,
            logprobs,
        )

    def _count(self, index: int, usage: _Usage | None, brings: bool) -> int:
        before = self._output_tokens.get(index, 0)
        if usage is None:
            after = before + 1 if brings else before
        else:
            after = usage.completion_tokens or 0
            self._see_input(usage)
        self._output_tokens[index] = after
        return after - before

    def _correct(self, usage: _Usage | None) -> int:
        """Take the counts of an event without a choice, which are those of the whole answer."""
        if usage is None:
            return 0
        self._see_input(usage)
        counted = sum(self._output_tokens.values())
        self._output_tokens = {0: usage.completion_tokens or 0}
        return self._output_tokens[0] - counted

    def _see_input(self, usage: _Usage) -> None:
        self._input_tokens = usage.prompt_tokens
        details = usage.prompt_tokens_details
        self._cached_tokens = min(details.cached_tokens, usage.prompt_tokens) if details else 0


@functools.lru_cache(maxsize=4096)
def _address_of(url: str, path: str) -> Address:
    accept = "application/json" if path == EMBEDDINGS else "text/event-stream"
    return Address.of(url, path, accept=accept)


def _address(url: str, path: str) -> Address:
    try:
        return _address_of(url, path)
    except ValueError as error:
        raise EngineUnreachable(str(error)) from error


def _passed_on(request: EngineRequest) -> bool:
    """Say whether the engine is given things that only it can judge."""
    return (
        request.chat is not None
        or request.embedding is not None
        or request.schema is not None
        or request.logit_bias is not None
    )


def _payload(request: EngineRequest, replica: Replica) -> bytes:
    payload: dict[str, Any] = {"model": replica.engine_model}
    if request.chat is None:
        payload["prompt"] = request.prompt
        if request.logprobs is not None:
            # It takes 0 for none at all.
            payload["logprobs"] = max(1, request.logprobs)
    else:
        payload |= _chat(request.chat)
        if request.cache_salt and features.CACHE_SALT in replica.features:
            payload["cache_salt"] = request.cache_salt
    payload |= {
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logit_bias"):
        value = getattr(request, name)
        if value is not None:
            payload[name] = value
    if request.stop:
        payload["stop"] = request.stop
    if request.choices > 1:
        payload["n"] = request.choices
    if request.schema is not None:
        payload["response_format"] = _response_format(request.schema)
    if request.priority is not None and features.PRIORITY in replica.features:
        payload["priority"] = request.priority
    return msgspec.json.encode(payload)


def _chat(chat: EngineChat) -> dict[str, Any]:
    members: dict[str, Any] = {"messages": chat.messages}
    if chat.tools:
        members["tools"] = chat.tools
        # Left out, some versions take it for "none".
        members["tool_choice"] = chat.tool_choice or "auto"
    if chat.parallel_tool_calls is not None:
        members["parallel_tool_calls"] = chat.parallel_tool_calls
    if chat.logprobs is not None:
        members["logprobs"] = True
        if chat.logprobs:
            members["top_logprobs"] = chat.logprobs
    return members


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    # Older versions take what OpenAI wraps into ``json_schema`` for the schema itself.
    return {"type": "json", "schema": schema} if schema else {"type": "json_object"}


def _refusal(body: bytes, status: int, *, passed_on: bool) -> EngineError:
    try:
        chunk = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        chunk = _Chunk()
    return _failure(chunk, status=status, passed_on=passed_on)


def _failure(chunk: _Chunk, *, status: int, passed_on: bool) -> EngineError:
    message = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
    # The engine's text may quote the prompt, so that none of it is passed on.
    text = str(message or chunk.message or "")
    if _TOO_LONG.search(text):
        return ContextLengthExceeded("")
    if passed_on and status in (400, 422):
        return RequestRefused(f"it refused the request, status {status}")
    return answered_error(status, text)
