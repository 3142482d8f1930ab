"""What a batch's lines were answered so far: appended to one encrypted file, each answer durable before it counts.

Each record is its length, the number of its line, and the sealed answer, which is bound to the batch, the line, and
the record's place in the journal. A record that a crash tore is dropped, and its line is asked again.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from gateway.batches.crypto import Cipher, Damaged

_log = logging.getLogger(__name__)
_HEAD: Final = struct.Struct(">IIB")  # bytes of the sealed answer, number of the line, whether it succeeded


class Answer(NamedTuple):
    """The output or error line that stands for line ``number`` of the input."""

    number: int
    ok: bool
    content: bytes


class _Place(NamedTuple):
    ok: bool
    offset: int
    record: int


class Journal:
    """Open it with the claim held. Reads what is there; :meth:`append` adds to it. Blocks."""

    def __init__(self, path: Path, *, key: bytes, batch_id: str) -> None:
        self._cipher = Cipher(key)
        self._batch = batch_id.encode()
        self._places: dict[int, _Place] = {}
        self._records = 0
        self.completed = self.failed = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._end = self._recover()

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def append(self, answers: Iterable[Answer]) -> None:
        """Make answers durable.

        Raises:
            OSError: they could not be written; none of them counts.
        """
        pieces: list[bytes] = []
        places: list[tuple[int, _Place]] = []
        offset = self._end
        for answer in answers:
            record = self._records + len(places)
            sealed = self._cipher.seal(
                answer.content, bound_to=self._binding(answer.number, answer.ok, record)
            )
            piece = _HEAD.pack(len(sealed), answer.number, answer.ok) + sealed
            places.append((answer.number, _Place(answer.ok, offset, record)))
            pieces.append(piece)
            offset += len(piece)
        content = memoryview(b"".join(pieces))
        written = self._end
        while content:
            count = os.pwrite(self._descriptor, content, written)
            content, written = content[count:], written + count
        os.fdatasync(self._descriptor)
        for number, place in places:
            self._count(number, place)
        self._end = offset

    def numbers(self) -> list[int]:
        """Give the numbers of the lines that were answered, in order."""
        return sorted(self._places)

    def read(self, number: int) -> Answer:
        """Give the answer of one line.

        Raises:
            Damaged: it was changed.
        """
        place = self._places[number]
        size, at, ok = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, place.offset))
        sealed = os.pread(self._descriptor, size, place.offset + _HEAD.size)
        content = self._cipher.open(sealed, bound_to=self._binding(at, bool(ok), place.record))
        return Answer(number, place.ok, content)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _count(self, number: int, place: _Place) -> None:
        self._places[number] = place
        self._records += 1
        if place.ok:
            self.completed += 1
        else:
            self.failed += 1

    def _recover(self) -> int:
        """Find what is there; give where the next record begins."""
        offset, size = 0, os.fstat(self._descriptor).st_size
        while offset < size:
            head = os.pread(self._descriptor, _HEAD.size, offset)
            length, number, ok = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0)
            whole = offset + _HEAD.size + length <= size
            sealed = os.pread(self._descriptor, length, offset + _HEAD.size) if whole else b""
            try:
                self._cipher.open(sealed, bound_to=self._binding(number, bool(ok), self._records))
            except Damaged:
                _log.warning("a batch's journal ends in %d bytes of a torn record", size - offset)
                os.ftruncate(self._descriptor, offset)
                break
            self._count(number, _Place(bool(ok), offset, self._records))
            offset += _HEAD.size + length
        return offset

    def _binding(self, number: int, ok: bool, record: int) -> bytes:
        return b"berth answer\0" + self._batch + struct.pack(">IBI", number, ok, record)
