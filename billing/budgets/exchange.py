"""One exchange of a gateway with the ledger. Nobody who waits holds a connection to the database."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import connection
from django.utils import timezone

from billing.budgets import ledger
from gateway import contract
from tenants import notices

_Result = TypeVar("_Result")
_WAITING_LOOK_S = 0.25


async def exchange(report: contract.LeaseReport, *, wait_s: float) -> contract.LeaseAnswer:
    """Take a report and answer it at once, or, where it tells nothing, wait for news for ``wait_s`` seconds.

    Raises:
        Invalid: a line is malformed.
    """
    if report.lines or report.begins:
        return contract.LeaseAnswer(grants=await _in_thread(lambda: ledger.take(report, now=timezone.now())))
    look = functools.partial(ledger.look, report.gateway, sequence=report.sequence)
    until = time.monotonic() + wait_s
    async with notices.listener(ledger.CHANNEL).subscribed(report.gateway) as calls:
        while True:
            told = await _in_thread(lambda: look(now=timezone.now()))
            left = until - time.monotonic()
            if told.has_news or left <= 0:
                return contract.LeaseAnswer(grants=told.grants)
            await calls.wait(min(left, _WAITING_LOOK_S if told.is_waiting else notices.LOOK_ANYWAY_S))


async def _in_thread(work: Callable[[], _Result]) -> _Result:
    def done() -> _Result:
        try:
            return work()
        finally:
            # The thread is this request's own: left open, it would keep a connection for as long as the poll.
            if not connection.in_atomic_block:
                connection.close()

    return await sync_to_async(done)()
