"""The door to the replicas of endpoints: lets in, makes wait, turns away."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway import errors
from gateway.admission.limiter import Limiter
from gateway.admission.pressure import SHORT_OF_MEMORY, kv_share
from gateway.admission.queue import EndpointQueue, Reason, Shed
from gateway.admission.waiter import Waiter
from gateway.contract import Endpoint, Key, Replica, SloClass
from gateway.demand import Demand
from gateway.directory import Directory

MOST_WAITING: Final = 4096
#: A request may be bound to a revision or to a replica: others behind it may use room that it cannot.
_LOOKED_AT: Final = 64
_LEAST_SHARE: Final = 0.001
#: Room may also appear as time passes, when a replica that failed is tried again.
_LOOK_AGAIN_S: Final = 0.1


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint's admission. ``shed`` counts since the start by class and reason, ``limits`` are by replica id.

    ``pressure`` counts the looks at a replica that found its KV cache nearly full, since the start.
    ``admitted_per_s`` is how fast its queue moves while requests wait, None while that is not known.
    """

    waiting: Mapping[str, int]  # by class
    oldest_s: Mapping[int, float]  # by priority, of those that somebody waits in
    shed: Mapping[tuple[str, Reason], int]
    limits: Mapping[str, int]
    pressure: int
    admitted_per_s: float | None


class Admission:
    """Holds one limit for each replica and one queue for each endpoint. Belongs to one event loop.

    ``outstanding`` counts the requests that each replica works on, by its id, and is read whenever that matters.
    ``most_waiting`` bounds each queue. ``clock`` gives seconds that never go back.
    """

    def __init__(
        self,
        outstanding: Mapping[str, int],
        *,
        most_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outstanding = outstanding
        self._most_waiting = most_waiting
        self._clock = clock
        self._limiters: dict[str, Limiter] = {}
        self._queues: dict[str, EndpointQueue] = {}
        self._shed: dict[str, Counter[tuple[str, Reason]]] = {}
        self._endpoints: Mapping[str, Endpoint] = {}
        self._served_by: dict[str, list[str]] = {}  # endpoint ids by replica id
        self._pressure: Counter[str] = Counter()
        self._shares: Mapping[str, float] = {}
        self._gateways = 1
        self._waiting = 0
        self._look: asyncio.TimerHandle | None = None

    def use(self, directory: Directory) -> None:
        """Take up a new snapshot: its replicas, its tenants' shares, and room that it brings."""
        snapshot = directory.snapshot
        self._gateways = max(1, snapshot.gateways_here)
        self._shares = {tenant.tenant_id: max(tenant.share, _LEAST_SHARE) for tenant in snapshot.tenants}
        self._endpoints = {endpoint.endpoint_id: endpoint for endpoint in snapshot.endpoints}
        self._served_by = {}
        for endpoint in snapshot.endpoints:
            for replica in _replicas(endpoint):
                self._served_by.setdefault(replica.replica_id, []).append(endpoint.endpoint_id)
                if (limiter := self._limiters.get(replica.replica_id)) is not None:
                    limiter.plan(self._planned(replica))
        for replica_id in self._limiters.keys() - self._served_by:
            del self._limiters[replica_id]
        for endpoint_id in self._queues.keys() - self._endpoints:
            if not self._queues[endpoint_id].waiting:
                del self._queues[endpoint_id]
        for endpoint_id in self._shed.keys() - self._endpoints:
            del self._shed[endpoint_id]
        for endpoint_id in self._pressure.keys() - self._endpoints:
            del self._pressure[endpoint_id]
        self.changed()

    def newest(self, endpoint: Endpoint) -> Endpoint:
        """Give ``endpoint`` as the snapshot in use has it: replicas may have come and gone while one waited."""
        return self._endpoints.get(endpoint.endpoint_id, endpoint)

    def has_room(self, replica: Replica, outstanding: int) -> bool:
        """Say whether ``replica``, which works on ``outstanding`` requests, may get one more."""
        return outstanding < self._limiter(replica).limit

    def check(self, endpoint: Endpoint, slo_class: SloClass, key: Key) -> None:
        """Turn a request away as early as it is known to find no room in time.

        Raises:
            Overloaded: it would be refused at once.
        """
        queue = self._queues.get(endpoint.endpoint_id)
        if queue is None or not queue.waiting or self._any_room(_replicas(endpoint)):
            return
        share = self._shares.get(key.tenant_id, 1.0)
        reason = queue.refusal(slo_class, key.tenant_id, share, self._clock())
        if reason is not None:
            raise self._overloaded(endpoint, slo_class, reason)

    def crowded(self, endpoint: Endpoint) -> bool:
        """Say whether a request to ``endpoint`` would have to wait behind others now."""
        queue = self._queues.get(endpoint.endpoint_id)
        return queue is not None and bool(queue.waiting) and not self._any_room(_replicas(endpoint))

    async def enter(self, demand: Demand, seat: Callable[[], bool]) -> None:
        """Wait for a place. ``seat`` takes one at a replica with room and says whether there was one.

        Whoever is cancelled while waiting finds its place taken or not, as ``seat`` left it.

        Raises:
            Overloaded: there is none and will be none in time.
        """
        # Whoever waits was asked first, whenever room appeared, so that what is there now is of no use to them.
        if not seat():
            await self._wait(self._queue(demand.endpoint), demand, seat)

    def left(self, demand: Demand, replica: Replica) -> None:
        """Note that a request gave its place at ``replica`` up, so that the next one may have it."""
        if self._waiting:
            self._admit_to(demand, replica)

    def observed(self, demand: Demand, replica: Replica, *, ttft_ms: float) -> None:
        """Note how long ``replica`` took for a first token, from asking it."""
        limiter = self._limiter(replica)
        grew = limiter.observe(
            ttft_ms=ttft_ms,
            target_ms=demand.slo_class.ttft_ms,
            in_flight=self._outstanding.get(replica.replica_id, 0),
            now=self._clock(),
        )
        if grew and self._waiting:
            self._admit_to(demand, replica)

    def overloaded(self, replica: Replica) -> None:
        """Note that ``replica`` refused a request for want of room, or kept it waiting too long."""
        self._limiter(replica).overloaded(
            in_flight=self._outstanding.get(replica.replica_id, 0), now=self._clock()
        )

    def read(self, replica: Replica, metrics: str) -> None:
        """Look through what ``replica`` shows of itself for a KV cache that is nearly full: that is overload."""
        # One that works on nothing may still show what it needed last.
        if self._outstanding.get(replica.replica_id) and (kv_share(metrics) or 0.0) >= SHORT_OF_MEMORY:
            self._pressure.update(self._served_by.get(replica.replica_id, ()))
            self.overloaded(replica)

    def changed(self) -> None:
        """Let in whoever finds room, which may have appeared anywhere."""
        if self._waiting:
            for endpoint_id, queue in self._queues.items():
                endpoint = self._endpoints.get(endpoint_id)
                if queue.waiting and endpoint is not None:
                    self._admit(endpoint, queue, tuple(_replicas(endpoint)))

    def state(self) -> Mapping[str, QueueState]:
        """Describe every endpoint of the snapshot in use, by id."""
        now = self._clock()
        states = {}
        for endpoint_id, endpoint in self._endpoints.items():
            queue = self._queues.get(endpoint_id)
            states[endpoint_id] = QueueState(
                waiting=queue.by_class() if queue else {},
                oldest_s=queue.oldest_s(now) if queue else {},
                shed=dict(self._shed.get(endpoint_id, {})),
                limits={replica.replica_id: self._limiter(replica).limit for replica in _replicas(endpoint)},
                pressure=self._pressure[endpoint_id],
                admitted_per_s=queue.admitted_per_s(now) if queue else None,
            )
        return states

    async def _wait(self, queue: EndpointQueue, demand: Demand, seat: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        endpoint, slo_class = demand.endpoint, demand.slo_class
        waiter = Waiter(
            slo_class=slo_class,
            tenant_id=demand.key.tenant_id,
            share=self._shares.get(demand.key.tenant_id, 1.0),
            tokens=demand.most_tokens,
            arrived=self._clock(),
            seat=seat,
            verdict=loop.create_future(),
        )
        shed = queue.push(waiter)
        if shed is not None:
            if shed.waiter is waiter:
                raise self._overloaded(endpoint, slo_class, shed.reason)
            self._waiting -= 1
            self._turn_away(endpoint, shed)
        self._waiting += 1
        self._look_again()
        timer = loop.call_later(slo_class.queue_s, self._expire, endpoint, queue, waiter)
        try:
            refusal = await waiter.verdict
        finally:
            timer.cancel()
            if waiter.waiting:
                queue.remove(waiter)
                self._waiting -= 1
        if refusal is not None:
            raise refusal

    def _admit_to(self, demand: Demand, replica: Replica) -> None:
        for endpoint_id in self._served_by.get(replica.replica_id, (demand.endpoint.endpoint_id,)):
            queue = self._queues.get(endpoint_id)
            if queue is not None and queue.waiting:
                self._admit(self._endpoints.get(endpoint_id, demand.endpoint), queue, (replica,))

    def _admit(self, endpoint: Endpoint, queue: EndpointQueue, replicas: Sequence[Replica]) -> None:
        """Let in who waits, as long as one of ``replicas`` has room."""
        measured = queue.measured
        while queue.waiting and self._any_room(replicas) and self._admit_one(queue):
            pass
        if queue.measured and not measured:
            for shed in queue.trim(self._clock()):
                self._waiting -= 1
                self._turn_away(endpoint, shed)

    def _admit_one(self, queue: EndpointQueue) -> bool:
        for waiter in itertools.islice(queue.candidates(), _LOOKED_AT):
            if waiter.verdict.done():  # its client has just left
                queue.remove(waiter)
                self._waiting -= 1
                return True
            failure: Exception | None = None
            try:
                if not waiter.seat():
                    continue
            except Exception as error:  # noqa: BLE001 - it belongs to the one that waits, not to whoever left
                failure = error
            waiter.verdict.set_result(failure)
            queue.take(waiter, self._clock())
            self._waiting -= 1
            return True
        return False

    def _any_room(self, replicas: Iterable[Replica]) -> bool:
        outstanding = self._outstanding
        return any(self.has_room(replica, outstanding.get(replica.replica_id, 0)) for replica in replicas)

    def _expire(self, endpoint: Endpoint, queue: EndpointQueue, waiter: Waiter) -> None:
        if waiter.waiting:
            queue.expire(waiter)
            self._waiting -= 1
            self._turn_away(endpoint, Shed(waiter, Reason.DEADLINE))

    def _turn_away(self, endpoint: Endpoint, shed: Shed) -> None:
        if not shed.waiter.verdict.done():  # else its client has just left
            shed.waiter.verdict.set_result(self._overloaded(endpoint, shed.waiter.slo_class, shed.reason))

    def _overloaded(self, endpoint: Endpoint, slo_class: SloClass, reason: Reason) -> errors.Overloaded:
        self._shed.setdefault(endpoint.endpoint_id, Counter())[(slo_class.name, reason)] += 1
        queue = self._queue(endpoint)
        retry_after_s = queue.retry_after_s(slo_class.priority, self._clock())
        why = _WHY[reason].format(slo_class=slo_class.name, queue_s=slo_class.queue_s)
        return errors.Overloaded(
            f"Endpoint {endpoint.name} is overloaded: {why}. Try again in {retry_after_s} s.",
            retry_after_s=retry_after_s,
        )

    def _look_again(self) -> None:
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._looked)

    def _looked(self) -> None:
        self._look = None
        self.changed()
        if self._waiting:
            self._look_again()

    def _queue(self, endpoint: Endpoint) -> EndpointQueue:
        queue = self._queues.get(endpoint.endpoint_id)
        if queue is None:
            queue = self._queues[endpoint.endpoint_id] = EndpointQueue(
                most=self._most_waiting, places=lambda: self._places(endpoint)
            )
        return queue

    def _places(self, endpoint: Endpoint) -> int:
        return sum(self._limiter(replica).limit for replica in _replicas(self.newest(endpoint)))

    def _limiter(self, replica: Replica) -> Limiter:
        limiter = self._limiters.get(replica.replica_id)
        if limiter is None:
            limiter = self._limiters[replica.replica_id] = Limiter(self._planned(replica))
        return limiter

    def _planned(self, replica: Replica) -> int | None:
        if replica.concurrency is None:
            return None
        return max(1, replica.concurrency // self._gateways)


_WHY: Final = {
    Reason.HOPELESS: "a {slo_class} request would wait longer than the {queue_s:g} s its class allows",
    Reason.DISPLACED: "too many {slo_class} requests wait, and this was the newest of those who sent the most",
    Reason.FULL: "its queue is full, and {slo_class} requests are the least urgent",
    Reason.DEADLINE: "a {slo_class} request found no free replica within the {queue_s:g} s its class allows",
}


def _replicas(endpoint: Endpoint) -> Iterable[Replica]:
    return (replica for route in endpoint.routes for replica in route.replicas if not replica.draining)
