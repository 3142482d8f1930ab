"""Vectors of texts from an engine that speaks OpenAI's embeddings: one answer, given whole."""

from __future__ import annotations

import asyncio
import base64
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.contract import Timeouts
from gateway.engines.base import (
    Delta,
    EngineAnsweredError,
    EngineEmbedding,
    EngineError,
    EngineTimedOut,
    EngineUnreachable,
)
from gateway.engines.events import ERROR_LIMIT, Address
from gateway.engines.http import HttpBroken, HttpPool

_ANSWER_LIMIT: Final = 256 * 1024 * 1024


class _Vector(msgspec.Struct):
    index: int
    embedding: msgspec.Raw


class _Usage(msgspec.Struct):
    prompt_tokens: int


class _Document(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage


_decode = msgspec.json.Decoder(_Document).decode


class Vectors:
    """The answer as a stream of one piece, whose ``more["data"]`` holds the vectors in the order of their texts."""

    def __init__(self, delta: Delta) -> None:
        self._deltas: list[Delta] = [delta]

    def __aiter__(self) -> Vectors:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if not self._deltas:
            raise StopAsyncIteration
        return [self._deltas.pop()]

    def close(self) -> None:
        """Do nothing: the answer was read to its end."""


async def embed(
    request: EngineEmbedding,
    *,
    model: str,
    pool: HttpPool,
    address: Address,
    timeouts: Timeouts,
    refusal: Callable[[bytes, int], EngineError],
) -> Vectors:
    """Ask for the vectors of all texts at once.

    Raises:
        EngineError: the engine refused, failed, was late, or answered something else.
    """
    body = _payload(request, model=model)
    try:
        async with asyncio.timeout(timeouts.first_token_s):
            response = await pool.post(address.origin, address.message(body), connect_s=timeouts.connect_s)
            try:
                if response.status != 200:
                    raise refusal(await response.read_all(ERROR_LIMIT), response.status)
                content = await response.read_all(_ANSWER_LIMIT)
            finally:
                response.close()
    except HttpBroken as error:
        raise EngineUnreachable(str(error)) from error
    except TimeoutError as error:
        raise EngineTimedOut(f"no answer within {timeouts.first_token_s:g} s") from error
    try:
        document = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineAnsweredError("the answer could not be understood", status=200) from error
    vectors = {vector.index: vector.embedding for vector in document.data}
    if sorted(vectors) != list(range(len(request.inputs))):
        raise EngineAnsweredError("it did not give one vector for each text", status=200)
    data = [_form(vectors[index], packed=request.base64) for index in range(len(vectors))]
    return Vectors(Delta("", 0, document.usage.prompt_tokens, 0, "stop", more={"data": data}))


def _payload(request: EngineEmbedding, *, model: str) -> bytes:
    payload: dict[str, Any] = {
        "model": model,
        "input": request.inputs,
        "encoding_format": "base64" if request.base64 else "float",
    }
    if request.dimensions is not None:
        payload["dimensions"] = request.dimensions
    return msgspec.json.encode(payload)


def _form(vector: msgspec.Raw, *, packed: bool) -> msgspec.Raw | str:
    """Bring a vector into the form that was asked for; engines without the packed one give numbers."""
    if not packed or bytes(memoryview(vector)[:1]) == b'"':
        return vector
    try:
        numbers = array("f", msgspec.json.decode(vector, type=list[float]))
    except msgspec.DecodeError as error:
        raise EngineAnsweredError("a vector could not be understood", status=200) from error
    return base64.b64encode(numbers.tobytes()).decode("ascii")
