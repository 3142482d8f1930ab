"""What the gateway asks of an engine, whatever protocol it speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from gateway.contract import Replica, Timeouts


class EngineChat(msgspec.Struct, frozen=True, kw_only=True):
    """A chat that the engine renders itself, in OpenAI's shapes, checked.

    ``tool_choice`` and ``parallel_tool_calls`` are None where nothing was asked for. ``logprobs`` is how many of the
    likeliest tokens are told beside each chosen one, None for no probabilities at all.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: int | None = None


class EngineEmbedding(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to embed, each to a vector of its own. ``base64`` asks for packed little-endian float32."""

    inputs: tuple[str, ...]
    base64: bool = False
    dimensions: int | None = None


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to continue. Fields that are None are left to the engine's defaults.

    ``chat`` and ``embedding`` take the place of ``prompt``. ``schema`` is a JSON schema that the answer must follow,
    empty for any JSON object. ``logprobs`` is how many of the likeliest tokens of a completion are told. ``cache_salt``
    keeps prefix caches apart and ``priority`` is from 0 to 1, 1 first: both go only to engines that know them.
    """

    prompt: str
    max_tokens: int
    choices: int = 1
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None  # 0 to 2**64 - 1
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    schema: Mapping[str, Any] | None = None
    logprobs: int | None = None
    chat: EngineChat | None = None
    embedding: EngineEmbedding | None = None
    cache_salt: str = ""
    priority: float | None = None
    traceparent: str = ""  # of the trace that the engine's own spans belong to, empty where none is made


class Delta(NamedTuple):
    """A piece of the answer.

    ``output_tokens`` belong to this piece alone; ``input_tokens`` and ``cached_tokens`` (those of the
    input found in the engine's prefix cache) are the whole request's, as far as known by now. ``more`` is what
    the piece holds beside text, such as tool calls or vectors, as the engine wrote it, and so are ``logprobs``.
    """

    text: str
    output_tokens: int
    input_tokens: int
    cached_tokens: int
    finish_reason: str | None  # "stop", "length" or "tool_calls", on the last piece of its choice
    choice: int = 0  # its number
    more: Mapping[str, Any] | None = None
    logprobs: Mapping[str, Any] | None = None


class EngineError(Exception):
    """The engine could not go on. Messages never hold the engine's own text, which may quote a prompt."""


class EngineUnreachable(EngineError):
    """It refused the connection, or the connection broke."""


class EngineTimedOut(EngineError):
    """It kept the gateway waiting longer than the endpoint's timeouts allow."""


class EngineAnsweredError(EngineError):
    """It answered with an error. ``status`` is its HTTP status (200 if the error came inside a stream)."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class EngineOverloaded(EngineAnsweredError):
    """It has no room now: its queue is full, or its cache of keys and values."""


class ContextLengthExceeded(EngineError):
    """The prompt and the tokens asked for do not fit; the message is the engine's and holds only counts."""


class RequestRefused(EngineError):
    """It found fault with what was passed on as the client sent it: tools, a schema, a bias."""


#: What engines say, in lower case, when they have no room: Triton's queue, TensorRT-LLM's executor and its KV cache.
_NO_ROOM: Final = ("maximum queue size", "queue is full", "no free blocks left")
_OVERLOADED: Final = (429, 503)


def answered_error(status: int, text: str) -> EngineAnsweredError:
    """Make the error of an answer that says ``text``, of which nothing is kept."""
    full = status in _OVERLOADED or any(words in text.lower() for words in _NO_ROOM)
    kind = EngineOverloaded if full else EngineAnsweredError
    return kind(f"it answered an error, status {status}", status=status)


class EngineStream(Protocol):
    """An answer in progress: an async iterator over what each read brought, one or more pieces.

    Ends after the last piece; raises :class:`EngineError` if the engine breaks off.
    """

    def __aiter__(self) -> EngineStream: ...

    async def __anext__(self) -> Sequence[Delta]: ...

    def close(self) -> None:
        """Drop the connection at once, which makes the engine stop. Harmless after the end, and repeated."""


class Engine(Protocol):
    """Speaks one engine protocol to any number of replicas."""

    async def generate(self, *, replica: Replica, request: EngineRequest, timeouts: Timeouts) -> EngineStream:
        """Start an answer. Cancelling the call, or closing the stream, cancels the engine.

        Raises:
            EngineError: the engine refused, failed or was late before its first piece.
        """
