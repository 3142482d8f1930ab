"""Whether a new revision is worse than the old one on the same traffic: plain functions on counts.

Nothing is decided by noise. Latencies are known by bucket only, so that an old revision's p95 counts as the upper edge
of the bucket in which it may lie, and of a new one's requests only those whose whole bucket lies above the limit are
counted as slower. What is worse by less than a bucket is not told from what is the same.

The score interval of a proportion is Wilson's (1927), that of a difference of two proportions Newcombe's (1998,
method 10, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I).
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from statistics import NormalDist
from typing import Any, Final

from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS

QUANTILE: Final = 0.95
#: One in a thousand looks at revisions that are the same may call the new one worse: it is looked at often.
CERTAIN: Final = NormalDist().inv_cdf(0.999)
#: How sure it is that the old revision's p95 is no higher than it is taken for.
LIKELY: Final = NormalDist().inv_cdf(0.95)
#: Of fewer requests nothing is said,
LEAST: Final = 20
#: but so many that failed are enough: gateways soon leave alone what fails.
LEAST_FAILURES: Final = 5
_MS: Final = 1000.0


class Finding(enum.StrEnum):
    """What was found of one criterion, or of all together."""

    KEPT = "kept"
    WORSE = "worse"
    TOO_FEW = "too-few"
    NOT_JUDGED = "not-judged"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What a revision served: requests that were answered, those that failed, tokens, and latencies by bucket.

    ``tried_again`` are requests that it failed and that were answered, or failed, somewhere else.
    """

    completed: int = 0
    failed: int = 0
    tried_again: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    ttft_ms: tuple[int, ...] = ()
    itl_ms: tuple[int, ...] = ()

    @property
    def failures(self) -> int:
        return self.failed + self.tried_again

    @property
    def requests(self) -> int:
        return self.completed + self.failures

    def since(self, earlier: Counts) -> Counts:
        """Give what came after ``earlier`` was counted."""
        return Counts(
            completed=max(0, self.completed - earlier.completed),
            failed=max(0, self.failed - earlier.failed),
            tried_again=max(0, self.tried_again - earlier.tried_again),
            input_tokens=max(0, self.input_tokens - earlier.input_tokens),
            output_tokens=max(0, self.output_tokens - earlier.output_tokens),
            ttft_ms=_less(self.ttft_ms, earlier.ttft_ms),
            itl_ms=_less(self.itl_ms, earlier.itl_ms),
        )

    def to_document(self) -> dict[str, Any]:
        """Give them as JSON-ready builtins."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Counts:
        """Read what :meth:`to_document` gave."""
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in document.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """What a second of one place in a replica's batch costs: its price over what it can serve at once.

    The planned times are those of the revision's plan, None where it has none.
    """

    price_per_hour: float
    places: int
    planned_ttft_p95_ms: float | None = None
    planned_itl_p95_ms: float | None = None
    planned_answer_ms: float | None = None

    @property
    def price_per_s(self) -> float:
        return self.price_per_hour / 3600 / max(1, self.places)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How much worse a new revision may be, None: not judged. ``requests`` of either are enough to tell."""

    requests: int
    ttft_factor: float | None = None
    itl_factor: float | None = None
    error_points: float | None = None
    cost_factor: float | None = None
    ttft_target_ms: float | None = None
    itl_target_ms: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Criterion:
    """One thing that was judged: the numbers of both, the limit that was kept to, and what was found.

    Latencies in milliseconds, errors in percent of requests, cost per million output tokens with full batches.
    """

    name: str
    old: float | None
    new: float | None
    limit: float | None
    finding: Finding
    told: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of a new revision: worse, if any criterion is; too few, until both had enough requests."""

    finding: Finding
    old_requests: int
    new_requests: int
    criteria: tuple[Criterion, ...]

    @property
    def why(self) -> str:
        """Say what is worse, with the numbers."""
        return " ".join(each.told for each in self.criteria if each.finding is Finding.WORSE)

    def to_document(self) -> dict[str, Any]:
        """Give it as JSON-ready builtins."""
        return {
            "finding": str(self.finding),
            "old_requests": self.old_requests,
            "new_requests": self.new_requests,
            "criteria": [
                {**dataclasses.asdict(each), "finding": str(each.finding)} for each in self.criteria
            ],
        }


def judge(
    old: Counts, new: Counts, tolerances: Tolerances, *, old_slot: Slot | None, new_slot: Slot | None
) -> Verdict:
    """Judge a new revision by what both served in the same time.

    What the plan said beforehand of how the new one differs was agreed to with its quote: limits are those times that.
    """
    criteria = (
        _latency(
            "ttft_p95_ms", old.ttft_ms, new.ttft_ms, LATENCY_BOUNDS_MS,
            factor=tolerances.ttft_factor, target=tolerances.ttft_target_ms,
            agreed=_agreed(old_slot, new_slot, "planned_ttft_p95_ms"),
        ),
        _latency(
            "itl_p95_ms", old.itl_ms, new.itl_ms, ITL_BOUNDS_MS,
            factor=tolerances.itl_factor, target=tolerances.itl_target_ms,
            agreed=_agreed(old_slot, new_slot, "planned_itl_p95_ms"),
        ),
        _errors(old, new, tolerances.error_points),
        _cost(old, new, tolerances.cost_factor, old_slot, new_slot),
    )  # fmt: skip
    if any(each.finding is Finding.WORSE for each in criteria):
        finding = Finding.WORSE
    elif min(old.requests, new.requests) < tolerances.requests:
        finding = Finding.TOO_FEW
    else:
        finding = Finding.KEPT
    return Verdict(finding=finding, old_requests=old.requests, new_requests=new.requests, criteria=criteria)


def wilson(hits: float, of: int, z: float) -> tuple[float, float]:
    """Give the score interval of a proportion of ``hits`` in ``of`` trials; (0, 1) without any."""
    if of == 0:
        return 0.0, 1.0
    share, square = hits / of, z * z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def surplus(hits_a: int, of_a: int, hits_b: int, of_b: int, z: float) -> float:
    """Give the least by which the proportion of a exceeds that of b (Newcombe), -1 where nothing is known."""
    if not of_a or not of_b:
        return -1.0
    a, b = hits_a / of_a, hits_b / of_b
    return a - b - math.hypot(a - wilson(hits_a, of_a, z)[0], wilson(hits_b, of_b, z)[1] - b)


def highest_p95(histogram: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Give the upper edge of the bucket in which the 95th percentile may lie at most; None if it may lie anywhere."""
    total, below = sum(histogram), 0
    for count, edge in zip(histogram, bounds, strict=False):
        below += count
        if below and wilson(below, total, LIKELY)[0] >= QUANTILE:
            return float(edge)
    return None


def surely_above(histogram: Sequence[int], limit: float, bounds: Sequence[float]) -> int:
    """Count the requests whose whole bucket lies at ``limit`` or above."""
    edges = (0.0, *map(float, bounds))
    return sum(count for count, lower in zip(histogram, edges, strict=False) if lower >= limit)


def quantile(histogram: Sequence[int], share: float, bounds: Sequence[float]) -> float | None:
    """Estimate a quantile, requests spread evenly within their bucket; None without any."""
    rank, seen, lower = share * sum(histogram), 0, 0.0
    for count, upper in zip(histogram, bounds, strict=False):
        if count and seen + count >= rank:
            return lower + (upper - lower) * max(rank - seen, 0.0) / count
        seen += count
        lower = float(upper)
    return lower if any(histogram) else None


def _latency(
    name: str,
    old: Sequence[int],
    new: Sequence[int],
    bounds: Sequence[float],
    *,
    factor: float | None,
    target: float | None,
    agreed: float,
) -> Criterion:
    shown = {
        "name": name,
        "old": quantile(old, QUANTILE, bounds),
        "new": quantile(new, QUANTILE, bounds),
    }
    if factor is None:
        return Criterion(**shown, limit=None, finding=Finding.NOT_JUDGED)
    highest = highest_p95(old, bounds)
    if highest is None or sum(new) < LEAST:
        return Criterion(**shown, limit=None, finding=Finding.TOO_FEW)
    limit = highest * factor * agreed
    if target is not None and highest <= target:
        limit = min(limit, float(target))  # the old one keeps the class's target: so must the new one
    above = surely_above(new, limit, bounds)
    if wilson(above, sum(new), CERTAIN)[0] <= 1 - QUANTILE:
        return Criterion(**shown, limit=limit, finding=Finding.KEPT)
    label = "time to first token" if name.startswith("ttft") else "time between tokens"
    told = (
        f"Its {label} is above {limit:g} ms in {above} of {sum(new)} requests; the p95 was at most "
        f"{highest:g} ms before."
    )
    return Criterion(**shown, limit=limit, finding=Finding.WORSE, told=told)


def _errors(old: Counts, new: Counts, points: float | None) -> Criterion:
    shown = {"name": "errors_percent", "old": _percent(old), "new": _percent(new)}
    if points is None:
        return Criterion(**shown, limit=None, finding=Finding.NOT_JUDGED)
    limit = (shown["old"] or 0.0) + points
    if old.requests < LEAST or (new.requests < LEAST and new.failures < LEAST_FAILURES):
        return Criterion(**shown, limit=limit, finding=Finding.TOO_FEW)
    if surplus(new.failures, new.requests, old.failures, old.requests, CERTAIN) <= points / 100:
        return Criterion(**shown, limit=limit, finding=Finding.KEPT)
    told = (
        f"{new.failures} of its {new.requests} requests failed; {old.failures} of {old.requests} did at the "
        "revision before it."
    )
    if new.tried_again:
        told += f" {new.tried_again} were tried again, and clients did not see that."
    return Criterion(**shown, limit=limit, finding=Finding.WORSE, told=told)


def _cost(
    old: Counts, new: Counts, factor: float | None, old_slot: Slot | None, new_slot: Slot | None
) -> Criterion:
    """Judge what a million output tokens cost with full batches, by how long requests hold their place."""
    busy_old, busy_new = _busy(old), _busy(new)
    shown = {
        "name": "cost_per_million_tokens",
        "old": _cost_at(old, old_slot, busy_old and busy_old[1]),
        "new": _cost_at(new, new_slot, busy_new and busy_new[1]),
    }
    if factor is None or old_slot is None or new_slot is None:
        return Criterion(**shown, limit=None, finding=Finding.NOT_JUDGED)
    if not busy_old or not busy_new or min(sum(old.ttft_ms), sum(new.ttft_ms)) < LEAST:
        return Criterion(**shown, limit=None, finding=Finding.TOO_FEW)
    agreed = 1.0
    if old_slot.planned_answer_ms and new_slot.planned_answer_ms:
        was = old_slot.price_per_s * old_slot.planned_answer_ms
        agreed = max(1.0, new_slot.price_per_s * new_slot.planned_answer_ms / was) if was else 1.0
    limit = shown["old"] * factor * agreed if shown["old"] is not None else None
    least, most = _cost_at(new, new_slot, busy_new[0]), _cost_at(old, old_slot, busy_old[2])
    if least is None or most is None or limit is None or least <= most * factor * agreed:
        return Criterion(**shown, limit=limit, finding=Finding.KEPT)
    told = (
        f"A million output tokens cost at least {least:.4g} with full batches, and at most {most:.4g} at the "
        "revision before it."
    )
    return Criterion(**shown, limit=limit, finding=Finding.WORSE, told=told)


def _cost_at(counts: Counts, slot: Slot | None, busy_s: float | None) -> float | None:
    if slot is None or busy_s is None or not counts.output_tokens or not counts.completed:
        return None
    return slot.price_per_s * busy_s * counts.completed / counts.output_tokens * 1e6


def _busy(counts: Counts) -> tuple[float, float, float] | None:
    """Give how long a mean request holds its place, in seconds: at least, about, at most; None if nothing says."""
    if not any(counts.ttft_ms) or not counts.completed:
        return None
    tokens = max(0.0, counts.output_tokens / counts.completed - 1)
    first = _mean(counts.ttft_ms, LATENCY_BOUNDS_MS)
    between = _mean(counts.itl_ms, ITL_BOUNDS_MS) if any(counts.itl_ms) else (0.0, 0.0, 0.0)
    least, about, most = ((a + b * tokens) / _MS for a, b in zip(first, between, strict=True))
    return least, about, most


def _mean(histogram: Sequence[int], bounds: Sequence[float]) -> tuple[float, float, float]:
    """Give a mean: at least, about, at most. Buckets' edges bound each value, the sample the mean."""
    edges = (0.0, *map(float, bounds), float(bounds[-1]))
    total = sum(histogram)
    pairs = list(zip(histogram, edges, edges[1:], strict=False))
    about = sum(count * (low + high) / 2 for count, low, high in pairs) / total
    spread = sum(count * ((low + high) / 2 - about) ** 2 for count, low, high in pairs) / total
    error = CERTAIN * math.sqrt(spread / total)
    least = sum(count * low for count, low, _ in pairs) / total - error
    most = sum(count * high for count, _, high in pairs) / total + error
    return max(0.0, least), about, most


def _agreed(old: Slot | None, new: Slot | None, name: str) -> float:
    """Give how many times as long the plan said that it would take, 1 where it said no longer."""
    was = getattr(old, name) if old else None
    will = getattr(new, name) if new else None
    return max(1.0, will / was) if was and will else 1.0


def _percent(counts: Counts) -> float | None:
    return 100 * counts.failures / counts.requests if counts.requests else None


def _less(now: Sequence[int], then: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(0, a - b) for a, b in zip_longest(now, then, fillvalue=0))
