"""Speaks with the ledger of the control plane: reports, asks, and hears of recalls by long poll."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

import aiohttp
import msgspec

from gateway.backoff import Backoff
from gateway.budgets.book import LeaseBook
from gateway.budgets.statement import Statement
from gateway.contract import LEASES_PATH, LeaseAnswer, LeaseReport

_log = logging.getLogger(__name__)
_answer = msgspec.json.Decoder(LeaseAnswer)
_ANSWER_S: Final = 3.0
#: Between two reports of figures that nobody waits for, while there is traffic and while there is none.
_BUSY_S: Final = 1.0
_IDLE_S: Final = 5.0
#: Between two reports that ask for another slice before one is missing.
_REMINDED_S: Final = 0.05
_LAST_S: Final = 2.0
_AWAY_S: Final = 1.0
#: Reports of one start: more than are sent in centuries, while starts are left more than files of the usage log.
_START_BITS: Final = 40


class LedgerAway(Exception):
    """The ledger gave no usable answer; the message says why."""


class Lessee:
    """Keeps the leases of one data folder, named ``identity``. ``session`` carries the gateway's token.

    ``start`` grows with every start on the folder, so that sequences do, whatever the clock says.

    One exchange at a time. A report is answered at once and never broken off; a poll, which tells nothing, is
    broken off as soon as there is something to report.
    """

    def __init__(
        self,
        book: LeaseBook,
        *,
        identity: str,
        start: int,
        session: aiohttp.ClientSession,
        control_plane_url: str,
    ) -> None:
        self._book = book
        self._identity = identity
        self._session = session
        self._url = control_plane_url + LEASES_PATH
        self._wake = asyncio.Event()
        self._urgent = self._reminded = False
        self._begins = True
        self._sequence = start << _START_BITS
        self._reported_at = float("-inf")
        self._failing_since: float | None = None
        self._backoff = Backoff(first_s=0.1, most_s=2.0)
        book.urge = self._urge
        book.remind = self._remind

    def _urge(self) -> None:
        self._urgent = True
        self._wake.set()

    def _remind(self) -> None:
        self._reminded = True
        self._wake.set()

    @property
    def is_away(self) -> bool:
        """Whether the ledger has not answered for so long that asking it is of no use."""
        return self._failing_since is not None and time.monotonic() - self._failing_since > _AWAY_S

    async def run(self) -> None:
        """Keep the leases until cancelled."""
        while True:
            try:
                await self._round()
            except LedgerAway as error:
                self._urgent = True
                delay = self._backoff.next()
                if self._failing_since is None:
                    # Once more at once: an idle connection may just have been closed.
                    self._failing_since, delay = time.monotonic(), 0.0
                _log.log(
                    logging.DEBUG if self.is_away else logging.WARNING,
                    "leases are not renewed, next try in %.1f s: %s", delay, error,
                )  # fmt: skip
                await asyncio.sleep(delay)

    async def close(self) -> None:
        """Give back what is not spent, so that other gateways may have it at once."""
        self._book.give_back()
        try:
            async with asyncio.timeout(_LAST_S):
                await self._report(self._book.statements(self._next_sequence()))
        except (LedgerAway, TimeoutError) as error:
            _log.warning(
                "the leases are not given back; the ledger counts them until the next start: %r", error
            )

    async def _round(self) -> None:
        clock = asyncio.get_running_loop().time
        self._wake.clear()
        since = clock() - self._reported_at
        pause = _REMINDED_S if self._reminded else _BUSY_S if self._book.is_busy else _IDLE_S
        if self._urgent or since >= pause:
            self._urgent = self._reminded = False
            self._reported_at = clock()
            if (statements := self._book.statements(self._next_sequence())) or self._begins:
                await self._report(statements)
            return
        await self._poll(pause - since)

    async def _report(self, statements: list[Statement]) -> None:
        lines = tuple(statement.line() for statement in statements)
        report = LeaseReport(
            gateway=self._identity, sequence=self._sequence, lines=lines, begins=self._begins
        )
        try:
            await self._post(report, wait_s=0.0)
        except BaseException:
            self._book.lost(statements)
            raise
        self._begins = False

    async def _poll(self, seconds: float) -> None:
        report = LeaseReport(gateway=self._identity, sequence=self._sequence, lines=())
        polling = asyncio.create_task(self._post(report, wait_s=seconds))
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({polling, waking}, return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                polling.result()
            else:
                self._book.lost()
        finally:
            for task in (polling, waking):
                task.cancel()
            await asyncio.gather(polling, waking, return_exceptions=True)

    async def _post(self, report: LeaseReport, *, wait_s: float) -> None:
        try:
            async with self._session.post(
                self._url,
                params={"wait": f"{wait_s:.3f}"},
                data=msgspec.json.encode(report),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=wait_s + _ANSWER_S, sock_connect=2.0),
                allow_redirects=False,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LedgerAway(f"it cannot be reached: {error!r}") from error
        if response.status != 200:
            raise LedgerAway(f"it answered {response.status}")
        try:
            self._book.heard(_answer.decode(body))
        except (ValueError, OverflowError) as error:
            raise LedgerAway(f"its answer does not follow the contract: {error}") from error
        if self.is_away:
            _log.info("the control plane answers for leases again")
        self._failing_since = None
        self._backoff.reset()

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence
