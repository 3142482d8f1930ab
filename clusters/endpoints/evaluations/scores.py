"""From judged checks to a score, and from scores to a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any, Final

_HUNDRED: Final = Decimal(100)
_PLACES: Final = Decimal("0.01")


@dataclasses.dataclass(frozen=True)
class Points:
    """Weights of the checks that were passed, and of all that were judged."""

    passed: int = 0
    judged: int = 0

    def add(self, weight: int, *, passed: bool) -> Points:
        """Give them with another check's."""
        return Points(self.passed + weight * passed, self.judged + weight)

    @property
    def percent(self) -> Decimal | None:
        """The share that was passed, of 100; None where nothing was judged. Never rounded up."""
        if not self.judged:
            return None
        return (self.passed * _HUNDRED / self.judged).quantize(_PLACES, rounding=ROUND_DOWN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    """What a set demands: a share of the weights (percent), and how many points it may be below the old revision.

    None of either demands nothing of that kind.
    """

    pass_percent: Decimal | None
    most_drop: Decimal | None


def points(results: Iterable[Mapping[str, Any]], side: str) -> Points:
    """Sum up the checks of ``side``, ``checks`` of the new revision or ``before`` of the old one."""
    found = Points()
    for result in results:
        for check in result.get(side) or ():
            if check["passed"] is not None:
                found = found.add(check["weight"], passed=check["passed"])
    return found


def shortfall(threshold: Threshold, results: Sequence[Mapping[str, Any]]) -> str:
    """Say why results are below what is demanded, "" where they are not.

    The two revisions are compared by the checks that were judged of both. Where there is none, a drop that is demanded
    is not known to be kept.
    """
    found = points(results, "checks").percent
    if found is None:
        return "No check could be judged."
    if threshold.pass_percent is not None and found < threshold.pass_percent:
        return f"The score is {found:f} %, at least {threshold.pass_percent:f} % is demanded."
    new, old, most = *_compared(results), threshold.most_drop
    if most is None:
        return ""
    if new is None or old is None:
        return (
            "It could not be compared with the old revision: no check was judged of both. Waive it, or demand a share "
            "of the weights (pass_percent) instead of most_drop."
        )
    if new < old - most:
        return f"The score is {new:f} %, the old revision's {old:f} %: more than {most:f} points below."
    return ""


def _compared(results: Iterable[Mapping[str, Any]]) -> tuple[Decimal | None, Decimal | None]:
    """Give both revisions' scores by the checks that were judged of both."""
    new, old = Points(), Points()
    for result in results:
        for mine, theirs in zip(result["checks"], result.get("before") or (), strict=False):
            if mine["passed"] is not None and theirs["passed"] is not None:
                new = new.add(mine["weight"], passed=mine["passed"])
                old = old.add(theirs["weight"], passed=theirs["passed"])
    return new.percent, old.percent
