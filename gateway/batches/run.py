"""One batch, from the checking of its input to its output files, by the gateway that holds its claim."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from gateway import errors, keys
from gateway.batches import lines, outputs
from gateway.batches.batches import Claim
from gateway.batches.crypto import Damaged
from gateway.batches.files import NotThere
from gateway.batches.journal import Answer, Journal
from gateway.batches.line_queue import LineQueue
from gateway.batches.objects import DAY_S, BatchRecord, BatchStatus, Counts, LineError, new_file_id
from gateway.batches.pace import Pace
from gateway.batches.workshop import Workshop
from gateway.contract import BATCH_CLASS
from gateway.directory import Directory

_log = logging.getLogger(__name__)
#: How often a batch looks whether it was cancelled, its input deleted, or its window has ended.
TICK_S: Final = 0.5
_PROGRESS_S: Final = 1.0
#: From this refusal in a row on, or when it is waited so long after one, clients are shown what holds their batch up.
_SHOWN_FROM: Final = 3
_SHOWN_S: Final = 5.0

#: No room, nothing ready, a budget that is spent; or a key that was lost, which the next look finds out.
_LATER: Final = (401, 429, 503)


class _Ending(NamedTuple):
    status: BatchStatus
    error: LineError | None = None


class Run:
    """Owns ``claim`` from its making on. :meth:`wake` it after a cancellation; :meth:`stop` ends it early."""

    def __init__(self, shop: Workshop, record: BatchRecord, claim: Claim) -> None:
        self.record = self._kept = record
        self._shop = shop
        self._claim = claim
        self._wake = asyncio.Event()
        self._stopping = False
        self._ending: _Ending | None = None
        self._pace = Pace(most=shop.most_in_flight, clock=time.monotonic, rng=shop.rng)
        self._queue = LineQueue(self._lines)
        self._tasks: dict[asyncio.Task[Answer | errors.ApiError | None], lines.Line] = {}
        self._refused_in_row = 0
        self._look_at = 0.0
        self._written_at = 0.0

    def wake(self) -> None:
        """Look now whether anything changed."""
        self._look_at = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Ask no more lines; those in flight are waited for, the rest is left for whoever claims it next."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Go on with the batch until it has ended or was stopped."""
        journal: Journal | None = None
        try:
            if self.record.status is BatchStatus.VALIDATING:
                await self._validate()
            if self.record.terminal:
                return
            journal = await asyncio.to_thread(self._open_journal)
            if self.record.status is BatchStatus.IN_PROGRESS:
                await self._work(journal)
            if self.record.status is BatchStatus.FINALIZING:
                await self._finalize(journal)
        finally:
            for task in self._tasks:
                task.cancel()
            if journal is not None:
                journal.close()
            self._claim.release()

    def _open_journal(self) -> Journal:
        path = self._shop.batches.folder(self.record) / outputs.JOURNAL
        return Journal(path, key=self.record.secrets.journal_key, batch_id=self.record.id)

    async def _write(self, record: BatchRecord) -> None:
        self.record = self._kept = record
        self._written_at = time.monotonic()
        await asyncio.to_thread(self._shop.batches.write, record)

    # Checking

    async def _validate(self) -> None:
        shop, record, now = self._shop, self.record, self._shop.clock
        if await asyncio.to_thread(shop.batches.cancelling_at, record) is not None:
            await self._write(record.moved(BatchStatus.CANCELLED, now()))
            return
        try:
            async with shop.heavy:
                checked = await asyncio.to_thread(self._check)
            self._require_model(checked.model)
        except lines.BadLines as bad:
            await self._write(record.moved(BatchStatus.FAILED, now()).with_errors(*bad.errors))
        except (NotThere, Damaged) as error:
            await self._write(record.moved(BatchStatus.FAILED, now()).with_errors(_input_lost(error)))
        else:
            counts = Counts(total=checked.lines)
            await self._write(
                record.moved(BatchStatus.IN_PROGRESS, now(), counts=counts, model=checked.model)
            )

    def _check(self) -> lines.Checked:
        return lines.check(self._lines(), endpoint=self.record.endpoint)

    def _require_model(self, model: str) -> None:
        directory = self._shop.directory()
        lost = self._key_lost(directory)
        if lost is not None:
            raise lines.BadLines(lost)
        assert directory is not None
        key = directory.keys_by_id[self.record.key_id]
        try:
            route = directory.named_routes(key).get(model)
            target = route.route_id if route else directory.endpoint(key, model).endpoint_id
            keys.require_target(key, target, model)
        except errors.ApiError as error:
            raise lines.BadLines(
                LineError(code=error.code or "model_not_found", message=error.message, param="body.model")
            ) from error

    def _lines(self) -> Iterator[lines.Line]:
        shop, record = self._shop, self.record
        source = shop.files.get(record.party, record.input_file_id)
        return lines.cut(shop.files.chunks(source), longest=shop.line_bytes)

    # Running

    async def _work(self, journal: Journal) -> None:
        while True:
            exhausted = False
            await self._look()
            while self._may_ask():
                line = await self._next(journal)
                exhausted = line is None
                if line is None:
                    break
                self._tasks[asyncio.create_task(self._ask(line))] = line
            if not self._tasks and (self._ending or self._stopping or exhausted):
                break
            await self._wait()
            await self._collect(journal)
        if self._ending is None and not exhausted:
            await self._progress(journal)
            return
        self.record = self._counted(journal)
        await self._end(self._ending or _Ending(BatchStatus.COMPLETED))

    def _may_ask(self) -> bool:
        return (
            not self._stopping
            and self._ending is None
            and len(self._tasks) < self._pace.limit
            and not self._pace.closed_s()
        )

    async def _look(self) -> None:
        """Find out whether the batch has to end before all lines are run."""
        if self._ending is not None:
            return
        if self._shop.clock() >= self.record.deadline:
            self._ending = _Ending(BatchStatus.EXPIRED)
        elif lost := self._key_lost(self._shop.directory()):
            self._ending = _Ending(BatchStatus.FAILED, lost)
        elif time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + TICK_S
            self._ending = await asyncio.to_thread(self._look_at_disk)

    def _look_at_disk(self) -> _Ending | None:
        shop, record = self._shop, self.record
        if shop.batches.cancelling_at(record) is not None:
            return _Ending(BatchStatus.CANCELLED)
        try:
            shop.files.get(record.party, record.input_file_id)
        except (NotThere, Damaged) as error:
            return _Ending(BatchStatus.FAILED, _input_lost(error))
        return None

    def _key_lost(self, directory: Directory | None) -> LineError | None:
        """Say why the batch's key may not be used, None if it may."""
        if directory is None:
            return None
        key = directory.keys_by_id.get(self.record.key_id)
        if key is None:
            message = "The API key that made this batch was revoked."
            return LineError(code="api_key_revoked", message=message)
        try:
            keys.require_current(key, now=dt.datetime.fromtimestamp(self._shop.clock(), dt.UTC))
        except errors.ApiError as error:
            return LineError(code=error.code or "expired_api_key", message=error.message)
        return None

    async def _next(self, journal: Journal) -> lines.Line | None:
        try:
            return await self._queue.next(journal)
        except (NotThere, Damaged) as error:
            self._ending = _Ending(BatchStatus.FAILED, _input_lost(error))
            return None

    async def _ask(self, line: lines.Line) -> Answer | errors.ApiError | None:
        """Ask one line. Gives its answer, or why it has to be asked later, or None if it was not asked."""
        shop = self._shop
        task = lines.read(line)
        request_id = os.urandom(12).hex()
        async with shop.slots:
            directory = shop.directory()
            key = directory.keys_by_id.get(self.record.key_id) if directory else None
            if self._stopping or self._ending is not None or key is None:
                return None
            try:
                body = await shop.complete(
                    key=key,
                    content=bytes(task.body),
                    read=shop.asked[self.record.endpoint].read,
                    verb=shop.asked[self.record.endpoint].verb,
                    request_id=request_id,
                    slo_class=BATCH_CLASS,
                )
            except errors.ApiError as error:
                if _for_later(error):
                    return error
                return outputs.answered(line, task, request_id, error.status, error.body())
        return outputs.answered(line, task, request_id, 200, body)

    async def _wait(self) -> None:
        """Wait until a line is answered, the batch is woken, or it is time to look again."""
        closed_s = self._pace.closed_s()
        waking = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait(
                {*self._tasks, waking},
                timeout=min(TICK_S, closed_s or TICK_S),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            waking.cancel()
        self._wake.clear()

    async def _collect(self, journal: Journal) -> None:
        """Make the answers that came durable, and put lines that have to be asked again back."""
        answers: list[tuple[Answer, lines.Line]] = []
        for task in [task for task in self._tasks if task.done()]:
            line = self._tasks.pop(task)
            result = None if task.cancelled() else task.result()
            if isinstance(result, Answer):
                answers.append((result, line))
                continue
            self._queue.put_back(line)
            if result is not None:
                self._refused(result)
        if answers:
            await self._store(journal, answers)
        if time.monotonic() >= self._written_at + _PROGRESS_S:
            await self._progress(journal)

    def _refused(self, error: errors.ApiError) -> None:
        self._shop.metrics.batch_lines("again").inc()
        self._refused_in_row += 1
        self._pace.refused(error.retry_after_s)
        if self._refused_in_row >= _SHOWN_FROM or self._pace.closed_s() > _SHOWN_S:
            if not self.record.secrets.errors:
                _log.info("batch %s waits: %s", self.record.id, error.code)
            held_up = LineError(code=error.code or "refused", message=error.message)
            self.record = self.record.with_errors(held_up)

    async def _store(self, journal: Journal, answers: list[tuple[Answer, lines.Line]]) -> None:
        try:
            await asyncio.to_thread(journal.append, [answer for answer, _ in answers])
        except OSError as error:
            # They are asked, and metered, again: what is not on disk was not answered.
            _log.error("batch %s: %d answers cannot be kept: %s", self.record.id, len(answers), error)
            for _, line in answers:
                self._queue.put_back(line)
            full = errors.not_ready(
                "The gateway's disk takes no answers.", code="storage_full", retry_after_s=5
            )
            self._refused(full)
            return
        for answer, _ in answers:
            self._shop.metrics.batch_lines("completed" if answer.ok else "failed").inc()
            self._pace.answered()
        if self.record.secrets.errors:
            self.record = self.record.with_errors()
        self._refused_in_row = 0

    async def _progress(self, journal: Journal) -> None:
        record = self._counted(journal)
        if record != self._kept:
            await self._write(record)

    def _counted(self, journal: Journal) -> BatchRecord:
        counts = Counts(total=self.record.counts.total, completed=journal.completed, failed=journal.failed)
        return msgspec.structs.replace(self.record, counts=counts)

    # Ending

    async def _end(self, ending: _Ending) -> None:
        if ending.error is not None:
            self.record = self.record.with_errors(ending.error)
        await self._write(
            self.record.moved(
                BatchStatus.FINALIZING,
                self._shop.clock(),
                ending=ending.status,
                output_file_id=new_file_id(),
                error_file_id=new_file_id(),
            )
        )

    async def _finalize(self, journal: Journal) -> None:
        shop = self._shop
        directory = shop.directory()
        assert directory is not None
        keep_s = directory.files_days(self.record.party.tenant_id) * DAY_S
        if self.record.keep_output_s is not None:
            keep_s = min(keep_s, self.record.keep_output_s)
        run = journal.completed + journal.failed
        async with shop.heavy:
            record = await asyncio.to_thread(
                outputs.write,
                self.record, files=shop.files, journal=journal, source=self._lines, keep_s=keep_s,
            )  # fmt: skip
        assert record.ending is not None
        await self._write(record.moved(record.ending, shop.clock()))
        await asyncio.to_thread(outputs.remove_journal, shop.batches.folder(record))
        counts = record.counts
        shop.metrics.batch_lines(record.ending.value).inc(counts.completed + counts.failed - run)
        _log.info("batch %s is %s: %s", record.id, record.ending.value, counts)


def _for_later(error: errors.ApiError) -> bool:
    """Say whether a refusal may be none later. One for a rate limit that names no time will always be one."""
    never = error.code == "rate_limit_exceeded" and error.retry_after_s is None
    return error.status in _LATER and not never


def _input_lost(error: NotThere | Damaged) -> LineError:
    if isinstance(error, NotThere):
        return LineError(
            code="input_file_deleted", message="The input file was deleted.", param="input_file_id"
        )
    return LineError(
        code="input_file_damaged", message=f"The input file cannot be read: {error}.", param="input_file_id"
    )
