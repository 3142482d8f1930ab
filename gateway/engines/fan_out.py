"""Several answers to one prompt from engines that give one at a time, merged into one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from gateway.engines.base import Delta, EngineError, EngineRequest, EngineStream

_SEEDS: Final = 2**64


async def fan_out(
    start: Callable[[EngineRequest], Awaitable[EngineStream]], request: EngineRequest
) -> FanOut:
    """Start each of ``request``'s choices by itself; where a seed is given, choice i gets the seed + i.

    Raises:
        EngineError: one of them failed before its first piece; the others are let go.
    """
    starting = [asyncio.ensure_future(start(_one_of(request, index))) for index in range(request.choices)]
    try:
        return FanOut(await asyncio.gather(*starting))
    except BaseException:
        for task in starting:
            task.add_done_callback(_let_go)
            task.cancel()
        raise


def _one_of(request: EngineRequest, index: int) -> EngineRequest:
    seed = None if request.seed is None else (request.seed + index) % _SEEDS
    return msgspec.structs.replace(request, choices=1, seed=seed)


def _let_go(task: asyncio.Future[EngineStream]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


class FanOut:
    """Answers in progress, as one. The input is counted once, as cached as it was for the one that found least."""

    def __init__(self, streams: Sequence[EngineStream]) -> None:
        self._streams = streams
        self._reading: dict[asyncio.Future[Sequence[Delta] | None], int] = {}
        self._input_tokens = 0
        self._cached: dict[int, int] = {}
        self._failure: EngineError | None = None
        for index in range(len(streams)):
            self._read(index)

    def __aiter__(self) -> FanOut:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        while self._reading and self._failure is None:
            done, _ = await asyncio.wait(self._reading, return_when=asyncio.FIRST_COMPLETED)
            deltas: list[Delta] = []
            for task in done:
                deltas += self._take(task, self._reading.pop(task))
            # Pieces that came together with another's failure were generated, and count.
            if deltas:
                return deltas
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    def close(self) -> None:
        """Let go of every engine at once."""
        for task in self._reading:
            task.add_done_callback(_ignore)
            task.cancel()
        self._reading.clear()
        for stream in self._streams:
            stream.close()

    def _read(self, index: int) -> None:
        self._reading[asyncio.ensure_future(_next(self._streams[index]))] = index

    def _take(self, task: asyncio.Future[Sequence[Delta] | None], index: int) -> Sequence[Delta]:
        try:
            deltas = task.result()
        except EngineError as error:
            self._failure = error
            return ()
        if deltas is None:
            return ()
        self._read(index)
        return [self._of(index, delta) for delta in deltas]

    def _of(self, index: int, delta: Delta) -> Delta:
        self._input_tokens = max(self._input_tokens, delta.input_tokens)
        if delta.input_tokens:
            self._cached[index] = delta.cached_tokens
        return delta._replace(
            choice=index,
            input_tokens=self._input_tokens,
            cached_tokens=min(self._cached.values(), default=0),
        )


async def _next(stream: EngineStream) -> Sequence[Delta] | None:
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        return None


def _ignore(task: asyncio.Future[Sequence[Delta] | None]) -> None:
    if not task.cancelled():
        task.exception()
