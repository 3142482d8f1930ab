"""Waiting requests of one priority, shared fairly between tenants.

Start-time fair queueing (Goyal, Vin, Cheng: "Start-time fair queueing", SIGCOMM 1996): in virtual time, a tenant's
next request starts where its last one ended, and a request lasts as long as its tokens divided by its tenant's
share. While two tenants both wait, what they were given by their shares differs by at most one request of each.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from gateway.admission.waiter import Waiter

_CLEARLY: Final = 1.5


class _Lane:
    """One tenant's requests, in the order in which they came."""

    __slots__ = ("listing", "share", "start", "waiters")

    def __init__(self) -> None:
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.share = 1.0
        self.start = 0.0  # virtual time at which its first request starts
        self.listing = 0  # which of the order's entries is its own, 0 for none


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
        if not lane.listing:
            lane.start = max(lane.start, self._virtual)
            self._list(lane)

    def first(self) -> Waiter:
        """Give the one that goes next. There must be one."""
        while not self._holds(entry := self._order[0]):
            heapq.heappop(self._order)
            if entry[1] == entry[2].listing:
                entry[2].listing = 0
        return next(iter(entry[2].waiters))

    def candidates(self) -> Iterator[Waiter]:
        """Give all, the one that goes next first, and then of each tenant in turn."""
        if not self._length:
            return
        first = self.first()
        yield first
        lanes = [entry[2].waiters for entry in sorted(filter(self._holds, self._order))]
        for row in itertools.zip_longest(*lanes):
            yield from (waiter for waiter in row if waiter is not None and waiter is not first)

    def take(self, waiter: Waiter) -> None:
        """Remove one of those that wait because it goes now; its tenant's next one starts the later for it."""
        self.remove(waiter)
        lane = self._lanes[waiter.tenant_id]
        self._virtual = max(self._virtual, lane.start)
        lane.start += max(waiter.tokens, 1) / lane.share
        lane.listing = 0
        if lane.waiters:
            self._list(lane)

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
        self._listings += 1
        lane.listing = self._listings
        heapq.heappush(self._order, (lane.start, lane.listing, lane))

    @staticmethod
    def _holds(entry: tuple[float, int, _Lane]) -> bool:
        """Say whether an entry of the order is its lane's own, and somebody waits there."""
        return entry[1] == entry[2].listing and bool(entry[2].waiters)
