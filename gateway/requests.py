"""What clients send to the generating doors, decoded and checked.

Every field that OpenAI knows has a place here: those that are honoured, those that change nothing and are
accepted, and those that are refused unless they ask for what happens anyway. Others are unknown, and refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from gateway import errors
from gateway.contract import Endpoint
from gateway.engines.base import EngineRequest

_STOP_LIMIT: Final = 4
_SEED_RANGE: Final = range(-(2**63), 2**64)


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """``stream_options``; obfuscation only pads events, so that asking for it changes nothing."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    frequency_penalty: float | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    user: str | None = None
    logit_bias: dict[str, Any] | None = None
    logprobs: bool | int | None = None


class _Message(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    # Clients send an assistant's message back as they got it, empty members included.
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: Any = None
    function_call: Any = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class _ChatBody(_Body):
    messages: list[_Message]
    max_completion_tokens: int | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    parallel_tool_calls: bool | None = None
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    modalities: Any = None
    moderation: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    response_format: Any = None
    service_tier: Any = None
    store: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
    verbosity: Any = None
    web_search_options: Any = None


class _CompletionBody(_Body):
    prompt: str | list[Any]
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


#: Values, besides null, with which a field that is not carried out is accepted.
_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {"n": (1,), "logit_bias": ({},)}
_CHAT_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {
    **_HARMLESS,
    "logprobs": (False,),
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_COMPLETION_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {
    **_HARMLESS,
    "logprobs": (),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}


class ChatMessage(msgspec.Struct, frozen=True):
    """One message as the chat template sees it."""

    role: str
    content: str


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request. Exactly one of ``messages`` and ``prompt`` is set."""

    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    max_tokens_field: str
    sampling: EngineRequest  # its prompt and max_tokens are still to be filled in
    messages: tuple[ChatMessage, ...] | None = None
    prompt: str | None = None

    def output_limit(self, endpoint: Endpoint, *, room: int = 0) -> int:
        """Give the tokens that may be generated: where the client named no number, the endpoint's output cap.

        That is cut to ``room``, what the context surely leaves beside the prompt, but not below the endpoint's
        default: where the prompt's tokens are not counted exactly, more may fit than is sure.

        Raises:
            ApiError: more were asked for than ``endpoint`` allows (400).
        """
        allowed = min(endpoint.max_output_tokens, endpoint.context_tokens)
        if self.max_tokens is None:
            return max(min(endpoint.default_max_tokens, allowed), min(allowed, room))
        if self.max_tokens > allowed:
            raise errors.invalid(
                f"{self.max_tokens_field} is {self.max_tokens} but endpoint {endpoint.name} allows at most"
                f" {allowed} (context {endpoint.context_tokens}).",
                param=self.max_tokens_field,
                code="max_tokens_too_large",
            )
        return self.max_tokens


_chat_decoder = msgspec.json.Decoder(_ChatBody)
_completion_decoder = msgspec.json.Decoder(_CompletionBody)


def read_chat(content: bytes) -> Call:
    """Read a body of ``/v1/chat/completions``.

    Raises:
        ApiError: malformed, of the wrong type, out of range, unknown or not supported (400).
    """
    body = _decode(_chat_decoder, content)
    _refuse_unsupported(body, _CHAT_HARMLESS)
    if not body.messages:
        raise errors.invalid("messages must hold at least one message.", param="messages")
    messages = tuple(_message(message, f"messages[{i}]") for i, message in enumerate(body.messages))
    max_tokens, field = body.max_tokens, "max_tokens"
    if body.max_completion_tokens is not None:
        if max_tokens is not None and max_tokens != body.max_completion_tokens:
            raise errors.invalid(
                "max_tokens and max_completion_tokens contradict each other; send one of them.",
                param="max_tokens",
            )
        max_tokens, field = body.max_completion_tokens, "max_completion_tokens"
    return _call(body, max_tokens=max_tokens, field=field, messages=messages)


def read_completion(content: bytes) -> Call:
    """Read a body of ``/v1/completions``.

    Raises:
        ApiError: malformed, of the wrong type, out of range, unknown or not supported (400).
    """
    body = _decode(_completion_decoder, content)
    _refuse_unsupported(body, _COMPLETION_HARMLESS)
    prompt = body.prompt
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise errors.invalid(
                "prompt must be one string; several prompts and prompts of token ids are not supported.",
                param="prompt",
                code="unsupported_value",
            )
        prompt = prompt[0]
    return _call(body, max_tokens=body.max_tokens, field="max_tokens", prompt=prompt)


_BodyType = TypeVar("_BodyType", bound=_Body)
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_QUOTED = re.compile(r"`([^`]*)`")


def _decode(decoder: msgspec.json.Decoder[_BodyType], content: bytes) -> _BodyType:
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.invalid(
            f"The request body is not valid JSON: {str(error)[:200]}", code="malformed_json"
        ) from error


def _explain(explanation: str) -> errors.ApiError:
    """Turn msgspec's words, such as "Expected `int`, got `str` - at `$.max_tokens`", into a refusal."""
    match = _AT.match(explanation)
    assert match is not None
    what, path = match["what"], match["path"] or ""
    name = (found := _QUOTED.search(what)) and found[1]
    here = f"{path}.{name}" if path else name
    if what.startswith("Object contains unknown field"):
        return errors.invalid(f"Unknown field: {here}.", param=here, code="unknown_parameter")
    if what.startswith("Object missing required field"):
        return errors.invalid(f"Missing field: {here}.", param=here, code="missing_required_parameter")
    if not path:
        return errors.invalid(f"The request body must be a JSON object: {what}.", code="malformed_json")
    what = what[0].lower() + what[1:].replace("`", "")
    return errors.invalid(f"Invalid value for {path}: {what}.", param=path, code="invalid_type")


def _refuse_unsupported(body: _Body, harmless: Mapping[str, tuple[Any, ...]]) -> None:
    for name, values in harmless.items():
        value = getattr(body, name)
        # True == 1, and no default here is a number where a boolean may stand, except logprobs.
        if value is not None and value not in values:
            raise errors.unsupported(name, f"{name} is not supported by this gateway; leave it out.")


def _call(
    body: _Body,
    *,
    max_tokens: int | None,
    field: str,
    messages: tuple[ChatMessage, ...] | None = None,
    prompt: str | None = None,
) -> Call:
    if not body.model:
        raise errors.invalid("model must name an endpoint.", param="model")
    if max_tokens is not None and max_tokens < 1:
        raise errors.invalid(f"{field} must be at least 1; it is {max_tokens}.", param=field)
    if body.stream_options is not None and not body.stream:
        raise errors.invalid("stream_options may only be sent with stream: true.", param="stream_options")
    _check_range(body.temperature, "temperature", 0.0, 2.0)
    _check_range(body.top_p, "top_p", 0.0, 1.0)
    _check_range(body.frequency_penalty, "frequency_penalty", -2.0, 2.0)
    _check_range(body.presence_penalty, "presence_penalty", -2.0, 2.0)
    if body.seed is not None and body.seed not in _SEED_RANGE:
        raise errors.invalid("seed must fit 64 bits.", param="seed")
    options = body.stream_options
    return Call(
        model=body.model,
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        max_tokens=max_tokens,
        max_tokens_field=field,
        messages=messages,
        prompt=prompt,
        sampling=EngineRequest(
            prompt="",
            max_tokens=0,
            temperature=body.temperature,
            top_p=body.top_p,
            # Engines take an unsigned seed; a negative one keeps its bits.
            seed=None if body.seed is None else body.seed % 2**64,
            stop=_stop(body.stop),
            frequency_penalty=body.frequency_penalty,
            presence_penalty=body.presence_penalty,
        ),
    )


def _check_range(value: float | None, name: str, low: float, high: float) -> None:
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise errors.invalid(f"{name} must be from {low:g} to {high:g}; it is {value:g}.", param=name)


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    words = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(words) > _STOP_LIMIT:
        raise errors.invalid(f"stop may hold at most {_STOP_LIMIT} strings.", param="stop")
    if not all(words):
        raise errors.invalid("stop must not hold an empty string.", param="stop")
    return words


def _message(message: _Message, at: str) -> ChatMessage:
    if message.role in ("tool", "function") or message.tool_calls or message.function_call is not None:
        raise errors.unsupported(at, "Tool and function calls are not supported by this gateway.")
    if message.audio is not None:
        raise errors.unsupported(at, "Audio is not supported by this gateway.")
    if message.content is None:
        raise errors.invalid(f"{at}.content must be a string or a list of parts.", param=f"{at}.content")
    # Chat templates know the older word only.
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return ChatMessage(role, message.content)
    parts = [_part(part, f"{at}.content[{i}]") for i, part in enumerate(message.content)]
    return ChatMessage(role, "\n".join(parts))


def _part(part: dict[str, Any], at: str) -> str:
    kind = part.get("type")
    if kind != "text":
        raise errors.invalid(
            f"{at} has the type {str(kind)[:40]!r}; only text parts are supported.",
            param=f"{at}.type",
            code="unsupported_value",
        )
    if unknown := part.keys() - {"type", "text"}:
        raise errors.invalid(
            f"Unknown field: {at}.{min(unknown)}.", param=f"{at}.{min(unknown)}", code="unknown_parameter"
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise errors.invalid(f"{at}.text must be a string.", param=f"{at}.text", code="invalid_type")
    return text
