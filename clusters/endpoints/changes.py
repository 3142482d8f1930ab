"""Hearing of changes that gateways must know; those who make them announce them by ``tenants.announcements``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tenants import notices
from tenants.announcements import CHANNEL


@contextlib.asynccontextmanager
async def changes_heard() -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """Give a wait that returns when rows that gateways serve from may have changed, at the latest after its seconds.

    What changes between two waits, or before the first one within the block, is not missed: look inside it.
    """
    async with notices.listener(CHANNEL).subscribed() as changes:

        async def wait(seconds: float) -> None:
            await changes.wait(min(seconds, notices.LOOK_ANYWAY_S))

        yield wait
