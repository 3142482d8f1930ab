"""Answers that come as server-sent events: read as they arrive, with the timeouts of their endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from gateway.contract import Timeouts
from gateway.engines.base import (
    Delta,
    EngineAnsweredError,
    EngineError,
    EngineTimedOut,
    EngineUnreachable,
)
from gateway.engines.http import HttpBroken, HttpPool, HttpResponse, Origin

_LENGTH: Final = b"Content-Length: "
_EVENT_LIMIT: Final = 1024 * 1024
ERROR_LIMIT: Final = 64 * 1024


class Address(NamedTuple):
    """Where an engine takes requests."""

    origin: Origin
    head: bytes  # of a request, up to the value of its content-length

    @classmethod
    def of(cls, url: str, target: str, *, accept: str = "text/event-stream") -> Address:
        """Address ``target``, a quoted path, at the engine of ``url``.

        Raises:
            ValueError: it is no http or https URL.
        """
        origin = Origin.of(url)
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {host}:{origin.port}\r\nContent-Type: application/json\r\n"
            f"Accept: {accept}\r\nContent-Length: "
        )
        return cls(origin, head.encode("ascii"))

    def traced(self, traceparent: str) -> Address:
        """Give the same place, where the engine is told of the trace that it works for; empty for none."""
        if not traceparent:
            return self
        return self._replace(
            head=b"%straceparent: %s\r\n%s"
            % (self.head.removesuffix(_LENGTH), traceparent.encode("ascii"), _LENGTH)
        )

    def message(self, body: bytes) -> bytes:
        """Give the whole request."""
        return b"%s%d\r\n\r\n%s" % (self.head, len(body), body)


class EventStream:
    """One answer in progress, read event by event. A protocol says what an event means in :meth:`read_event`."""

    def __init__(self, response: HttpResponse, *, between_tokens_s: float) -> None:
        self._response = response
        self._between_tokens_s = between_tokens_s
        self._rest = b""
        self._held: list[Delta] | None = None
        self._ended = False
        self._failure: EngineError | None = None

    def read_event(self, event: bytes) -> Delta | None:
        """Understand one event, None where it holds nothing of the answer.

        Raises:
            EngineError: it says that the engine failed, or cannot be understood.
        """
        raise NotImplementedError

    def check_end(self) -> None:
        """Say whether the answer may end here.

        Raises:
            EngineError: something is missing.
        """

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if self._held is not None:
            deltas, self._held = self._held, None
            return deltas
        if self._failure is not None:
            raise self._failure
        if self._ended:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(self._between_tokens_s):
                deltas = await self._read()
        except HttpBroken as error:
            raise EngineUnreachable(str(error)) from error
        except TimeoutError as error:
            raise EngineTimedOut(f"no token for {self._between_tokens_s:g} s") from error
        if not deltas:
            raise StopAsyncIteration
        return deltas

    def fail(self, error: EngineError) -> None:
        """Let the stream end with ``error`` after the pieces that came before."""
        self._failure = error

    async def prefetch(self) -> None:
        """Read until the first piece is there; an error that comes first is raised here."""
        self._held = await self._read()
        if not self._held:
            raise EngineAnsweredError("the answer was empty", status=200)

    def close(self) -> None:
        """Drop the connection at once. After the answer's end it is back in the pool, and stays there."""
        self._response.close()

    async def _read(self) -> list[Delta]:
        while True:
            chunk = await self._response.read()
            if chunk:
                *events, self._rest = (self._rest + chunk).split(b"\n\n")
                if len(self._rest) > _EVENT_LIMIT:
                    raise EngineAnsweredError("one event exceeds 1 MiB", status=200)
            else:
                events, self._rest, self._ended = [self._rest], b"", True
            deltas: list[Delta] = []
            try:
                for event in events:
                    if (event := event.strip()) and (delta := self.read_event(event)) is not None:
                        deltas.append(delta)
                if self._ended:
                    self.check_end()
            except EngineError as error:
                # Pieces that came in the same read were generated, and count.
                self.fail(error)
                if not deltas:
                    raise
            if deltas or self._ended:
                return deltas


_Stream = TypeVar("_Stream", bound=EventStream)


async def open_stream(
    stream_of: Callable[[HttpResponse], _Stream],
    *,
    pool: HttpPool,
    address: Address,
    body: bytes,
    timeouts: Timeouts,
    refusal: Callable[[bytes, int], EngineError],
) -> _Stream:
    """Post ``body`` to ``address``; give the stream of its answer with the first piece already read.

    ``refusal`` explains the body of an answer whose status, its second argument, is not 200.

    Raises:
        EngineError: the engine refused, failed or was late before its first piece.
    """
    stream: _Stream | None = None
    try:
        async with asyncio.timeout(timeouts.first_token_s):
            response = await pool.post(address.origin, address.message(body), connect_s=timeouts.connect_s)
            stream = stream_of(response)
            if response.status != 200:
                raise refusal(await response.read_all(ERROR_LIMIT), response.status)
            await stream.prefetch()
    except BaseException as error:
        if stream is not None:
            stream.close()
        if isinstance(error, HttpBroken):
            raise EngineUnreachable(str(error)) from error
        if isinstance(error, TimeoutError):
            raise EngineTimedOut(f"no token within {timeouts.first_token_s:g} s") from error
        raise
    return stream
