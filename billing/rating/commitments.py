"""What committed GPUs cover of what was held: a sweep over the moments at which either changes."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Generic, TypeVar


class CommitmentError(ValueError):
    """A commitment or a holding that cannot be right; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commitment:
    """``gpus`` devices of a type, in one region or (None) in any, paid at ``rate`` per GPU-hour from start to end."""

    id: str
    gpu_type: str
    region: str | None
    gpus: int
    rate: Decimal
    start: dt.datetime
    end: dt.datetime

    def __post_init__(self) -> None:
        _require(f"commitment {self.id}", self.gpus, self.start, self.end)
        if not self.rate.is_finite() or self.rate < 0:
            raise CommitmentError(f"commitment {self.id}: {self.rate} is not a rate of 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holding:
    """``gpus`` devices held from start to end. ``key`` says what the answer must tell apart; many may share one."""

    key: Hashable
    gpu_type: str
    region: str
    gpus: int
    start: dt.datetime
    end: dt.datetime

    def __post_init__(self) -> None:
        _require(f"holding {self.key}", self.gpus, self.start, self.end)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Covered:
    """GPU-seconds of a key that a commitment paid for, evenly from start to end."""

    key: Hashable
    commitment_id: str
    start: dt.datetime
    end: dt.datetime
    gpu_seconds: Fraction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overflow:
    """GPU-seconds of a key beyond every commitment, evenly from start to end."""

    key: Hashable
    start: dt.datetime
    end: dt.datetime
    gpu_seconds: Fraction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unused:
    """GPU-seconds of a commitment that nobody held, evenly from start to end; they are paid all the same."""

    commitment_id: str
    start: dt.datetime
    end: dt.datetime
    gpu_seconds: Fraction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coverage:
    """Where held and committed GPU time went; each tuple in order of time, then of what it is about."""

    covered: tuple[Covered, ...]
    overflow: tuple[Overflow, ...]
    unused: tuple[Unused, ...]


def cover(
    holdings: Iterable[Holding], commitments: Iterable[Commitment], start: dt.datetime, end: dt.datetime
) -> Coverage:
    """Split what was held in ``[start, end)`` into what commitments cover and what is beyond them. Exact.

    At each instant a commitment covers ``min(its gpus, held)`` of its GPU type and region, spread over
    what is held in proportion to GPUs. Several are used in order: one for a region before one for any,
    then by start, then by id. Neither the order of the arguments nor cutting an interval or a number of
    GPUs into parts changes the answer. Keys are put in order by their ``repr``.

    Raises:
        CommitmentError: two commitments have one id, or the period is no period.
    """
    _require("the period", 0, start, end)
    sweeps: defaultdict[str, _Sweep] = defaultdict(lambda: _Sweep(start, end))
    ids: set[str] = set()
    for commitment in commitments:
        if commitment.id in ids:
            raise CommitmentError(f"two commitments have the id {commitment.id}")
        ids.add(commitment.id)
        sweeps[commitment.gpu_type].commit(commitment)
    for holding in holdings:
        sweeps[holding.gpu_type].hold(holding)
    done = [sweeps[gpu_type] for gpu_type in sorted(sweeps)]
    for sweep in done:
        sweep.run()
    return Coverage(
        covered=tuple(sorted((each for sweep in done for each in sweep.covered), key=_covered_order)),
        overflow=tuple(sorted((each for sweep in done for each in sweep.overflow), key=_overflow_order)),
        unused=tuple(sorted((each for sweep in done for each in sweep.unused), key=_unused_order)),
    )


_Place = tuple[Hashable, str]
_Key = TypeVar("_Key", bound=Hashable)


class _Runs(Generic[_Key]):
    """Rates in GPUs that hold for a while: a run ends when its rate changes, not at every moment looked at."""

    def __init__(self, ended: Callable[[_Key, dt.datetime, dt.datetime, Fraction], None]) -> None:
        self._ended = ended
        self._open: dict[_Key, tuple[dt.datetime, Fraction]] = {}

    def go_on(self, moment: dt.datetime, rates: Mapping[_Key, Fraction]) -> None:
        """Take ``rates`` to hold from ``moment`` on; what is absent or 0 has ended."""
        for key, (since, rate) in list(self._open.items()):
            if rates.get(key) != rate:
                del self._open[key]
                self._ended(key, since, moment, rate * _seconds(moment - since))
        for key, rate in rates.items():
            if rate and key not in self._open:
                self._open[key] = (moment, rate)


class _Sweep:
    """One GPU type from start to end."""

    def __init__(self, start: dt.datetime, end: dt.datetime) -> None:
        self.covered: list[Covered] = []
        self.overflow: list[Overflow] = []
        self.unused: list[Unused] = []
        self._start, self._end = start, end
        self._holds: defaultdict[dt.datetime, list[tuple[_Place, int]]] = defaultdict(list)
        self._commits: defaultdict[dt.datetime, list[tuple[Commitment, bool]]] = defaultdict(list)

    def commit(self, commitment: Commitment) -> None:
        first, last = max(self._start, commitment.start), min(self._end, commitment.end)
        if first < last:
            self._commits[first].append((commitment, True))
            self._commits[last].append((commitment, False))

    def hold(self, holding: Holding) -> None:
        first, last = max(self._start, holding.start), min(self._end, holding.end)
        if first < last:
            place = (holding.key, holding.region)
            self._holds[first].append((place, holding.gpus))
            self._holds[last].append((place, -holding.gpus))

    def run(self) -> None:
        covered = _Runs(self._covered)
        overflow = _Runs(self._overflow)
        unused = _Runs(self._unused)
        held: defaultdict[_Place, int] = defaultdict(int)
        active: dict[str, Commitment] = {}
        for moment in sorted({*self._holds, *self._commits}):
            for place, gpus in self._holds.get(moment, ()):
                held[place] += gpus
                if not held[place]:
                    del held[place]
            for commitment, begins in self._commits.get(moment, ()):
                if begins:
                    active[commitment.id] = commitment
                else:
                    del active[commitment.id]
            taken, left, over = _instant(held, sorted(active.values(), key=_commitment_order))
            covered.go_on(moment, taken)
            overflow.go_on(moment, left)
            unused.go_on(moment, over)

    def _covered(
        self, key: tuple[Hashable, str], start: dt.datetime, end: dt.datetime, gpu_seconds: Fraction
    ) -> None:
        self.covered.append(
            Covered(key=key[0], commitment_id=key[1], start=start, end=end, gpu_seconds=gpu_seconds)
        )

    def _overflow(self, key: Hashable, start: dt.datetime, end: dt.datetime, gpu_seconds: Fraction) -> None:
        self.overflow.append(Overflow(key=key, start=start, end=end, gpu_seconds=gpu_seconds))

    def _unused(self, key: str, start: dt.datetime, end: dt.datetime, gpu_seconds: Fraction) -> None:
        self.unused.append(Unused(commitment_id=key, start=start, end=end, gpu_seconds=gpu_seconds))


def _instant(
    held: Mapping[_Place, int], commitments: Iterable[Commitment]
) -> tuple[dict[tuple[Hashable, str], Fraction], dict[Hashable, Fraction], dict[str, Fraction]]:
    """Give the GPUs covered by key and commitment, left over by key, and unused by commitment."""
    left = {place: Fraction(gpus) for place, gpus in held.items()}
    covered: defaultdict[tuple[Hashable, str], Fraction] = defaultdict(Fraction)
    unused: dict[str, Fraction] = {}
    for commitment in commitments:
        fitting = [place for place, gpus in left.items() if gpus and commitment.region in (None, place[1])]
        total = sum((left[place] for place in fitting), Fraction(0))
        taken = min(total, Fraction(commitment.gpus))
        unused[commitment.id] = commitment.gpus - taken
        for place in fitting:
            part = left[place] * taken / total
            covered[place[0], commitment.id] += part
            left[place] -= part
    beyond: defaultdict[Hashable, Fraction] = defaultdict(Fraction)
    for (key, _), gpus in left.items():
        beyond[key] += gpus
    return covered, beyond, unused


def _commitment_order(commitment: Commitment) -> tuple[bool, dt.datetime, str]:
    return commitment.region is None, commitment.start, commitment.id


def _covered_order(each: Covered) -> tuple[dt.datetime, str, str]:
    return each.start, repr(each.key), each.commitment_id


def _overflow_order(each: Overflow) -> tuple[dt.datetime, str]:
    return each.start, repr(each.key)


def _unused_order(each: Unused) -> tuple[dt.datetime, str]:
    return each.start, each.commitment_id


def _seconds(length: dt.timedelta) -> Fraction:
    return Fraction(length // dt.timedelta(microseconds=1), 1_000_000)


def _require(what: str, gpus: int, start: dt.datetime, end: dt.datetime) -> None:
    if start.tzinfo is None or end.tzinfo is None:
        raise CommitmentError(f"{what}: its times need a time zone")
    if end < start:
        raise CommitmentError(f"{what}: it cannot end at {end.isoformat()}, before {start.isoformat()}")
    if gpus < 0:
        raise CommitmentError(f"{what}: {gpus} GPUs are fewer than none")
