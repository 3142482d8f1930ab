"""What comes of a batch: a line for each line of its input, in the order of the input. All functions block."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.batches.crypto import Damaged
from gateway.batches.files import FileStore, FileWriter, NotThere
from gateway.batches.journal import Answer, Journal
from gateway.batches.lines import Line, Task, read
from gateway.batches.objects import BatchRecord, BatchStatus, Counts, LineError, Purpose

JOURNAL: Final = "journal"
_NOT_RUN: Final = {
    BatchStatus.EXPIRED: LineError(
        code="batch_expired",
        message="This request could not be executed before the completion window expired.",
    ),
    BatchStatus.CANCELLED: LineError(
        code="batch_cancelled", message="This request was not run because the batch was cancelled."
    ),
}


def answered(line: Line, task: Task, request_id: str, status: int, body: bytes) -> Answer:
    """Make the output line of a request that was answered, whatever the answer is."""
    response = {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)}
    return Answer(line.number, status == 200, _line(task, response=response, error=None))


def write(
    record: BatchRecord,
    *,
    files: FileStore,
    journal: Journal,
    source: Callable[[], Iterator[Line]],
    keep_s: float,
) -> BatchRecord:
    """Write the output file and the error file of a batch, those that have lines; may be repeated after a crash.

    ``source`` gives the lines of the input. Gives the batch with its final counts and files.

    Raises:
        Damaged: the journal was changed since it was opened.
        OSError: the disk is full or broken.
    """
    assert record.output_file_id is not None
    assert record.error_file_id is not None
    output = _Sink(files, record, record.output_file_id, keep_s=keep_s)
    failures = _Sink(files, record, record.error_file_id, keep_s=keep_s)
    try:
        for answer in _answers(record, journal, source):
            (output if answer.ok else failures).write(answer.content + b"\n")
    except BaseException:
        output.abandon()
        failures.abandon()
        raise
    return msgspec.structs.replace(
        record,
        output_file_id=output.finish(f"{record.id}_output.jsonl"),
        error_file_id=failures.finish(f"{record.id}_error.jsonl"),
        counts=Counts(total=record.counts.total, completed=output.lines, failed=failures.lines),
    )


def remove_journal(folder: Path) -> None:
    """Remove the journal of the batch in ``folder``, whose answers are in its files."""
    (folder / JOURNAL).unlink(missing_ok=True)


def _answers(record: BatchRecord, journal: Journal, source: Callable[[], Iterator[Line]]) -> Iterator[Answer]:
    last = 0
    # An input that was deleted can tell no more which lines were not run; those that were run stay.
    with contextlib.suppress(NotThere, Damaged):
        for line in source():
            last = line.number
            yield journal.read(last) if last in journal else _not_run(record, line)
    for number in journal.numbers():
        if number > last:
            yield journal.read(number)


def _not_run(record: BatchRecord, line: Line) -> Answer:
    assert record.ending is not None
    why = _NOT_RUN.get(record.ending) or record.secrets.errors[-1]
    error = {"code": why.code, "message": why.message}
    return Answer(line.number, False, _line(read(line), response=None, error=error))


def _line(task: Task, *, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    return msgspec.json.encode(
        {
            "id": f"batch_req_{secrets.token_hex(12)}",
            "custom_id": task.custom_id,
            "response": response,
            "error": error,
        }
    )


class _Sink:
    """A file that is made with its first line."""

    def __init__(self, files: FileStore, record: BatchRecord, file_id: str, *, keep_s: float) -> None:
        self._files = files
        self._record = record
        self._id = file_id
        self._keep_s = keep_s
        self._writer: FileWriter | None = None
        self.lines = 0

    def write(self, content: bytes) -> None:
        if self._writer is None:
            self._writer = self._files.write(
                self._record.party, Purpose.BATCH_OUTPUT, keep_s=self._keep_s, file_id=self._id
            )
        self._writer.write(content)
        self.lines += 1

    def finish(self, name: str) -> str | None:
        return self._writer.finish(name).id if self._writer is not None else None

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
