"""How long a request may be: the smallest of its endpoint's, key's and class's caps, and what that leaves for it."""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway import errors
from gateway.contract import Endpoint, Key, SloClass
from gateway.requests import Call
from gateway.tokens import Count

#: Bytes that are taken for one token where a prompt's tokens cannot be counted.
_BYTES: Final = 4


class Cap(NamedTuple):
    """Most tokens of a prompt with its answer, and ``whose`` cap that is."""

    tokens: int
    whose: str


def context_cap(endpoint: Endpoint, key: Key, slo_class: SloClass) -> Cap:
    """Give the cap that counts."""
    tokens, whose = endpoint.context_tokens, f"endpoint {endpoint.name}"
    if key.context_tokens is not None and key.context_tokens < tokens:
        tokens, whose = key.context_tokens, f"the API key {key.name!r}"
    if slo_class.context_tokens is not None and slo_class.context_tokens < tokens:
        tokens, whose = slo_class.context_tokens, f"the class {slo_class.name}"
    return Cap(tokens, whose)


def answer_tokens(call: Call, *, endpoint: Endpoint, cap: Cap, count: Count) -> int:
    """Give the tokens that an answer may have: those asked for, or what fits where none were asked for.

    Where the prompt could not be counted exactly, or is several, the engine judges, and is only never asked for more
    than fits beside a prompt of one token.

    Raises:
        ApiError: they do not fit ``cap``, or are more than ``endpoint`` allows (400).
    """
    wanted = call.output_limit(endpoint, room=cap.tokens - count.tokens)
    if not count.exact or call.inputs != 1:
        return min(wanted, max(1, cap.tokens - 1))
    room = cap.tokens - count.tokens
    if wanted <= room:
        return wanted
    if room < 1:
        raise errors.prompt_too_long(prompt_tokens=count.tokens, context_tokens=cap.tokens, whose=cap.whose)
    if call.max_tokens is None:
        return room
    raise errors.context_too_long(
        prompt_tokens=count.tokens, max_tokens=wanted, context_tokens=cap.tokens, whose=cap.whose
    )


def shortened(max_tokens: int, *, cap_tokens: int, count: Count) -> int:
    """Cut ``max_tokens`` to what fits ``cap_tokens``; 0 or less where the prompt alone does not.

    A prompt that could not be counted is taken to have a token in four bytes.
    """
    prompt = count.tokens if count.exact else -(-count.tokens // _BYTES)
    return min(max_tokens, cap_tokens - prompt)
