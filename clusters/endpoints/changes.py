"""Waiting for changes that gateways must hear of; those who make them announce them by ``tenants.announcements``."""

from __future__ import annotations

from tenants import notices
from tenants.announcements import CHANNEL


async def wait_for_change(seconds: float) -> None:
    """Return when rows that gateways serve from may have changed, at the latest after ``seconds``."""
    async with notices.listener(CHANNEL).subscribed() as changes:
        await changes.wait(min(seconds, notices.LOOK_ANYWAY_S))
