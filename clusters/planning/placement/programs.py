"""Integer programs over a part of the fleet, begun from a draft."""

from __future__ import annotations

import dataclasses

import numpy as np

from clusters.planning.milp import Program
from clusters.planning.placement.bounds import Cut
from clusters.planning.placement.columns import Columns, Integers, Mask
from clusters.planning.placement.draft import Draft


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """A draft that is at least as good as the one before, and what none over the same columns counts less than."""

    draft: Draft
    bound: float


def improved(
    draft: Draft,
    groups: Mask,
    among: Integers,
    *,
    limit_s: float,
    gap: float,
    cuts: tuple[Cut, ...] = (),
    unplaced_weight: float = 0.0,
) -> Outcome:
    """Place some groups anew over the columns ``among``, which are theirs; all others stay where they are.

    ``cuts`` and ``unplaced_weight`` hold for the whole fleet, so they are for all groups only.
    """
    columns = draft.columns
    freed = np.where(groups[columns.group], draft.used, 0)
    fixed = Draft.of(columns, draft.used - freed)
    numbers = np.flatnonzero(groups)
    program = Program()
    unplaced = program.variables(
        len(numbers), cost=columns.penalty[numbers], upper=columns.count[numbers], integer=True
    )
    use = program.variables(
        len(among), cost=columns.cost[among], upper=columns.count[columns.group[among]], integer=True
    )
    place = np.zeros(len(groups), np.int64)
    place[numbers] = np.arange(len(numbers))
    program.rows(
        len(numbers),
        np.concatenate([np.arange(len(numbers)), place[columns.group[among]]]),
        np.concatenate([unplaced, use]),
        1.0,
        lower=columns.count[numbers],
        upper=columns.count[numbers],
    )
    _add_room(program, fixed, among, use)
    _add_quotas(program, fixed, among, use)
    _add_cuts(program, columns, cuts, among, use)
    if unplaced_weight:
        program.row(unplaced, columns.weight[numbers], lower=unplaced_weight)
    solution = program.solve(
        time_limit_s=limit_s,
        gap=gap,
        start=(
            np.concatenate([unplaced, use]),
            np.concatenate([draft.unplaced[numbers], draft.used[among]]),
        ),
    )
    elsewhere = fixed.objective - float(columns.penalty[numbers] @ columns.count[numbers])
    bound = solution.bound + elsewhere
    if not solution.is_found:
        return Outcome(draft, bound)
    used = fixed.used.copy()
    used[among] += np.round(solution.values[use]).astype(np.int64)
    found = Draft.of(columns, used)
    sound = (found.room >= 0).all() and (found.unplaced >= 0).all() and (found.quota_room >= 0).all()
    return Outcome(found if sound and found.objective < draft.objective else draft, bound)


def _add_room(program: Program, fixed: Draft, among: Integers, use: Integers) -> None:
    columns = fixed.columns
    pools, row = np.unique(columns.pool[among], return_inverse=True)
    needed = columns.rows_needed[pools]
    numbers = np.full(needed.shape, -1, np.int64)
    numbers[needed] = np.arange(needed.sum())
    units = columns.units[among]
    at, size = np.nonzero((units > 0) & (numbers[row] >= 0))
    program.rows(
        int(needed.sum()), numbers[row[at], size], use[at], units[at, size], upper=fixed.room[pools][needed]
    )


def _add_quotas(program: Program, fixed: Draft, among: Integers, use: Integers) -> None:
    columns = fixed.columns
    quota = columns.quota[columns.group[among]]
    at = np.flatnonzero(quota >= 0)
    program.rows(len(fixed.quota_room), quota[at], use[at], columns.gpus[among[at]], upper=fixed.quota_room)


def _add_cuts(
    program: Program, columns: Columns, cuts: tuple[Cut, ...], among: Integers, use: Integers
) -> None:
    place = np.full(len(columns), -1, np.int64)
    place[among] = use
    for cut in cuts:
        at, counts = cut.columns(columns)
        some = place[at] >= 0
        program.row(place[at[some]], counts[some], upper=cut.room(columns))
