"""The spool: one durable file per cut, from the cut until the control plane has acknowledged it.

A cut's file carries its segments and the state after it (log position, next sequence, totals), so that
one rename commits all of it. Acknowledging the newest cut of a batch renames it to ``shipped.json``, which
keeps that state when the spool is empty.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Final

import msgspec

from gateway.contract import Refused, UsageSegment
from gateway.files import replace_durably, sync_folder, write_atomically
from gateway.metering.log import Position
from gateway.metering.records import Totals

_log = logging.getLogger(__name__)

_SHIPPED: Final = "shipped.json"
BATCH_SEGMENTS: Final = 1_000
_BATCH_CUTS: Final = 500


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What one cut took from the log, and the state it left.

    ``totals`` sum all cuts so far by outcome, ``days`` those of the last days by UTC day, ``charges`` what was settled
    of windows of budgets that ended lately or run, in smallest units as decimal strings.
    """

    number: int = 0
    segments: tuple[UsageSegment, ...] = ()
    next_sequence: int = 1
    position: Position = Position()
    totals: dict[str, Totals] = {}
    days: dict[str, Totals] = {}
    charges: dict[str, str] = {}


_decode = msgspec.json.Decoder(Cut).decode


class Spool:
    """The spool of one gateway, recovered from ``folder``. Its methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "spool"
        self._refused = folder / "refused"
        self._shipped_path = folder / _SHIPPED
        for path in (self._folder, self._refused):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.shipped, cuts = read_spool(folder)
        for stale in cut_files(self._folder):
            if stale <= self.shipped.number:
                self._path(stale).unlink()
        self._lock = threading.Lock()
        self._pending = {cut.number: len(cut.segments) for cut in cuts}
        self.last = cuts[-1] if cuts else self.shipped

    @property
    def segments_pending(self) -> int:
        """Segments that wait to be acknowledged."""
        with self._lock:
            return sum(self._pending.values())

    def add(self, cut: Cut) -> None:
        """Commit a cut: once this returns, its records are never counted again."""
        write_atomically(self._path(cut.number), msgspec.json.encode(cut))
        with self._lock:
            self._pending[cut.number] = len(cut.segments)
            self.last = cut

    def next_batch(self) -> list[Cut]:
        """Give the oldest cuts, as many as fit one batch; none if nothing waits.

        A single cut that is larger than a batch comes alone.
        """
        numbers: list[int] = []
        size = 0
        with self._lock:
            for number, segments in self._pending.items():
                size += segments
                if numbers and (size > BATCH_SEGMENTS or len(numbers) >= _BATCH_CUTS):
                    break
                numbers.append(number)
            return [_decode(self._path(number).read_bytes()) for number in numbers]

    def acknowledge(self, cuts: list[Cut]) -> None:
        """Forget ``cuts``, which :meth:`next_batch` gave: the control plane has them. May be repeated."""
        newest = cuts[-1]
        with self._lock:
            if newest.number > self.shipped.number:
                replace_durably(self._path(newest.number), self._shipped_path)
                self.shipped = newest
            for cut in cuts:
                self._pending.pop(cut.number, None)
                self._path(cut.number).unlink(missing_ok=True)
            sync_folder(self._folder)

    def refuse(self, segment: UsageSegment, refusal: Refused) -> None:
        """Put a segment that the control plane will never take aside, for people to look at."""
        _log.error(
            "the control plane refused usage segment %d of tenant %s, day %s, %d requests: %s",
            segment.sequence, segment.tenant_id, segment.day, segment.requests, refusal.reason,
        )  # fmt: skip
        write_atomically(
            self._refused / f"{segment.sequence:012d}.json",
            msgspec.json.encode({"reason": refusal.reason, "segment": segment}),
        )

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.json"


def cut_files(folder: Path) -> dict[int, Path]:
    """Give the cut files of a spool by number, in order."""
    return {int(path.stem): path for path in sorted(folder.glob("*.json")) if path.stem.isdigit()}


def read_spool(folder: Path) -> tuple[Cut, list[Cut]]:
    """Read the last acknowledged cut and those that wait, in order, without changing anything."""
    try:
        shipped = _decode((folder / _SHIPPED).read_bytes())
    except FileNotFoundError:
        shipped = Cut()
    waiting = [
        _decode(path.read_bytes())
        for number, path in cut_files(folder / "spool").items()
        if number > shipped.number
    ]
    return shipped, waiting


def remove_log_files(files: dict[int, Path], *, before: int) -> None:
    """Remove the log files numbered below ``before``, whose records are all acknowledged."""
    for number, path in files.items():
        if number < before:
            os.unlink(path)
