"""The meter: takes records on the hot path, and cuts them into the spool beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway.files import folder_instance
from gateway.metering.log import UsageLog, log_files, read_log
from gateway.metering.records import Totals, UsageRecord, add_charges, add_days, count_segments
from gateway.metering.spool import Cut, Spool, remove_log_files

_log = logging.getLogger(__name__)
_SYNC_S: Final = 0.5


class Meter:
    """Usage log and spool of one gateway. One process at a time may hold a ``folder``.

    Making one cuts what an earlier process left uncut. ``identity`` is what segments call their
    gateway: its name and the folder's instance, because sequences begin again in a new folder. ``start`` is a number
    that grows with every start on the folder.
    """

    def __init__(self, folder: Path, *, gateway: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.identity = f"{gateway}/{folder_instance(folder)}"
        self._log_folder = folder / "log"
        self.spool = Spool(folder)
        self._log = UsageLog(self._log_folder, taken=self.spool.last.position.file)
        self.start = self._log.number
        self._unsynced = False
        self._uncut = True
        self.writable = True
        self._cutting = threading.Lock()
        self.cut_now()

    def append(self, record: UsageRecord) -> None:
        """Make the record safe from the end of this process.

        Raises:
            OSError: the log cannot be written.
        """
        try:
            self._log.append(record)
        except OSError:
            self.writable = False
            raise
        self.writable = self._unsynced = self._uncut = True

    def charges(self) -> dict[str, int]:
        """Give what was settled so far of each window of a budget, as of the last cut."""
        return {window: int(units) for window, units in self.spool.last.charges.items()}

    async def cut(self) -> bool:
        """Cut what is new in the log into the spool. Says whether there was anything."""
        if not self._uncut:
            return False
        self._uncut = False
        try:
            self._log.rotate_if_large()
            return await asyncio.to_thread(self.cut_now)
        except BaseException:
            self._uncut = True
            raise

    async def run(self, *, window_s: float, on_cut: Callable[[], None]) -> None:
        """Cut every ``window_s`` seconds, sync and try a log that cannot be written more often, until cancelled."""
        loop = asyncio.get_running_loop()
        next_cut = loop.time() + window_s
        while True:
            await asyncio.sleep(max(0.0, min(_SYNC_S, next_cut - loop.time())))
            if not self.writable:
                self._probe()
            try:
                if self._unsynced:
                    self._unsynced = False
                    await asyncio.to_thread(self._log.sync)
                if loop.time() >= next_cut:
                    next_cut = loop.time() + window_s
                    if await self.cut():
                        on_cut()
            except OSError:
                self._unsynced = True
                _log.exception("the usage log cannot be synced or cut; trying again")

    def _probe(self) -> None:
        # While it is not ready nobody asks this gateway, so that no request would find out.
        with contextlib.suppress(OSError):
            self._log.probe()
            self.writable = True

    def remove_shipped(self) -> None:
        """Remove log files whose records are all acknowledged."""
        remove_log_files(log_files(self._log_folder), before=self.spool.shipped.position.file)

    async def close(self) -> None:
        """Cut what is left and stop taking records."""
        with contextlib.suppress(OSError):
            await self.cut()
        self._log.close()

    def cut_now(self) -> bool:
        """Cut what is new, in the calling thread. Says whether there was anything."""
        # A cut whose caller was cancelled goes on in its thread; the next one waits here for it.
        with self._cutting:
            return self._cut_from_last()

    def _cut_from_last(self) -> bool:
        changed = False
        start, active = self.spool.last.position, self._log.number
        for records, position in read_log(self._log_folder, start, active=active):
            last = self.spool.last
            segments = count_segments(records, gateway=self.identity, first_sequence=last.next_sequence)
            totals = {outcome: msgspec.structs.replace(sums) for outcome, sums in last.totals.items()}
            for segment in segments:
                totals.setdefault(segment.outcome.value, Totals()).add(segment)
            self.spool.add(
                Cut(
                    number=last.number + 1,
                    segments=segments,
                    next_sequence=last.next_sequence + len(segments),
                    position=position,
                    totals=totals,
                    days=add_days(last.days, records),
                    charges=add_charges(last.charges, records, now=time.time()),
                )
            )
            changed = True
        return changed
