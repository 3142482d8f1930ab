"""Place a whole fleet: relax, dive, exchange, then integer programs, and in the end the nodes."""

from __future__ import annotations

from typing import Final

import numpy as np

from clusters.planning.placement.columns import Columns, columns_of
from clusters.planning.placement.diving import PACES, dive
from clusters.planning.placement.draft import Draft
from clusters.planning.placement.exchange import exchange
from clusters.planning.placement.fleet import (
    Assignment,
    FleetPlan,
    FleetProblem,
    PlacementStatus,
    Unplaced,
    cost_of,
)
from clusters.planning.placement.polish import ENOUGH, Search, polish
from clusters.planning.placement.regret import place_by_regret
from clusters.planning.placement.relaxation import Clock, Relaxation, relax
from clusters.planning.placement.stock import Reasons, Stock

#: Seconds that a search takes at most.
LIMIT_S: Final = 40.0
#: Distance of objective and bound, in parts of the bound, at which a plan is proven best.
PROVEN: Final = 1e-6
#: Seconds kept for packing the nodes: so many, and for each endpoint.
PACKING_S: Final = (0.05, 1.5e-4)
#: Parts of the time that the relaxation, and dives after the first, may take.
RELAXING: Final = 0.6
DIVING: Final = 0.25
#: Columns from which dives choose among few of each group.
MANY_COLUMNS: Final = 40_000
DIVE_COLUMNS: Final = 6


def solve(problem: FleetProblem, limit_s: float = LIMIT_S) -> FleetPlan:
    """Place as the objective asks, in ``limit_s`` seconds more or less; endpoints without a place are told why.

    The bound holds for every placement. Without time the plan is the greedy one, its bound that of an empty
    relaxation.
    """
    whole = Clock(limit_s)
    clock = Clock(limit_s - PACKING_S[0] - PACKING_S[1] * len(problem.endpoints))
    columns = columns_of(problem)
    search = _search(columns, clock)
    assignments, unplaced = _packed(columns, search.draft)
    by_id = {endpoint.id: endpoint for endpoint in problem.endpoints}
    pools = {pool.id: pool for pool in problem.pools}
    objective = sum(
        cost_of(problem, by_id[each.endpoint], pools[each.pool], by_id[each.endpoint].options[each.option])
        for each in assignments
    ) + problem.penalty * sum(by_id[each].weight for each in unplaced)
    reasons = Reasons(problem)
    bound = min(search.bound, objective)
    status = (
        PlacementStatus.OPTIMAL
        if objective - bound <= PROVEN * abs(bound)
        else PlacementStatus.FEASIBLE
        if clock.left_s
        else PlacementStatus.LIMIT
    )
    return FleetPlan(
        status=status,
        objective=objective,
        bound=bound,
        seconds=round(whole.spent_s, 3),
        assignments=tuple(assignments),
        unplaced=tuple(Unplaced(endpoint=each, reason=reasons.of(by_id[each])) for each in unplaced),
    )


def _search(columns: Columns, clock: Clock) -> Search:
    relaxation = relax(columns, clock.part(RELAXING))
    search = Search(Draft(columns), relaxation.best.bound)
    if relaxation.is_optimal:
        if len(relaxation.master.chosen) > MANY_COLUMNS:
            relaxation.master.keep(columns.smallest(relaxation.best.columns, DIVE_COLUMNS))
        _dives(search, relaxation, clock)
    else:
        draft = Draft(columns)
        place_by_regret(draft, relaxation.best.columns)
        exchange(draft, clock)
        search.offer(draft)
    polish(search, relaxation, clock)
    return search


def _dives(search: Search, relaxation: Relaxation, clock: Clock) -> None:
    """Dive at the fastest pace, and at others while they are cheap."""
    diving = clock.part(DIVING)
    for pace in PACES:
        before = diving.left_s
        draft = dive(relaxation.master, pace, clock)
        exchange(draft, clock)
        search.offer(draft)
        if search.gap <= ENOUGH or diving.left_s < 2 * (before - diving.left_s):
            return


def _packed(columns: Columns, draft: Draft) -> tuple[list[Assignment], list[str]]:
    """Give nodes to all that the draft places; what does not fit after all goes where it fits."""
    problem, stock = columns.problem, Stock(columns.problem)
    waiting: list[int] = []
    placed: list[tuple[int, int, int, int]] = []
    for group, members in enumerate(columns.members):
        of_group = columns.of_group(group)
        at = np.flatnonzero(draft.used[of_group]) + of_group.start
        ways = np.repeat(at, draft.used[at])
        for member, column in zip(members, ways.tolist(), strict=False):
            gpus = int(columns.grid.shapes[columns.shape[column]])
            placed.append((-gpus, -problem.endpoints[member].spread, member, column))
        waiting += members[len(ways) :]
    assignments = []
    for _, _, member, column in sorted(placed):
        endpoint, pool = problem.endpoints[member], problem.pools[columns.pool[column]]
        option = int(columns.option[column])
        replicas = stock.take(endpoint, pool.id, endpoint.options[option])
        if replicas is None:
            waiting.append(member)
        else:
            assignments.append(
                Assignment(endpoint=endpoint.id, pool=pool.id, option=option, replicas=replicas)
            )
    unplaced = []
    for member in sorted(waiting, key=lambda member: (-problem.endpoints[member].weight, member)):
        found = stock.admit(problem.endpoints[member])
        if found is None:
            unplaced.append(problem.endpoints[member].id)
        else:
            assignments.append(found)
    return assignments, unplaced
