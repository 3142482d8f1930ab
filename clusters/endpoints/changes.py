"""Waiting for changes that gateways must hear of: PostgreSQL's NOTIFY, one listener per process and loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref

import psycopg
from django.db import connection

from tenants.announcements import CHANNEL

log = logging.getLogger(__name__)

LOOK_ANYWAY_S = 2.0  # what is lost with a broken listener is found by looking


class Listener:
    """Wakes everybody who waits in one event loop when something changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._listen())

    async def wait(self, seconds: float) -> None:
        """Return after a change, or after ``seconds``, whichever comes first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    **_parameters(), autocommit=True
                ) as listening:
                    await listening.execute(f"LISTEN {CHANNEL}")
                    async for _ in listening.notifies():
                        self._tell()
            except psycopg.Error as error:
                log.warning("not listening for changes: %s", error)
            self._tell()
            await asyncio.sleep(LOOK_ANYWAY_S)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


_listeners: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Listener] = weakref.WeakKeyDictionary()


async def wait_for_change(seconds: float) -> None:
    """Return when rows that gateways serve from may have changed, at the latest after ``seconds``."""
    loop = asyncio.get_running_loop()
    if loop not in _listeners:
        _listeners[loop] = Listener()
    await _listeners[loop].wait(min(seconds, LOOK_ANYWAY_S))


def _parameters() -> dict:
    parameters = connection.get_connection_params()
    for ours in ("pool", "context", "cursor_factory", "prepare_threshold"):
        parameters.pop(ours, None)
    return parameters
