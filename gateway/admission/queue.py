"""The queue of one endpoint: bounded, strict in priority with floors, fair between tenants."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from gateway.admission.band import Band
from gateway.admission.pace import Pace
from gateway.admission.waiter import Waiter
from gateway.contract import SloClass

_SERVED_MEMORY_S: Final = 2.0
_ARRIVALS_MEMORY_S: Final = 0.5
#: What a place is taken to serve each second until that was measured: much, because nobody is to be refused
#: for want of a measurement.
_UNMEASURED_PER_PLACE_S: Final = 10.0
#: Higher classes keep at least this share of admissions, whatever the floors of lower ones add up to.
_LEAST_OF_HIGHER: Final = 0.1
#: So that about one in a hundred waits in vain at most, while more come than can be served.
_TRUST_LOST: Final = 0.02
_TRUST_GAINED: Final = 0.0002
_TRUST_REGAINED: Final = 0.1  # whenever nobody waits any more
_LEAST_CAUTION: Final = 0.3
#: One admission that a floor owes, allowing for sums of floats.
_OWED: Final = 1 - 1e-9
_RETRY_AFTER_MOST_S: Final = 60  # OpenAI's clients do not obey more


class Reason(enum.StrEnum):
    """Why a request was shed."""

    HOPELESS = "hopeless"  # it would wait longer than its class allows
    DISPLACED = "displaced"  # as newest of the tenant with most waiting, for a request of another
    FULL = "full"  # the queue is full, and its class the least urgent
    DEADLINE = "deadline"  # it waited as long as its class allows


class Shed(NamedTuple):
    """A request that must not wait, or no longer."""

    waiter: Waiter
    reason: Reason


class _Level:
    """What was seen of the requests of one priority. ``caution`` is the share of the estimate that is trusted."""

    __slots__ = ("arrivals", "caution")

    def __init__(self) -> None:
        self.arrivals = Pace(memory_s=_ARRIVALS_MEMORY_S)
        self.caution = 1.0


class EndpointQueue:
    """Holds at most ``most`` requests. ``places`` gives how many requests the endpoint's replicas work on at once.

    Times are seconds of one clock that never goes back.
    """

    def __init__(self, *, most: int, places: Callable[[], int]) -> None:
        self._most = most
        self._places = places
        self._bands: list[Band] = []  # the most urgent first; none is empty
        self._by_class: Counter[str] = Counter()
        self._served = Pace(memory_s=_SERVED_MEMORY_S)
        self._levels: dict[int, _Level] = {}  # by priority
        self.waiting = 0

    def refusal(self, slo_class: SloClass, tenant_id: str, share: float, now: float) -> Reason | None:
        """Say why a request that came now would be turned away, None if it would not. Counts it if it would."""
        found = self._excess(slo_class, tenant_id, share, now)
        if found is None or found[0] is not None:
            return None
        self._level(slo_class.priority).arrivals.event(now)
        return found[1]

    def push(self, waiter: Waiter) -> Shed | None:
        """Let ``waiter`` wait, and give what must be shed for that: another one, or ``waiter`` itself."""
        now, slo_class = waiter.arrived, waiter.slo_class
        self._level(slo_class.priority).arrivals.event(now)
        found = self._excess(slo_class, waiter.tenant_id, waiter.share, now)
        shed = None
        if found is not None:
            victim, reason = found
            if victim is None:
                return Shed(waiter, reason)
            self.remove(victim)
            shed = Shed(victim, reason)
        band = self._band(slo_class.priority)
        band.floor = max(band.floor, slo_class.floor)
        band.push(waiter)
        waiter.waiting = True
        self._by_class[slo_class.name] += 1
        self.waiting += 1
        self._served.begin(now)
        return shed

    def candidates(self) -> Iterator[Waiter]:
        """Give those that may go next, the one whose turn it is first; where it finds no room, another one may."""
        if not self._bands:
            return
        chosen = self._next_band()
        yield from chosen.candidates()
        for band in list(self._bands):
            if band is not chosen:
                yield from band.candidates()

    def take(self, waiter: Waiter, now: float) -> None:
        """Remove one of those that wait, to be admitted."""
        lower = self._bands[1:]
        floors = sum(band.floor for band in lower)
        scale = min(1.0, (1 - _LEAST_OF_HIGHER) / floors) if floors else 1.0
        for band in lower:
            band.credit += band.floor * scale
        band = self._own_band(waiter)
        if band is not self._bands[0] and band.credit >= _OWED:
            band.credit -= 1
        band.take(waiter)
        self._served.event(now, self._places())
        self._forget(waiter, band)
        level = self._level(waiter.slo_class.priority)
        level.caution = min(level.caution + _TRUST_GAINED, 1.0)

    def remove(self, waiter: Waiter) -> None:
        """Let ``waiter`` wait no longer."""
        band = self._own_band(waiter)
        band.remove(waiter)
        self._forget(waiter, band)

    def expire(self, waiter: Waiter) -> None:
        """Let ``waiter`` wait no longer, whose time has run out."""
        self.remove(waiter)
        level = self._level(waiter.slo_class.priority)
        level.caution = max(level.caution - _TRUST_LOST, _LEAST_CAUTION)

    @property
    def measured(self) -> bool:
        """Say whether enough were admitted from here to know how fast that goes."""
        return self._served.sure(self._places())

    def trim(self, now: float) -> list[Shed]:
        """Remove and give those that have come to wait longer than their class allows."""
        shed = []
        for band in reversed(list(self._bands)):
            newest = band.newest(band.heaviest())
            most = self._most_in_time(newest.slo_class, now)
            while len(band) > most:
                self.remove(newest)
                shed.append(Shed(newest, Reason.HOPELESS))
                newest = band.newest(band.heaviest())
        return shed

    def retry_after_s(self, priority: int, now: float) -> int:
        """Give the seconds after which those that now wait before a request of ``priority`` will have gone."""
        before = sum(len(band) for band in self._bands if band.priority <= priority)
        return min(max(math.ceil(before / self._rate(now)), 1), _RETRY_AFTER_MOST_S)

    def admitted_per_s(self, now: float) -> float | None:
        """Give how many are admitted from here each second while some wait, None while that is not known."""
        return self._rate(now) if self.measured else None

    def by_class(self) -> Mapping[str, int]:
        """Count those that wait by class."""
        return dict(self._by_class)

    def oldest_s(self, now: float) -> Mapping[int, float]:
        """Give the seconds that the oldest of each priority has waited, of those that somebody waits in."""
        return {band.priority: now - band.oldest().arrived for band in self._bands}

    def _excess(
        self, slo_class: SloClass, tenant_id: str, share: float, now: float
    ) -> tuple[Waiter | None, Reason] | None:
        """Give who has to go if a request comes now, None for itself, and why."""
        priority = slo_class.priority
        own = next((band for band in self._bands if band.priority == priority), None)
        if own is not None and len(own) >= self._most_in_time(slo_class, now):
            crowded, own_reason, other_reason = own, Reason.HOPELESS, Reason.DISPLACED
        elif self.waiting >= self._most:
            crowded, own_reason, other_reason = self._bands[-1], Reason.FULL, Reason.FULL
            if crowded.priority < priority:
                return None, Reason.FULL
            if crowded.priority > priority:
                return crowded.newest(crowded.heaviest()), Reason.FULL
        else:
            return None
        heaviest = crowded.heaviest(arriving=tenant_id, share=share)
        if heaviest == tenant_id:
            return None, own_reason
        return crowded.newest(heaviest), other_reason

    def _most_in_time(self, slo_class: SloClass, now: float) -> int:
        """Give how many of a class, at least one, may wait so that the last will be admitted in time.

        Higher classes go first, those that wait and those that will come as fast as they do now; what lower
        ones keep by their floors is lost as well; a class's own floor is sure. What is not as regular as that
        shows in those that waited in vain, and makes it more careful.
        """
        priority, queue_s, rate = slo_class.priority, slo_class.queue_s, self._rate(now)
        higher = sum(len(band) for band in self._bands if band.priority < priority)
        coming = sum(
            level.arrivals.rate(now)
            for other, level in self._levels.items()
            if other < priority and level.arrivals.sure()
        )
        lost = sum(band.floor for band in self._bands if band.priority > priority)
        free = max(0.0, 1 - coming / rate - min(lost, 1 - _LEAST_OF_HIGHER))
        within = max(rate * free * (queue_s - higher / rate), rate * slo_class.floor * queue_s, 0.0)
        return max(1, int(within * self._level(priority).caution))

    def _rate(self, now: float) -> float:
        places = max(self._places(), 1)
        if self._served.sure(places):
            return self._served.rate(now, places)
        return _UNMEASURED_PER_PLACE_S * places

    def _level(self, priority: int) -> _Level:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
        return level

    def _band(self, priority: int) -> Band:
        band = next((band for band in self._bands if band.priority == priority), None)
        if band is None:
            band = Band(priority)
            self._bands.append(band)
            self._bands.sort(key=lambda band: band.priority)
        return band

    def _own_band(self, waiter: Waiter) -> Band:
        return next(band for band in self._bands if band.priority == waiter.slo_class.priority)

    def _next_band(self) -> Band:
        owed = max(self._bands[1:], key=lambda band: band.credit, default=None)
        return owed if owed is not None and owed.credit >= _OWED else self._bands[0]

    def _forget(self, waiter: Waiter, band: Band) -> None:
        waiter.waiting = False
        self.waiting -= 1
        name = waiter.slo_class.name
        self._by_class[name] -= 1
        if not self._by_class[name]:
            del self._by_class[name]
        if not band:
            self._bands.remove(band)
        if not self._bands:
            self._served.pause()
            for level in self._levels.values():
                level.arrivals.forget()
                level.caution += (1 - level.caution) * _TRUST_REGAINED
