"""Waiting requests of one priority, shared fairly between tenants.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time fair queueing", SIGCOMM 1996): in virtual time, a tenant's
next request starts where its last one ended, and a request lasts as long as its tokens divided by its tenant's
share. While two tenants both wait, what they were given by their shares differs by at most one request of each.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Final

from gateway.admission.waiter import Waiter

_CLEARLY: Final = 1.5


class _Lane:
    """One tenant's requests, in the order in which they came."""

    __slots__ = ("listed", "share", "start", "waiters")

    def __init__(self) -> None:
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.share = 1.0
        self.start = 0.0  # virtual time at which its first request starts
        self.listed = False


class Band:
    """Requests of one priority. ``floor`` is their share of admissions while higher bands wait too."""

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.floor = 0.0
        self.credit = 0.0  # admissions that its floor owes it
        self._lanes: dict[str, _Lane] = {}
        self._order: list[tuple[float, int, _Lane]] = []
        self._listings = 0
        self._virtual = 0.0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, waiter: Waiter) -> None:
        """Let ``waiter`` wait, last of its tenant."""
        lane = self._lanes.get(waiter.tenant_id)
        if lane is None:
            lane = self._lanes[waiter.tenant_id] = _Lane()
        lane.share = waiter.share
        lane.waiters[waiter] = None
        self._length += 1
        if not lane.listed:
            lane.start = max(lane.start, self._virtual)
            self._list(lane)

    def first(self) -> Waiter:
        """Give the one that goes next. There must be one."""
        return next(iter(self._first_lane().waiters))

    def take(self) -> Waiter:
        """Remove and give the one that goes next. There must be one."""
        lane = self._first_lane()
        waiter, _ = lane.waiters.popitem(last=False)
        heapq.heappop(self._order)
        lane.listed = False
        self._length -= 1
        self._virtual = lane.start
        lane.start += max(waiter.tokens, 1) / lane.share
        if lane.waiters:
            self._list(lane)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Let ``waiter`` wait no longer; its tenant pays nothing for it."""
        del self._lanes[waiter.tenant_id].waiters[waiter]
        self._length -= 1

    def heaviest(self, *, arriving: str = "", share: float = 1.0) -> str:
        """Give the tenant with the most requests for its share.

        It is the tenant ``arriving``, with one more, unless another has clearly more.
        """
        mine = self._lanes.get(arriving)
        most = _CLEARLY * ((len(mine.waiters) if mine else 0) + 1) / share if arriving else 0.0
        tenant_id = arriving
        for name, lane in self._lanes.items():
            load = len(lane.waiters) / lane.share
            if load > most and name != arriving:
                most, tenant_id = load, name
        return tenant_id

    def newest(self, tenant_id: str) -> Waiter:
        """Give a tenant's last one. There must be one."""
        return next(reversed(self._lanes[tenant_id].waiters))

    def oldest(self) -> Waiter:
        """Give the one that came first. There must be one."""
        heads = (next(iter(lane.waiters)) for lane in self._lanes.values() if lane.waiters)
        return min(heads, key=lambda waiter: waiter.arrived)

    def _list(self, lane: _Lane) -> None:
        lane.listed = True
        self._listings += 1
        heapq.heappush(self._order, (lane.start, self._listings, lane))

    def _first_lane(self) -> _Lane:
        while not (lane := self._order[0][2]).waiters:
            heapq.heappop(self._order)
            lane.listed = False
        return lane
