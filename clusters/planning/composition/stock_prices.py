"""Fleets for several models that share the stock: each is composed alone, at prices that make scarce GPUs dear.

The relaxed program of all models gives each GPU type a dual price. Added to the money, it lets each model be
solved by itself (a Lagrangian relaxation of the stock); those answers bound what any fleet can cost. Models then
take their GPUs in turn from what is left, and exchange them as long as that saves money.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from clusters.planning.composition.programs import draft
from clusters.planning.composition.tables import Counts, Table
from clusters.planning.milp import Floats, Status

#: Share of the time for the bound, and for models taking their turn before any exchange.
BOUND_SHARE: Final = 0.4
TURNS_SHARE: Final = 0.7

#: Longest time for one exchange.
EXCHANGE_S: Final = 2.0

#: Triples of models that are drawn to exchange, for each model.
TRIPLES: Final = 2

#: Savings below this share of the cost are not worth another exchange.
WORTH: Final = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Composed:
    """Copies for each table, or None; what no fleet costs less than; and whether there is provably none."""

    counts: tuple[Counts, ...] | None
    bound: float
    infeasible: bool = False


def compose(
    tables: Sequence[Table], *, prices: Floats, stock: Floats, deadline: float, gap: float
) -> Composed:
    """Find cheap copies for all ``tables``, which share ``stock``; ``deadline`` is on the monotonic clock."""
    whole = draft(tables, prices=prices, stock=stock, relaxed=True, time_limit_s=_left(deadline))
    if whole.solution.status is Status.INFEASIBLE:
        return Composed(counts=None, bound=np.inf, infeasible=True)
    dear = prices + whole.stock_prices
    bound = whole.solution.objective if whole.solution.is_found else 0.0
    begun = time.monotonic()
    span = deadline - begun

    alone: list[Counts | None] = []
    sum_of_bounds = 0.0
    for number, table in enumerate(tables):
        limit = _left(begun + span * BOUND_SHARE) / (len(tables) - number)
        answer = draft([table], prices=dear, stock=stock, time_limit_s=limit, gap=gap)
        if answer.solution.status is Status.INFEASIBLE:
            return Composed(counts=None, bound=np.inf, infeasible=True)
        alone.append(answer.counts[0] if answer.counts is not None else None)
        sum_of_bounds += max(0.0, answer.solution.bound)
    scarce = whole.stock_prices > 0
    bound = max(bound, sum_of_bounds - float(whole.stock_prices[scarce] @ stock[scarce]))

    taken = _in_turn(tables, alone, dear=dear, stock=stock, deadline=begun + span * TURNS_SHARE, gap=gap)
    if taken is None:
        return Composed(counts=None, bound=bound)
    counts = _exchange(tables, taken, prices=prices, stock=stock, deadline=deadline, gap=gap, bound=bound)
    return Composed(counts=tuple(counts), bound=bound)


def cost(tables: Sequence[Table], counts: Sequence[Counts], prices: Floats) -> float:
    """Money per hour of the copies."""
    return sum(float(own @ (table.gpus @ prices)) for table, own in zip(tables, counts, strict=True))


def _in_turn(
    tables: Sequence[Table],
    alone: Sequence[Counts | None],
    *,
    dear: Floats,
    stock: Floats,
    deadline: float,
    gap: float,
) -> list[Counts] | None:
    """Let the models take their GPUs one after another, the costliest first.

    A model that finds too little goes to the head of the line, and all begin again; None where that does not help.
    """
    weight = [
        float(own @ (table.gpus @ dear)) if own is not None else np.inf
        for table, own in zip(tables, alone, strict=True)
    ]
    line = sorted(range(len(tables)), key=lambda number: -weight[number])
    for _ in range(len(tables) + 1):
        left, counts = stock.copy(), dict[int, Counts]()
        for done, number in enumerate(line):
            table, own = tables[number], alone[number]
            if own is None or (own @ table.gpus > left).any():
                limit = _left(deadline) / (len(line) - done)
                answer = draft([table], prices=dear, stock=left, time_limit_s=limit, gap=gap)
                own = answer.counts[0] if answer.counts is not None else None
            if own is None:
                break
            counts[number] = own
            left -= own @ table.gpus
        if len(counts) == len(tables):
            return [counts[number] for number in range(len(tables))]
        stuck = line[len(counts)]
        if stuck == line[0] or time.monotonic() > deadline:
            return None
        line.remove(stuck)
        line.insert(0, stuck)
    return None


def _exchange(
    tables: Sequence[Table],
    counts: list[Counts],
    *,
    prices: Floats,
    stock: Floats,
    deadline: float,
    gap: float,
    bound: float,
) -> list[Counts]:
    """Compose few models at a time anew from what they have and what is left, while that saves money."""
    left = stock - _used(tables, counts)
    for group in _groups(len(tables)):
        if time.monotonic() > deadline or cost(tables, counts, prices) <= bound * (1 + gap):
            break
        part = [tables[number] for number in group]
        have = [counts[number] for number in group]
        free = left + _used(part, have)
        answer = draft(
            part, prices=prices, stock=free, start=have, gap=gap,
            time_limit_s=min(_left(deadline), EXCHANGE_S),
        )  # fmt: skip
        if answer.counts is None:
            continue
        before = cost(part, have, prices)
        if cost(part, answer.counts, prices) < before * (1 - WORTH):
            for number, own in zip(group, answer.counts, strict=True):
                counts[number] = own
            left = free - _used(part, answer.counts)
    return counts


def _groups(count: int) -> Iterator[tuple[int, ...]]:
    """Each model alone, then each pair, nearest in order first, then triples by lot."""
    yield from ((number,) for number in range(count))
    for distance in range(1, count):
        yield from ((first, first + distance) for first in range(count - distance))
    lots = random.Random(count)  # noqa: S311
    for _ in range(TRIPLES * count):
        yield tuple(lots.sample(range(count), 3))


def _used(tables: Sequence[Table], counts: Sequence[Counts]) -> Floats:
    """GPUs of each type that the copies take."""
    taken: Floats = np.sum(
        [own @ table.gpus for table, own in zip(tables, counts, strict=True)], axis=0, dtype=float
    )
    return taken


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())
