"""Counters in Redis, shared by the gateways of a region."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from gateway.backoff import Backoff
from gateway.limits.charges import Charge, Verdict
from gateway.limits.window import SLOT_MS, WINDOW_S, end_of

_log = logging.getLogger(__name__)
_SCRIPT: Final = (Path(__file__).parent / "window.lua").read_text("utf-8")
_LIFE: Final = "berth:limits:life"
_CONNECT_S: Final = 1.0
_GRACE_S: Final = 0.01
_CORRECT_EVERY_S: Final = 0.05
_LOOK_EVERY_S: Final = 2.0
_MOST_AT_ONCE: Final = 256  # requests in one call, so that Redis is not held up

_Answers = list[list[int]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, int, _Answers]).decode


class SharedCounters:
    """One connection to Redis; what asks while a call is under way goes together into the next one.

    ``available`` says whether to ask at all. ``call_s`` is how long a call may take: whoever asked decides by
    itself then, and the connection is made anew. ``doubted`` is true for a window after Redis has lost its data.
    """

    def __init__(self, url: str, *, call_s: float) -> None:
        self._pool = ConnectionPool.from_url(
            url, protocol=2, socket_connect_timeout=_CONNECT_S, socket_timeout=None, health_check_interval=0
        )
        self._call_s = call_s
        self._waiting: list[tuple[Sequence[Charge], asyncio.Future[Verdict | None]]] = []
        self._corrections: dict[tuple[str, int], int] = {}
        self._flush: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._doubted_until = 0.0
        self._life = ""
        self._away = False  # and said so
        self.available = False

    @property
    def doubted(self) -> bool:
        """Whether what Redis counts may lack some of the last minute."""
        return time.monotonic() < self._doubted_until

    async def enter(self, charges: Sequence[Charge]) -> Verdict | None:
        """Take all charges or none; None if Redis cannot be asked."""
        if not self.available:
            return None
        future: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((charges, future))
        self._wake.set()
        return await future

    def correct(self, life: str, slot: int, counter: str, amount: int) -> None:
        """Add ``amount``, which may be negative, to what was charged in ``slot`` of ``life``; soon, or never.

        What cannot be told counts as it was charged until it leaves the window.
        """
        if life != self._life or not self.available:
            return
        place = (counter, slot)
        self._corrections[place] = self._corrections.get(place, 0) + amount
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_CORRECT_EVERY_S, self._wake.set)

    async def run(self) -> None:
        """Keep a connection, and carry what is asked over it, until cancelled."""
        backoff = Backoff(first_s=0.02, most_s=1.0)
        while True:
            connection = self._pool.make_connection()
            try:
                await self._serve(connection, backoff)
            except (RedisError, OSError, TimeoutError, msgspec.DecodeError) as error:
                if not self._away:
                    self._away = True
                    _log.warning("rate limits are counted by this gateway alone: Redis is away: %r", error)
            finally:
                self._let_go()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(backoff.next())

    async def _serve(self, connection: AbstractConnection, backoff: Backoff) -> None:
        async with asyncio.timeout(_CONNECT_S):
            await connection.connect()
            await connection.send_command("SCRIPT", "LOAD", _SCRIPT)
            digest = await connection.read_response()
        while True:
            # The first call, which asks nothing, shows that Redis can do what it is asked.
            await self._call(connection, digest)
            if not self.available:
                _log.info("rate limits are shared through Redis")
                self.available, self._away = True, False
                backoff.reset()
            if not self._waiting:
                try:
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass  # an empty call shows whether Redis is still there
            self._wake.clear()

    async def _call(self, connection: AbstractConnection, digest: bytes) -> None:
        asked, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
        corrections, self._corrections = self._corrections, {}
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        keys = {_LIFE: 1}

        def key(counter: str) -> int:
            return keys.setdefault(counter, len(keys) + 1)

        message = _encode(
            (
                self._life,
                [(key(counter), slot, amount) for (counter, slot), amount in corrections.items()],
                [[(key(each.counter), each.limit, each.cost) for each in charges] for charges, _ in asked],
            )
        )
        try:
            content = await self._exchange(connection, "EVALSHA", digest, len(keys), *keys, message)
            life, now_ms, answers = _decode(content)
        except BaseException:
            for _, future in asked:
                _resolve(future, None)
            raise
        self._live(life)
        for (charges, future), answer in zip(asked, answers, strict=True):
            verdict = _verdict(answer, now_ms, life)
            if not _resolve(future, verdict) and verdict.refused < 0:
                # Whoever asked is gone.
                for charge in charges:
                    self.correct(life, verdict.slot, charge.counter, -charge.cost)

    async def _exchange(self, connection: AbstractConnection, *command: Any) -> Any:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as deadline:
            # In two steps: what came while this loop was busy elsewhere is read before the second is over.
            timer = loop.call_later(
                self._call_s - _GRACE_S, lambda: deadline.reschedule(loop.time() + _GRACE_S)
            )
            try:
                await connection.send_command(*command)
                return await connection.read_response(disable_decoding=True)
            finally:
                timer.cancel()

    def _live(self, life: str) -> None:
        if life == self._life:
            return
        if self._life:
            _log.warning("Redis has lost its counters: for a minute each gateway keeps to its share as well")
            self._doubted_until = time.monotonic() + WINDOW_S + SLOT_MS / 1000
            self._corrections.clear()
        self._life = life

    def _let_go(self) -> None:
        self.available = False
        self._corrections.clear()
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            _resolve(future, None)


def _resolve(future: asyncio.Future[Verdict | None], verdict: Verdict | None) -> bool:
    if future.done():
        return False
    future.set_result(verdict)
    return True


def _verdict(answer: list[int], now_ms: int, life: str) -> Verdict:
    refused, wait_ms, *counters = answer
    used, newest = counters[::2], counters[1::2]
    now_s = now_ms / 1000
    return Verdict(
        refused=refused - 1,
        wait_s=wait_ms / 1000,
        used=used,
        resets_s=[
            max(0.0, end_of(slot) - now_s) if total else 0.0 for total, slot in zip(used, newest, strict=True)
        ],
        slot=now_ms // SLOT_MS,
        life=life,
    )
