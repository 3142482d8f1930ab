"""The lines of a batch that are still to be asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from gateway.batches.journal import Journal
from gateway.batches.lines import Line

_READ_BYTES: Final = 256 * 1024
#: Refused lines that wait; while there are fewer, the next new line is asked before they are again.
_MOST_WAITING: Final = 32


class LineQueue:
    """Reads an input little by little. ``source`` opens it; what it raises comes from :meth:`next`."""

    def __init__(self, source: Callable[[], Iterator[Line]]) -> None:
        self._source = source
        self._fresh: Iterator[Line] | None = None
        self._read: deque[Line] = deque()
        self._refused: deque[Line] = deque()

    async def next(self, journal: Journal) -> Line | None:
        """Give the line to be asked next, None where all are in flight or in ``journal``.

        Raises:
            NotThere: the input was deleted.
            Damaged: the input was changed.
        """
        # After a refusal another line goes first: the refused one may be too large ever to be let in.
        if len(self._refused) < _MOST_WAITING:
            if not self._read:
                self._read.extend(await asyncio.to_thread(self._read_some, journal))
            if self._read:
                return self._read.popleft()
        return self._refused.popleft() if self._refused else None

    def put_back(self, line: Line) -> None:
        """Take a line back that was not answered."""
        self._refused.append(line)

    def _read_some(self, journal: Journal) -> list[Line]:
        """Read some lines that were not answered before this run."""
        if self._fresh is None:
            self._fresh = self._source()
        found, size = [], 0
        for line in self._fresh:
            if line.number not in journal:
                found.append(line)
                size += len(line.content)
                if size >= _READ_BYTES:
                    break
        return found
