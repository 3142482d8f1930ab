"""Waiting for what other processes announce: PostgreSQL's NOTIFY, one listener per channel and event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator

import psycopg
from django.db import connection

log = logging.getLogger(__name__)

LOOK_ANYWAY_S = 2.0  # what is lost with a broken listener is found by looking


class Subscription:
    """Wakes who waits for certain payloads. What is announced between two waits is not missed."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Wake it."""
        self._told.set()

    async def wait(self, seconds: float) -> None:
        """Return after an announcement since the last call, or after ``seconds``, whichever comes first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), seconds)
        self._told.clear()


class Listener:
    """Listens on ``channel`` for as long as its event loop runs."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._subscriptions: dict[str, set[Subscription]] = defaultdict(set)
        self._listening = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._listen())

    @contextlib.asynccontextmanager
    async def subscribed(self, payload: str = "") -> AsyncIterator[Subscription]:
        """Hear of ``payload`` within the block."""
        subscription = Subscription()
        self._subscriptions[payload].add(subscription)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._listening.wait(), LOOK_ANYWAY_S)
            yield subscription
        finally:
            self._subscriptions[payload].discard(subscription)
            if not self._subscriptions[payload]:
                del self._subscriptions[payload]

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    **_parameters(), autocommit=True
                ) as listening:
                    await listening.execute(f"LISTEN {self._channel}")
                    self._listening.set()
                    self._tell_all()
                    async for notice in listening.notifies():
                        for subscription in self._subscriptions.get(notice.payload, ()):
                            subscription.tell()
            except psycopg.Error as error:
                log.warning("not listening on %s: %s", self._channel, error)
            self._listening.clear()
            self._tell_all()
            await asyncio.sleep(LOOK_ANYWAY_S)

    def _tell_all(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.tell()


_listeners: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Listener]] = (
    weakref.WeakKeyDictionary()
)


def listener(channel: str) -> Listener:
    """Give the running event loop's listener of ``channel``."""
    of_loop = _listeners.setdefault(asyncio.get_running_loop(), {})
    if channel not in of_loop:
        of_loop[channel] = Listener(channel)
    return of_loop[channel]


def announce(channel: str, payload: str = "") -> None:
    """Wake who waits for ``payload``, once the open transaction has committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


def _parameters() -> dict:
    parameters = connection.get_connection_params()
    for ours in ("pool", "context", "cursor_factory", "prepare_threshold"):
        parameters.pop(ours, None)
    return parameters
