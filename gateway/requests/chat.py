"""Bodies of ``/v1/chat/completions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway import errors
from gateway.engines import features
from gateway.engines.base import EngineChat
from gateway.requests.call import Call
from gateway.requests.fields import (
    NULL,
    GeneratingBody,
    check_max_tokens,
    check_range,
    decode,
    refuse_unsupported,
    require_object,
    sampling_of,
)
from gateway.requests.formats import read_schema
from gateway.requests.messages import Message, for_engine, for_template, texts
from gateway.requests.tools import read_tool_choice, read_tools

_MOST_MESSAGES: Final = 4096
_MOST_LOGPROBS: Final = 20
#: What an engine's own chat template may add: its preamble, and around each message and tool.
_OVERHEAD_TOKENS: Final = 512
_OVERHEAD_TOKENS_EACH: Final = 32


class _ChatBody(GeneratingBody):
    messages: list[Message]
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    metadata: msgspec.Raw = NULL
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    parallel_tool_calls: bool | None = None
    audio: msgspec.Raw = NULL
    function_call: msgspec.Raw = NULL
    functions: msgspec.Raw = NULL
    modalities: msgspec.Raw = NULL
    moderation: msgspec.Raw = NULL
    prediction: msgspec.Raw = NULL
    reasoning_effort: msgspec.Raw = NULL
    response_format: msgspec.Raw = NULL
    service_tier: msgspec.Raw = NULL
    store: msgspec.Raw = NULL
    tool_choice: msgspec.Raw = NULL
    tools: msgspec.Raw = NULL
    top_logprobs: int | None = None
    verbosity: msgspec.Raw = NULL
    web_search_options: msgspec.Raw = NULL


#: Values, besides null, with which a field that is not carried out is accepted.
_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_decoder = msgspec.json.Decoder(_ChatBody)


def read_chat(content: bytes) -> Call:
    """Read a body of ``/v1/chat/completions``.

    Raises:
        ApiError: malformed, of the wrong type, out of range, unknown or not supported (400).
    """
    body = decode(_decoder, content)
    refuse_unsupported(body, _HARMLESS)
    require_object("metadata", body.metadata)
    if not 1 <= len(body.messages) <= _MOST_MESSAGES:
        raise errors.invalid(
            f"messages must hold at least one message and at most {_MOST_MESSAGES}.", param="messages"
        )
    needs: dict[str, str] = {}
    sampling = sampling_of(body, needs=needs)
    schema = read_schema(body.response_format, needs=needs)
    chat = _for_engine(body, needs)
    max_tokens, field = _max_tokens(body)
    call = Call(
        model=body.model,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        max_tokens=max_tokens,
        max_tokens_field=field,
        sampling=msgspec.structs.replace(sampling, schema=schema, chat=chat),
        needs=needs,
    )
    if chat is None:
        messages = tuple(for_template(message, f"messages[{i}]") for i, message in enumerate(body.messages))
        return msgspec.structs.replace(call, messages=messages)
    return msgspec.structs.replace(
        call,
        prompt=texts(chat),
        overhead_tokens=_OVERHEAD_TOKENS + _OVERHEAD_TOKENS_EACH * (len(chat.messages) + len(chat.tools)),
    )


def _for_engine(body: _ChatBody, needs: dict[str, str]) -> EngineChat | None:
    """Give the chat for the engine to render, None where nothing is asked for but text."""
    tools = read_tools(body.tools)
    tool_choice = read_tool_choice(body.tool_choice, tools)
    if tool_choice == "none":
        # A model that is told of no tools calls none.
        tools = ()
    if tools:
        needs |= {features.CHAT: "tools", features.TOOLS: "tools"}
        if body.parallel_tool_calls is False:
            needs[features.PARALLEL_TOOL_CALLS] = "parallel_tool_calls"
    for index, message in enumerate(body.messages):
        if message.of_tools and features.TOOLS not in needs:
            needs |= {features.CHAT: f"messages[{index}]", features.TOOLS: f"messages[{index}]"}
    logprobs = _logprobs(body)
    if logprobs is not None:
        needs |= {features.LOGPROBS: "logprobs", features.CHAT: needs.get(features.CHAT, "logprobs")}
    if features.CHAT not in needs:
        return None
    return EngineChat(
        messages=[for_engine(message, f"messages[{i}]") for i, message in enumerate(body.messages)],
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=False if features.PARALLEL_TOOL_CALLS in needs else None,
        logprobs=logprobs,
    )


def _logprobs(body: _ChatBody) -> int | None:
    check_range(body.top_logprobs, "top_logprobs", 0, _MOST_LOGPROBS)
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise errors.invalid("top_logprobs may only be sent with logprobs: true.", param="top_logprobs")
    return None


def _max_tokens(body: _ChatBody) -> tuple[int | None, str]:
    max_tokens, field = body.max_tokens, "max_tokens"
    if body.max_completion_tokens is not None:
        if max_tokens is not None and max_tokens != body.max_completion_tokens:
            raise errors.invalid(
                "max_tokens and max_completion_tokens contradict each other; send one of them.",
                param="max_tokens",
            )
        max_tokens, field = body.max_completion_tokens, "max_completion_tokens"
    check_max_tokens(max_tokens, field)
    return max_tokens, field
