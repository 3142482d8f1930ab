"""Two results beside each other: what the second has more, and between what limits chance leaves that.

The limits are a block bootstrap's (Kuensch, 1989): a trace is cut into runs of neighbouring requests, which share a
queue and so are not independent; blocks are drawn with replacement, the same ones of both results where both had the
same trace, and 95 of 100 such draws lie within the limits.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.replay.quantiles import bucket, bucket_quantile, dense
from gateway.replay.report import PERCENTS

DRAWS: Final = 400
MOST_BLOCKS: Final = 64

#: Fewer requests than this are too few to tell chance from difference.
FEWEST: Final = 30

#: What limits are told of.
KINDS: Final = ("ttft", "ttft_due", "itl", "answer", "answer_due")

_SEED: Final = 1


class Change(NamedTuple):
    """How much more the second has, in percent, and the limits; those are None where there were too few requests."""

    percent: float
    low: float | None = None
    high: float | None = None

    @property
    def is_chance(self) -> bool:
        """Whether no change lies within the limits."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


def changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Change]:
    """Compare all figures that both results have."""
    limits = _limits(first["answers"], second["answers"])
    found = {}
    for name, before in first.items():
        after = second.get(name)
        if not _is_number(before) or not _is_number(after) or not before:
            continue
        found[name] = Change((after / before - 1) * 100, *limits.get(name, (None, None)))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _limits(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[float, float]]:
    if min(len(first), len(second)) < FEWEST:
        return {}
    same = [row["at_s"] for row in first] == [row["at_s"] for row in second]
    chance = random.Random(_SEED)  # noqa: S311
    draws = [_draws(chance, len(first))]
    draws.append(draws[0] if same else _draws(chance, len(second)))
    found = {}
    for kind in KINDS:
        before, after = (
            _drawn(rows, kind, drawn) for rows, drawn in zip((first, second), draws, strict=True)
        )
        for percent, *pairs in zip(PERCENTS, before, after, strict=True):
            ratios = sorted(
                (two / one - 1) * 100 for one, two in zip(*pairs, strict=True) if one and two is not None
            )
            if len(ratios) >= DRAWS // 2:
                edge = int(len(ratios) * 0.025)
                found[f"{kind}_p{percent}_ms"] = ratios[edge], ratios[-1 - edge]
    return found


def _draws(chance: random.Random, requests: int) -> list[list[int]]:
    blocks = range(min(MOST_BLOCKS, requests))
    return [chance.choices(blocks, k=len(blocks)) for _ in range(DRAWS)]


def _drawn(
    rows: Sequence[Mapping[str, Any]], kind: str, draws: Sequence[Sequence[int]]
) -> list[list[float | None]]:
    """Give for each percent its quantile in every draw."""
    blocks = min(MOST_BLOCKS, len(rows))
    counts: list[dict[int, float]] = [{} for _ in range(blocks)]
    for number, row in enumerate(rows):
        held = counts[number * blocks // len(rows)]
        for name, weight in _values(row, kind):
            held[name] = held.get(name, 0.0) + weight
    laid, begin = dense(counts)
    found: list[list[float | None]] = [[] for _ in PERCENTS]
    for drawn in draws:
        total = [sum(column) for column in zip(*(laid[block] for block in drawn), strict=True)]
        for place, percent in enumerate(PERCENTS):
            found[place].append(bucket_quantile(total, begin, percent))
    return found


def _values(row: Mapping[str, Any], kind: str) -> Sequence[tuple[int, float]]:
    if row.get("failure"):
        return ()
    if kind == "itl":
        return [(name, weight) for name, weight in row.get("itl", ())]
    value = row["ttft_ms" if kind.startswith("ttft") else "total_ms"]
    if value is None:
        return ()
    return [(bucket(value + (row["late_ms"] if kind.endswith("_due") else 0.0)), 1.0)]
