"""The local usage log: numbered files of JSON lines, appended to by one process.

An append is one ``write`` to the kernel, so that killing the process loses nothing that was appended;
:meth:`UsageLog.sync` guards against the loss of the machine. Every start begins a new file, so that a
line torn by a crash stays the last of its file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.metering.records import UsageRecord

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(UsageRecord).decode

ROTATE_BYTES: Final = 16 * 1024 * 1024
READ_BYTES: Final = 4 * 1024 * 1024


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the log: everything before it is taken care of."""

    file: int = 0
    offset: int = 0


class UsageLog:
    """The writing end. Appends and rotation belong to one thread.

    The first file is numbered after every file in ``folder`` and after ``taken``, the last number in use.
    """

    def __init__(self, folder: Path, *, taken: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._number = max(taken, *log_files(folder), 0)
        self._descriptor = -1
        self._size = 0
        self._torn = False
        self._begin_file()

    @property
    def number(self) -> int:
        """The number of the file being written."""
        return self._number

    def append(self, record: UsageRecord) -> None:
        """Hand the record to the kernel.

        Raises:
            OSError: it could not be written; the record is not in the log.
        """
        line = _encode(record) + b"\n"
        if self._torn:
            line = b"\n" + line
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError:
            self._torn = self._torn or written > 0
            raise
        self._torn = False
        self._size += len(line)

    def probe(self) -> None:
        """See whether records can be written again, by an empty line, which is none.

        Raises:
            OSError: they cannot.
        """
        os.write(self._descriptor, b"\n")
        self._torn = False
        self._size += 1

    def rotate_if_large(self) -> None:
        """Begin a new file once the present one has grown enough."""
        if self._size >= ROTATE_BYTES:
            os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._begin_file()

    def sync(self) -> None:
        """Wait until what was appended is on disk. May run in a thread beside appends."""
        # A duplicate, because the other thread may rotate, which closes the descriptor.
        descriptor = os.dup(self._descriptor)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Stop writing."""
        os.close(self._descriptor)
        self._descriptor = -1

    def _begin_file(self) -> None:
        self._number += 1
        self._size = 0
        self._torn = False
        self._descriptor = os.open(
            self._folder / f"{self._number:012d}.jsonl",
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL,
            0o600,
        )


def log_files(folder: Path) -> dict[int, Path]:
    """Give the files of a log by number, in order."""
    return {int(path.stem): path for path in sorted(folder.glob("*.jsonl"))}


def read_log(
    folder: Path, start: Position, *, active: int | None
) -> Iterator[tuple[list[UsageRecord], Position]]:
    """Read the log from ``start`` in pieces, each with the position after it.

    ``active`` is the number of the file that is still being written, or None if none is. A last line
    without an end is left for later there; elsewhere it was torn by a crash, and is dropped aloud.
    """
    for number, path in log_files(folder).items():
        if number < start.file or (active is not None and number > active):
            continue
        offset = start.offset if number == start.file else 0
        with path.open("rb") as file:
            file.seek(offset)
            rest = b""
            while block := file.read(READ_BYTES):
                whole, end, rest = (rest + block).rpartition(b"\n")
                offset += len(whole) + len(end)
                if end:
                    yield _records(whole, path), Position(number, offset)
        if rest and number != active:
            _log.error("%s ends in a torn record of %d bytes; it is dropped", path, len(rest))
            yield [], Position(number, offset + len(rest))


def _records(lines: bytes, path: Path) -> list[UsageRecord]:
    records = []
    for line in lines.split(b"\n"):
        if line:
            try:
                records.append(_decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                _log.error("%s holds a record that cannot be read; it is dropped", path)
    return records
