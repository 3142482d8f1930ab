"""From the relaxation to a placement: fix the largest endpoints first, solving again as their room is taken."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from clusters.planning.placement.columns import Integers
from clusters.planning.placement.draft import Draft
from clusters.planning.placement.master import Master
from clusters.planning.placement.relaxation import LITTLE, Clock

#: A value from which a column is fixed at once.
NEARLY_ONE: Final = 0.85


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a dive goes.

    ``steps`` are the GPUs of an endpoint from which it is fixed, one after the other: small ones fill what large
    ones leave. A round fixes ``part`` of the fractional columns, ``at_least`` so many. After ``patience`` rounds
    of a step, or with ``few`` fractional columns, what is whole is fixed too; few of them and ``rounds`` end it.
    """

    steps: tuple[int, ...]
    part: float
    at_least: int
    patience: int
    rounds: int
    few: int


_DOUBLING: Final = (64, 32, 16, 8, 4, 2, 1)
_FINE: Final = (64, 48, 32, 24, 16, 12, *range(8, 0, -1))

#: From the fastest; where there is time the others are tried too.
PACES: Final = (
    Pace(steps=_DOUBLING[1:], part=0.3, at_least=5, patience=2, rounds=8, few=5),
    Pace(steps=_FINE, part=0.3, at_least=5, patience=5, rounds=25, few=3),
    Pace(steps=_DOUBLING, part=0.3, at_least=5, patience=5, rounds=25, few=3),
    Pace(steps=_DOUBLING, part=0.1, at_least=1, patience=5, rounds=25, few=3),
    Pace(steps=_FINE, part=0.1, at_least=1, patience=5, rounds=25, few=3),
    Pace(steps=_FINE, part=0.1, at_least=1, patience=0, rounds=25, few=0),
    Pace(steps=_DOUBLING, part=0.3, at_least=5, patience=99, rounds=25, few=0),
)


def dive(master: Master, pace: Pace, clock: Clock) -> Draft:
    """Round the relaxation in ``master``, whose columns' bounds are changed on the way, to a placement."""
    master.free_columns()
    if not master.solve(clock.left_s):
        return Draft(master.columns)
    dive = _Dive(master)
    for step in pace.steps:
        for number in range(pace.rounds):
            fractional = dive.fractional(step)
            if len(fractional) <= pace.few or number >= pace.patience:
                dive.fix_whole(step)
            if not len(fractional) or len(fractional) <= pace.few < number:
                break
            dive.fix_some(fractional, max(pace.at_least, int(len(fractional) * pace.part)))
            if not master.solve(clock.left_s):
                return dive.draft()
    return dive.draft()


class _Dive:
    """How often each chosen column is fixed to be used."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._columns = master.columns
        chosen = master.chosen
        self._gpus = self._columns.gpus[chosen]
        self._group = self._columns.group[chosen]
        self._pool = self._columns.pool[chosen]
        self._most = self._columns.count[self._group].astype(np.float64)
        self._fixed = np.zeros(len(chosen), np.int64)

    def fractional(self, step: int) -> Integers:
        """Give the places of the columns of so many GPUs that are used in part."""
        values = self._master.placed
        return np.flatnonzero((np.abs(values - np.round(values)) > LITTLE) & (self._gpus >= step))

    def fix_whole(self, step: int) -> None:
        """Fix what is used wholly."""
        whole = np.floor(self._master.placed + LITTLE).astype(np.int64)
        at = np.flatnonzero((whole > self._fixed) & (self._gpus >= step))
        self._fixed[at] = whole[at]
        self._bound(at)

    def fix_some(self, fractional: Integers, most: int) -> None:
        """Round up the columns nearest to it, ``most`` of them; bar those that would not fit beside what is fixed."""
        values = self._master.placed
        draft = self.draft_of_fixed()
        parts = values[fractional] - np.floor(values[fractional])
        up: list[int] = []
        barred: list[int] = []
        done: set[int] = set()
        for place in np.argsort(-parts, kind="stable"):
            at = int(fractional[place])
            if parts[place] < NEARLY_ONE and len(up) >= most:
                break
            if self._group[at] in done:
                continue
            column, more = int(self._master.chosen[at]), int(np.floor(values[at])) + 1 - int(self._fixed[at])
            draft.put(column, more)
            group = self._group[at]
            if self._is_over(draft, int(self._pool[at]), int(group)):
                draft.put(column, -more)
                barred.append(at)
                continue
            done.add(int(group))
            self._fixed[at] += more
            up.append(at)
        self._bound(np.array(up, np.int64))
        if barred:
            places = np.array(barred, np.int64)
            whole = np.maximum(np.floor(values[places]), self._fixed[places])
            self._most[places] = whole
            self._bound(places)

    def draft_of_fixed(self) -> Draft:
        """Give what is fixed."""
        return self._draft(self._fixed)

    def draft(self) -> Draft:
        """Give what is fixed or used wholly."""
        whole = np.floor(self._master.placed + LITTLE).astype(np.int64)
        draft = self._draft(np.maximum(self._fixed, whole))
        sound = (draft.room >= 0).all() and (draft.quota_room >= 0).all() and (draft.unplaced >= 0).all()
        return draft if sound else self.draft_of_fixed()

    def _draft(self, counts: Integers) -> Draft:
        used = np.zeros(len(self._columns), np.int64)
        used[self._master.chosen] = counts
        return Draft.of(self._columns, used)

    def _is_over(self, draft: Draft, pool: int, group: int) -> bool:
        quota = int(self._columns.quota[group])
        return bool(
            draft.unplaced[group] < 0
            or (draft.room[pool] < 0).any()
            or (quota >= 0 and draft.quota_room[quota] < 0)
        )

    def _bound(self, at: Integers) -> None:
        lower = self._fixed[at].astype(np.float64)
        self._master.bound_columns(at, lower, np.maximum(lower, self._most[at]))
