"""Bodies of ``/v1/embeddings``."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from gateway import errors
from gateway.engines import features
from gateway.engines.base import EngineEmbedding, EngineRequest
from gateway.requests.call import Call
from gateway.requests.fields import check_model, check_range, decode

_MOST_INPUTS: Final = 2048
_MOST_DIMENSIONS: Final = 65_536
#: What a model's tokenizer may put around a text.
_OVERHEAD_TOKENS: Final = 8


class _EmbeddingBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    model: str
    input: str | list[str | int]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


_decoder = msgspec.json.Decoder(_EmbeddingBody)


def read_embedding(content: bytes) -> Call:
    """Read a body of ``/v1/embeddings``.

    Raises:
        ApiError: malformed, of the wrong type, out of range, unknown or not supported (400).
    """
    body = decode(_decoder, content)
    check_model(body.model)
    given = [body.input] if isinstance(body.input, str) else body.input
    if not 1 <= len(given) <= _MOST_INPUTS:
        raise errors.invalid(f"input must hold from 1 to {_MOST_INPUTS} strings.", param="input")
    inputs = tuple(text for text in given if isinstance(text, str))
    if len(inputs) < len(given):
        raise errors.invalid(
            "input must be a string or a list of strings; token ids are not supported.",
            param="input",
            code="unsupported_value",
        )
    if not all(inputs):
        raise errors.invalid("input must not hold an empty string.", param="input")
    needs = {features.EMBEDDINGS: "model"}
    if body.dimensions is not None:
        check_range(body.dimensions, "dimensions", 1, _MOST_DIMENSIONS)
        needs[features.DIMENSIONS] = "dimensions"
    embedding = EngineEmbedding(
        inputs=inputs, base64=body.encoding_format == "base64", dimensions=body.dimensions
    )
    return Call(
        model=body.model,
        stream=False,
        include_usage=False,
        max_tokens=None,
        max_tokens_field="max_tokens",
        prompt="\n".join(inputs),
        sampling=EngineRequest(prompt="", max_tokens=0, embedding=embedding),
        needs=needs,
        overhead_tokens=_OVERHEAD_TOKENS * len(inputs),
        inputs=len(inputs),
    )
