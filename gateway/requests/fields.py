"""The fields that the generating doors share, and how a body is decoded and explained."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from gateway import errors
from gateway.engines import features
from gateway.engines.base import EngineRequest

MOST_CHOICES: Final = 8
_STOP_LIMIT: Final = 4
_STOP_LENGTH: Final = 256
#: Engines take no 0, with which OpenAI leaves nothing to chance.
_LEAST_TOP_P: Final = 1e-6
_SEED_RANGE: Final = range(-(2**63), 2**64)
_BIAS_LIMIT: Final = 300
_DEPTH_LIMIT: Final = 64
NULL: Final = msgspec.Raw(b"null")


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """``stream_options``; obfuscation only pads events, so that asking for it changes nothing."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GeneratingBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What chats and completions have in common. Fields of type ``Raw`` are looked at only if they are not null."""

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
    logit_bias: dict[str, float] | None = None


Body = TypeVar("Body", bound=msgspec.Struct)
_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_QUOTED = re.compile(r"`([^`]*)`")


def decode(decoder: msgspec.json.Decoder[Body], content: bytes) -> Body:
    """Decode a body.

    Raises:
        ApiError: it is no JSON, lacks a field, has one too many, or one of the wrong type (400).
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.invalid(
            f"The request body is not valid JSON: {str(error)[:200]}", code="malformed_json"
        ) from error


_Shape = TypeVar("_Shape")


def decode_field(name: str, content: msgspec.Raw, shape: msgspec.json.Decoder[_Shape]) -> _Shape:
    """Decode a field that was kept as it came.

    Raises:
        ApiError: it has not the shape of ``shape``, or is nested deeper than anybody needs (400).
    """
    try:
        value = shape.decode(content)
    except msgspec.ValidationError as error:
        raise explain(str(error), under=name) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.invalid(f"{name} is not valid JSON.", param=name, code="malformed_json") from error
    return value


def check_depth(value: Any, name: str) -> None:
    """Check that what an engine is to read is not nested deeper than a schema ever is.

    Raises:
        ApiError: it is (400).
    """
    layer, depth = [value], 0
    while layer:
        if depth > _DEPTH_LIMIT:
            raise errors.invalid(f"{name} is nested deeper than {_DEPTH_LIMIT} levels.", param=name)
        layer = [
            inner
            for outer in layer
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        depth += 1


def explain(explanation: str, *, under: str = "") -> errors.ApiError:
    """Turn msgspec's words, such as "Expected `int`, got `str` - at `$.max_tokens`", into a refusal.

    ``under`` is where the value that was decoded belongs.
    """
    match = _AT.match(explanation)
    assert match is not None
    what, path = match["what"], match["path"] or ""
    if under:
        path = f"{under}{'' if not path or path.startswith('[') else '.'}{path}"
    name = (found := _QUOTED.search(what)) and found[1]
    here = f"{path}.{name}" if path else name
    if what.startswith("Object contains unknown field"):
        here = str(here)[:200]
        return errors.invalid(f"Unknown field: {here}.", param=here, code="unknown_parameter")
    if what.startswith("Object missing required field"):
        return errors.invalid(f"Missing field: {here}.", param=here, code="missing_required_parameter")
    if not path:
        return errors.invalid(f"The request body must be a JSON object: {what}.", code="malformed_json")
    what = what[0].lower() + what[1:300].replace("`", "")
    return errors.invalid(f"Invalid value for {path}: {what}.", param=path, code="invalid_type")


def is_set(content: msgspec.Raw) -> bool:
    """Say whether a field that was kept as it came is there and not null."""
    return content is not NULL and bytes(content) != b"null"


def refuse_unsupported(body: msgspec.Struct, harmless: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse fields that nothing here carries out, unless they ask for what happens anyway.

    Raises:
        ApiError: there is one (400).
    """
    for name, values in harmless.items():
        value = getattr(body, name)
        if value is None or value is NULL:
            continue
        if isinstance(value, msgspec.Raw):
            # The longest harmless value is short; what is longer need not be made into objects.
            value = decode_field(name, value, _anything) if len(value) < 100 else value
        if value is not None and value not in values:
            raise errors.unsupported(name, f"{name} is not supported by this gateway; leave it out.")


_anything: Final = msgspec.json.Decoder(Any)


def require_object(name: str, content: msgspec.Raw) -> None:
    """Check that a field that changes nothing is at least an object.

    Raises:
        ApiError: it is something else (400).
    """
    if is_set(content) and bytes(memoryview(content)[:1]) != b"{":
        raise errors.invalid(f"Invalid value for {name}: expected object.", param=name, code="invalid_type")


def sampling_of(body: GeneratingBody, *, needs: dict[str, str]) -> EngineRequest:
    """Check and take over the shared fields; adds to ``needs`` what they ask of an engine.

    Raises:
        ApiError: one is out of range (400).
    """
    if body.stream_options is not None and not body.stream:
        raise errors.invalid("stream_options may only be sent with stream: true.", param="stream_options")
    check_model(body.model)
    check_range(body.temperature, "temperature", 0.0, 2.0)
    check_range(body.top_p, "top_p", 0.0, 1.0)
    check_range(body.frequency_penalty, "frequency_penalty", -2.0, 2.0)
    check_range(body.presence_penalty, "presence_penalty", -2.0, 2.0)
    check_range(body.n, "n", 1, MOST_CHOICES)
    if body.seed is not None and body.seed not in _SEED_RANGE:
        raise errors.invalid("seed must fit 64 bits.", param="seed")
    return EngineRequest(
        prompt="",
        max_tokens=0,
        choices=body.n or 1,
        temperature=body.temperature,
        top_p=None if body.top_p is None else max(body.top_p, _LEAST_TOP_P),
        # Engines take an unsigned seed; a negative one keeps its bits.
        seed=None if body.seed is None else body.seed % 2**64,
        stop=_stop(body.stop),
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=_logit_bias(body.logit_bias, needs) if body.logit_bias else None,
    )


def check_model(model: str) -> None:
    """Check that an endpoint is named.

    Raises:
        ApiError: none is (400).
    """
    if not model:
        raise errors.invalid("model must name an endpoint.", param="model")


def check_max_tokens(max_tokens: int | None, field: str) -> None:
    """Check that an answer may have a token at all.

    Raises:
        ApiError: it may not (400).
    """
    if max_tokens is not None and max_tokens < 1:
        raise errors.invalid(f"{field} must be at least 1; it is {max_tokens}.", param=field)


def check_range(value: float | None, name: str, low: float, high: float) -> None:
    """Check a number.

    Raises:
        ApiError: it is out of range (400).
    """
    # A number of a hundred digits is no float any more, and is compared as it is.
    if value is not None and not (low <= value <= high):
        shown = f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)[:40]
        raise errors.invalid(f"{name} must be from {low:g} to {high:g}; it is {shown}.", param=name)


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    words = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(words) > _STOP_LIMIT:
        raise errors.invalid(f"stop may hold at most {_STOP_LIMIT} strings.", param="stop")
    if not all(words) or any(len(word) > _STOP_LENGTH for word in words):
        raise errors.invalid(f"Strings in stop must have 1 to {_STOP_LENGTH} characters.", param="stop")
    return words


def _logit_bias(biases: dict[str, float], needs: dict[str, str]) -> dict[str, float]:
    if len(biases) > _BIAS_LIMIT:
        raise errors.invalid(f"logit_bias may hold at most {_BIAS_LIMIT} tokens.", param="logit_bias")
    for token, bias in biases.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise errors.invalid("The keys of logit_bias must be ids of tokens.", param="logit_bias")
        check_range(bias, "logit_bias", -100.0, 100.0)
    needs[features.LOGIT_BIAS] = "logit_bias"
    return biases
