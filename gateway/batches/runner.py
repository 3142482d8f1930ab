"""Finds batches that nobody runs, runs them, and removes what has been kept long enough."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from typing import Final

from gateway.batches import outputs
from gateway.batches.batches import Claim
from gateway.batches.crypto import Damaged
from gateway.batches.files import NotThere
from gateway.batches.layout import Layout
from gateway.batches.objects import DAY_S, BatchRecord, BatchStatus, FileRecord
from gateway.batches.run import Run
from gateway.batches.workshop import Workshop
from gateway.directory import Directory

_log = logging.getLogger(__name__)
_SCAN_S: Final = 5.0
_SWEEP_S: Final = 3_600.0
#: Until a batch whose run broke, by a full disk for example, is taken up again.
_BROKEN_S: Final = 30.0
_MOST_RUNS: Final = 100


def kept_until(record: FileRecord | BatchRecord, days: float) -> float:
    """Say when a file or batch goes: as was promised at its making, sooner where its tenant now keeps fewer days."""
    return min(record.expires_at, record.created_at + days * DAY_S)


class BatchRunner:
    """Runs the batches of one process. ``layout`` is the folder that it may share with others."""

    def __init__(self, shop: Workshop, layout: Layout) -> None:
        self._shop = shop
        self._layout = layout
        self._runs: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._broken: dict[str, float] = {}
        self._stopping = False
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for batches and for what is to be removed."""
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        sweep_at = 0.0
        while not self._stopping:
            directory = self._shop.directory()
            if directory is not None:
                try:
                    if time.monotonic() >= sweep_at:
                        await asyncio.to_thread(self.sweep, directory)
                        sweep_at = time.monotonic() + _SWEEP_S
                    await self._take_up()
                except Exception:  # noqa: BLE001 - what one look met may not end all looking
                    _log.exception("batches cannot be looked for; trying again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SCAN_S if directory is not None else 0.2):
                    await self._wake.wait()
            self._wake.clear()

    def wake(self, batch_id: str) -> None:
        """Look now for a batch that was made or cancelled."""
        if batch_id in self._runs:
            self._runs[batch_id][0].wake()
        self._wake.set()

    def drain(self) -> None:
        """Take no more lines up; those in flight go on."""
        self._stopping = True
        self._wake.set()
        for run, _ in self._runs.values():
            run.stop()

    async def stop(self) -> None:
        """Wait until every run has kept what its lines were answered, and gave its claim up."""
        self.drain()
        if self._looking is not None:
            await self._looking
        await asyncio.gather(*(task for _, task in self._runs.values()), return_exceptions=True)

    def sweep(self, directory: Directory) -> None:
        """Remove what was kept long enough, and what crashes left behind. Blocks."""
        shop, now = self._shop, self._shop.clock()
        count = size = 0
        for tenant_id in self._layout.tenants():
            if self._stopping:
                return
            days = directory.files_days(tenant_id)
            for file in shop.files.of_tenant(tenant_id):
                if kept_until(file, days) <= now:
                    shop.files.delete(file)
                else:
                    count, size = count + 1, size + file.size
            for batch in shop.batches.of_tenant(tenant_id):
                if kept_until(batch, days) <= now:
                    self._remove(batch)
                elif batch.terminal:
                    outputs.remove_journal(shop.batches.folder(batch))
            shop.files.tidy(tenant_id, keep_s=days * DAY_S)
            shop.batches.tidy(tenant_id, keep_s=days * DAY_S)
        shop.metrics.files.set(count)
        shop.metrics.files_bytes.set(size)

    def _remove(self, batch: BatchRecord) -> None:
        claim = Claim.take(self._shop.batches.folder(batch))
        if claim is not None:
            # One that still runs has reached the end of its window, and goes with the next sweep.
            self._shop.batches.remove(batch)
            claim.release()

    async def _take_up(self) -> None:
        for record in await asyncio.to_thread(self._open_batches):
            if len(self._runs) >= _MOST_RUNS:
                return
            if record.id in self._runs or self._broken.get(record.id, 0.0) > time.monotonic():
                continue
            claimed = await asyncio.to_thread(self._claim, record)
            if claimed is not None and self._stopping:
                claimed[1].release()
            elif claimed is not None:
                run = Run(self._shop, *claimed)
                self._runs[record.id] = run, asyncio.create_task(self._supervise(record.id, run))

    async def _supervise(self, batch_id: str, run: Run) -> None:
        try:
            await run.run()
            self._broken.pop(batch_id, None)
        except NotThere:
            _log.info("batch %s was removed", batch_id)
        except Exception:  # noqa: BLE001 - one batch may not end the others
            _log.exception("the run of batch %s broke; it is taken up again in %g s", batch_id, _BROKEN_S)
            self._broken[batch_id] = time.monotonic() + _BROKEN_S
        finally:
            del self._runs[batch_id]
            self._wake.set()

    def _open_batches(self) -> list[BatchRecord]:
        """Give the batches that have not ended: in order of creation, each tenant's first before any's second."""
        found: list[tuple[int, float, BatchRecord]] = []
        states: Counter[BatchStatus] = Counter()
        for tenant_id in self._layout.tenants():
            batches = self._shop.batches.of_tenant(tenant_id)
            states.update(batch.status for batch in batches)
            mine = sorted(
                (batch for batch in batches if not batch.terminal), key=lambda each: each.created_at
            )
            found += [(rank, batch.created_at, batch) for rank, batch in enumerate(mine)]
        for status in BatchStatus:
            self._shop.metrics.batches(status.value).set(states[status])
        return [batch for _, _, batch in sorted(found, key=lambda each: each[:2])]

    def _claim(self, record: BatchRecord) -> tuple[BatchRecord, Claim] | None:
        claim = Claim.take(self._shop.batches.folder(record))
        if claim is None:
            return None
        # Whoever held it until now may have ended or removed the batch.
        with contextlib.suppress(NotThere, Damaged):
            now = self._shop.batches.get(record.party, record.id)
            if not now.terminal:
                return now, claim
        claim.release()
        return None
