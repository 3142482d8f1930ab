"""From an endpoint and a prompt to a stream of an engine, trying again before the first byte."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gateway import errors, routing
from gateway.admission import Admission
from gateway.contract import Endpoint, EngineProtocol, Key, Replica, SloClass
from gateway.demand import Demand
from gateway.directory import Directory
from gateway.engines.base import (
    ContextLengthExceeded,
    Engine,
    EngineError,
    EngineOverloaded,
    EngineRequest,
    EngineStream,
    EngineTimedOut,
    RequestRefused,
)
from gateway.failures import answered_4xx, explain, left_alone, not_there
from gateway.metrics import Metrics
from gateway.replicas import ReplicaBook, Visit
from gateway.timing import Timing

_log = logging.getLogger(__name__)


class Dispatcher:
    """Chooses replicas and remembers how they did."""

    def __init__(
        self,
        engines: Mapping[EngineProtocol, Engine],
        *,
        book: ReplicaBook,
        admission: Admission,
        metrics: Metrics,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engines = engines
        self.book = book
        self.admission = admission
        self.metrics = metrics
        self.rng = rng
        self.clock = clock
        self.prefixes = routing.PrefixIndex(clock=clock)
        self._directory: Directory | None = None
        self._retries: dict[str, routing.RetryBudget] = {}
        self._tried_again: dict[str, Counter[str]] = {}

    def check(self, endpoint: Endpoint, slo_class: SloClass, key: Key) -> None:
        """Turn a request away before anything is done for it, if it would find no room in time.

        Raises:
            Overloaded: it would be refused at once.
        """
        self.admission.check(endpoint, slo_class, key)

    def crowded(self, endpoint: Endpoint) -> bool:
        """Say whether requests wait for ``endpoint`` now."""
        return self.admission.crowded(endpoint)

    def exchange(
        self,
        demand: Demand,
        *,
        request_id: str,
        options: Sequence[routing.Option],
        residency: str | None,
        deadline: float,
        timing: Timing,
    ) -> Exchange:
        """Prepare one request to one of ``options``, over by ``deadline``. The caller closes it, however it ends.

        ``residency`` is what its replicas satisfy besides that of their endpoint, None for nothing.
        """
        return Exchange(self, demand, request_id, options, residency, deadline, timing)

    def retries(self, endpoint_id: str) -> routing.RetryBudget:
        """Give the retry budget of an endpoint."""
        budget = self._retries.get(endpoint_id)
        if budget is None:
            budget = self._retries[endpoint_id] = routing.RetryBudget()
        return budget

    def tried_again(self, endpoint_id: str) -> Mapping[str, int]:
        """Give how many requests revisions failed that were then tried again, since the endpoint has several."""
        return self._tried_again.get(endpoint_id, {})

    def count_again(self, endpoint: Endpoint, revision_id: str) -> None:
        """Note that a revision failed a request that is tried again; of an only one the request itself tells."""
        if len(endpoint.routes) > 1:
            self._tried_again.setdefault(endpoint.endpoint_id, Counter())[revision_id] += 1

    def newest(self, endpoint: Endpoint) -> Endpoint:
        """Give ``endpoint`` as the snapshot in use has it: replicas may come and go while a request waits."""
        return (self._directory and self._directory.by_id(endpoint.endpoint_id)) or endpoint

    def use(self, directory: Directory) -> None:
        """Take up a new snapshot."""
        self._directory = directory
        for endpoint_id in list(self._retries):
            if directory.by_id(endpoint_id) is None:
                del self._retries[endpoint_id]
        for endpoint_id in list(self._tried_again):
            endpoint = directory.by_id(endpoint_id)
            if endpoint is None or len(endpoint.routes) < 2:
                del self._tried_again[endpoint_id]


class Exchange:
    """One request's way to an engine. ``target`` is the last replica asked, None while none was."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        demand: Demand,
        request_id: str,
        options: Sequence[routing.Option],
        residency: str | None,
        deadline: float,
        timing: Timing,
    ) -> None:
        self._dispatcher = dispatcher
        self._book = dispatcher.book
        self._admission = dispatcher.admission
        self._demand = demand
        self._timeouts = demand.slo_class.timeouts
        self._request_id = request_id
        self._timing = timing
        self._endpoint = demand.endpoint
        self._residency = residency
        self._options = options
        self._single = _single(options)
        self._checked: Sequence[routing.Option] | None = None  # what was healthy a moment ago
        self._deadline = deadline
        self._session = routing.salted(demand.session, demand.key.tenant_id)
        self._cuts: list[int] | None = None
        self._revision_id: str | None = None
        self._failed: set[str] = set()
        self._stream: EngineStream | None = None
        self._visit: Visit | None = None
        self.target: routing.Target | None = None

    async def start(self, request: EngineRequest) -> EngineStream:
        """Get the first piece of an answer from some replica.

        Raises:
            ApiError: no replica may serve (503), all attempts failed (502, 503, 504), or the prompt
                is too long (400).
        """
        budget = self._dispatcher.retries(self._demand.endpoint.endpoint_id)
        budget.request(self._dispatcher.clock())
        failure: EngineError | None = None
        for attempts in range(max(1, self._timeouts.attempts)):
            if failure is not None and not await self._may_retry(budget, attempts, failure):
                break
            self._checked = self._healthy()
            if not self._checked:
                if failure is None:
                    raise left_alone(self._demand.endpoint)
                break
            self._timing.asks()
            await self._take_place()
            self._timing.admitted()
            assert self.target is not None
            assert self._visit is not None
            engine = self._dispatcher.engines[self.target.replica.protocol]
            asked = self._dispatcher.clock()
            try:
                self._stream = await engine.generate(
                    replica=self.target.replica, request=request, timeouts=self._timeouts
                )
            except ContextLengthExceeded as error:
                self.close()
                raise errors.invalid(
                    str(error) or "The prompt is longer than the model's context.",
                    code="context_length_exceeded",
                ) from error
            except RequestRefused as error:
                self.close()
                raise errors.engine_refused() from error
            except EngineError as error:
                failure = error
                self.blame(error)
                self.close()
            else:
                first_token_s = self._dispatcher.clock() - asked
                self._book.answered(self._visit, first_token_s=first_token_s)
                self._admission.observed(self._demand, self.target.replica, ttft_ms=first_token_s * 1000)
                if not self._single:
                    self._dispatcher.prefixes.remember(self._prefix(), self._visit.replica_id)
                return self._stream
        assert failure is not None
        raise explain(failure) from failure

    def blame(self, error: EngineError) -> None:
        """Note that the replica in use failed, or has no room, and that this request need not go there again."""
        assert self.target is not None
        assert self._visit is not None
        replica = self.target.replica
        self._failed.add(replica.replica_id)
        _log.warning("request %s: replica %s failed: %s", self._request_id, replica.replica_id, error)
        if isinstance(error, (EngineOverloaded, EngineTimedOut)):
            self._admission.overloaded(replica)
        if isinstance(error, EngineOverloaded):
            self._book.full(self._visit)
            return
        if not answered_4xx(error) or not_there(error):
            self._book.failed(self._visit)

    def close(self) -> None:
        """Let go of the engine at once; it stops if it was still generating. May be repeated."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._visit is not None and self._visit.open and self.target is not None:
            self._book.end(self._visit)
            self._admission.left(self._demand, self.target.replica)

    async def _may_retry(self, budget: routing.RetryBudget, attempts: int, failure: EngineError) -> bool:
        """Wait before another attempt; say whether there may be one."""
        if answered_4xx(failure):
            return False
        pause_s = routing.pause_s(self._timeouts, attempts, rng=self._dispatcher.rng)
        now = self._dispatcher.clock()
        needed_s = self._timeouts.first_token_s if isinstance(failure, EngineTimedOut) else 0.0
        if now + pause_s + needed_s >= self._deadline:
            return False
        if not budget.take(now):
            self._dispatcher.metrics.retries_refused(self._demand.endpoint.endpoint_id).inc()
            return False
        self._dispatcher.metrics.retries(self._demand.endpoint.endpoint_id).inc()
        if self.target is not None and not isinstance(failure, EngineOverloaded):
            self._dispatcher.count_again(self._endpoint, self.target.revision_id)
        await asyncio.sleep(pause_s)
        return True

    async def _take_place(self) -> None:
        """Wait for a place in the revision that was drawn, and for a session at its replica.

        Raises:
            ApiError: there was none in time, and there is none anywhere else.
        """
        try:
            await self._admission.enter(self._demand, self._seat)
        except errors.Overloaded:
            # Shares of revisions are kept as long as nobody is turned away for it.
            if self._single or not self._sit(self._healthy()):
                raise
            self._dispatcher.metrics.moved(self._demand.endpoint.endpoint_id).inc()

    def _seat(self) -> bool:
        """Take a place where this request is to go, if there is one."""
        options, self._checked = self._checked or self._healthy(), None
        if not options:
            return False
        option = options[0]
        if len(options) > 1:
            drawn = [option for option in options if option.revision_id == self._revision_id]
            option = drawn[0] if drawn else self._draw(options)
        if self._session and len(option.replicas) > 1:
            sticky = routing.stick(option.replicas, session=self._session, rng=self._dispatcher.rng)
            option = option._replace(replicas=(sticky,))
        return self._sit((option,))

    def _draw(self, options: Sequence[routing.Option]) -> routing.Option:
        option = routing.draw_revision(options, session=self._session, rng=self._dispatcher.rng)
        self._revision_id = option.revision_id
        return option

    def _sit(self, options: Sequence[routing.Option]) -> bool:
        """Take a place at the best replica of ``options`` that has room."""
        if _single(options):
            free = options if self._has_room(options[0].replicas[0]) else ()
        else:
            free = routing.narrowed(options, self._has_room)
        if not free:
            return False
        option = free[0] if len(free) == 1 else self._draw(free)
        replicas = option.replicas
        replica = replicas[0] if len(replicas) == 1 else self._best(replicas)
        self.target = routing.Target(option.revision_id, replica)
        self._visit = self._book.begin(replica.replica_id, self._demand.most_tokens)
        return True

    def _has_room(self, replica: Replica) -> bool:
        return self._admission.has_room(replica, self._book.outstanding.get(replica.replica_id, 0))

    def _best(self, replicas: Sequence[Replica]) -> Replica:
        ids = {replica.replica_id for replica in replicas}
        prompt = self._demand.prompt
        scores = routing.scores(
            replicas,
            tokens=self._book.tokens,
            own=self._demand.most_tokens,
            matched=self._dispatcher.prefixes.matched(self._prefix(), len(prompt), ids),
            warmth=self._book.warmth(ids),
        )
        return routing.pick(replicas, scores, rng=self._dispatcher.rng)

    def _prefix(self) -> list[int]:
        if self._cuts is None:
            salt = routing.salted(self._demand.endpoint.endpoint_id, self._demand.key.tenant_id)
            self._cuts = routing.cuts(self._demand.prompt, salt=salt)
        return self._cuts

    def _healthy(self) -> Sequence[routing.Option]:
        """Give what may be asked now: replicas that neither failed this request nor others, or else what is left."""
        book, failed = self._book, self._failed
        newest = self._dispatcher.newest(self._endpoint)
        if newest is not self._endpoint:
            self._endpoint = newest
            self._options = routing.options(
                newest,
                residency=self._residency,
                needs=self._demand.needs,
                revision_id=self._demand.key.revision_id,
            )
            self._single = _single(self._options)
        if self._single:
            return self._options if book.passable(self._options[0].replicas[0].replica_id) else ()
        peers = [replica.replica_id for option in self._options for replica in option.replicas]
        book.judge(self._demand.endpoint.endpoint_id, peers)
        if not failed and all(map(book.usable, peers)):
            return self._options
        return (
            routing.narrowed(
                self._options, lambda it: it.replica_id not in failed and book.usable(it.replica_id)
            )
            or routing.narrowed(
                self._options, lambda it: it.replica_id not in failed and book.passable(it.replica_id)
            )
            or routing.narrowed(self._options, lambda it: book.passable(it.replica_id))
        )


def _single(options: Sequence[routing.Option]) -> bool:
    return len(options) == 1 and len(options[0].replicas) == 1
