"""What the gateway asks of an engine, whatever protocol it speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from gateway.contract import Replica, Timeouts


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to continue. Fields that are None are left to the engine's defaults."""

    prompt: str
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None  # 0 to 2**64 - 1
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    traceparent: str = ""  # of the trace that the engine's own spans belong to, empty where none is made


class Delta(NamedTuple):
    """A piece of the answer.

    ``output_tokens`` belong to this piece alone; ``input_tokens`` and ``cached_tokens`` (those of the
    input found in the engine's prefix cache) are the whole request's, as far as known by now.
    """

    text: str
    output_tokens: int
    input_tokens: int
    cached_tokens: int
    finish_reason: str | None  # "stop" or "length", on the last piece


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


class ContextLengthExceeded(EngineError):
    """The prompt and the tokens asked for do not fit; the message is the engine's and holds only counts."""


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
