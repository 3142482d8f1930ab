"""Bodies of ``/v1/completions``."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway import errors
from gateway.engines import features
from gateway.requests.call import Call
from gateway.requests.fields import (
    GeneratingBody,
    check_max_tokens,
    check_range,
    decode,
    refuse_unsupported,
    sampling_of,
)

_MOST_LOGPROBS: Final = 5


class _CompletionBody(GeneratingBody):
    prompt: str | list[str | int]
    logprobs: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


_HARMLESS: Final = {"echo": (False,), "suffix": ("",)}
_decoder = msgspec.json.Decoder(_CompletionBody)


def read_completion(content: bytes) -> Call:
    """Read a body of ``/v1/completions``.

    Raises:
        ApiError: malformed, of the wrong type, out of range, unknown or not supported (400).
    """
    body = decode(_decoder, content)
    refuse_unsupported(body, _HARMLESS)
    prompt = body.prompt
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise errors.invalid(
                "prompt must be one string; several prompts and prompts of token ids are not supported.",
                param="prompt",
                code="unsupported_value",
            )
        prompt = prompt[0]
    if not prompt:
        raise errors.invalid("prompt must not be empty.", param="prompt")
    needs: dict[str, str] = {}
    sampling = sampling_of(body, needs=needs)
    check_max_tokens(body.max_tokens, "max_tokens")
    if body.best_of is not None and body.best_of != sampling.choices:
        raise errors.unsupported("best_of", "best_of is not supported by this gateway unless it equals n.")
    if body.logprobs is not None:
        check_range(body.logprobs, "logprobs", 0, _MOST_LOGPROBS)
        needs[features.LOGPROBS] = "logprobs"
        sampling = msgspec.structs.replace(sampling, logprobs=body.logprobs)
    return Call(
        model=body.model,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        max_tokens=body.max_tokens,
        max_tokens_field="max_tokens",
        prompt=prompt,
        sampling=sampling,
        needs=needs,
    )
