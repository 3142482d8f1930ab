"""From an endpoint and a prompt to a stream of an engine, trying again before the first byte."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Mapping
from typing import Final

from gateway import errors, routing
from gateway.admission import Admission
from gateway.contract import Endpoint, EngineProtocol
from gateway.demand import Demand
from gateway.engines.base import (
    ContextLengthExceeded,
    Engine,
    EngineAnsweredError,
    EngineError,
    EngineRequest,
    EngineStream,
    EngineTimedOut,
    EngineUnreachable,
)
from gateway.replicas import ReplicaBook
from gateway.timing import Timing

_log = logging.getLogger(__name__)
_RETRY_AFTER_S: Final = {"provisioning": 10, "waiting": 30, "paused": 60, "scaled-to-zero": 10}


class Dispatcher:
    """Chooses replicas and remembers how they did."""

    def __init__(
        self,
        engines: Mapping[EngineProtocol, Engine],
        *,
        book: ReplicaBook,
        admission: Admission,
        rng: random.Random,
    ) -> None:
        self._engines = engines
        self._book = book
        self._admission = admission
        self._rng = rng

    def exchange(self, demand: Demand, *, request_id: str, timing: Timing) -> Exchange:
        """Prepare one request. The caller closes it, however it ends."""
        return Exchange(self._engines, self._book, self._admission, self._rng, demand, request_id, timing)


class Exchange:
    """One request's way to an engine. ``target`` is the last replica asked, None while none was."""

    def __init__(
        self,
        engines: Mapping[EngineProtocol, Engine],
        book: ReplicaBook,
        admission: Admission,
        rng: random.Random,
        demand: Demand,
        request_id: str,
        timing: Timing,
    ) -> None:
        self._engines = engines
        self._book = book
        self._admission = admission
        self._rng = rng
        self._demand = demand
        self._endpoint = demand.endpoint
        self._timeouts = demand.slo_class.timeouts
        self._request_id = request_id
        self._timing = timing
        self._stream: EngineStream | None = None
        self._open = False
        self.target: routing.Target | None = None

    async def start(self, request: EngineRequest) -> EngineStream:
        """Get the first piece of an answer from some replica.

        Raises:
            ApiError: no replica may serve (503), all attempts failed (502, 503, 504), or the prompt
                is too long (400).
        """
        endpoint = self._endpoint
        failed: set[str] = set()
        failure: EngineError | None = None
        for _ in range(max(1, self._timeouts.attempts)):
            self.close()
            if self._choose(failed) is None:
                raise _not_ready(endpoint)
            self._timing.asks()
            await self._admission.enter(self._demand, lambda: self._seat(failed))
            self._timing.admitted()
            target = self.target
            assert target is not None
            engine = self._engines[target.replica.protocol]
            try:
                self._stream = await engine.generate(
                    replica=target.replica, request=request, timeouts=self._timeouts
                )
            except ContextLengthExceeded as error:
                raise errors.invalid(
                    str(error) or "The prompt is longer than the model's context.",
                    code="context_length_exceeded",
                ) from error
            except EngineError as error:
                failure = error
                failed.add(target.replica.replica_id)
                self.blame(error)
            else:
                self._book.answered(target.replica.replica_id)
                return self._stream
        assert failure is not None
        raise explain(failure) from failure

    def blame(self, error: EngineError) -> None:
        """Note that the replica in use failed, and avoid it for a while if it seems broken."""
        assert self.target is not None
        replica_id = self.target.replica.replica_id
        _log.warning("request %s: replica %s failed: %s", self._request_id, replica_id, error)
        if not (isinstance(error, EngineAnsweredError) and 400 <= error.status < 500):
            self._book.failed(replica_id)

    def close(self) -> None:
        """Let go of the engine at once; it stops if it was still generating. May be repeated."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._open and self.target is not None:
            self._open = False
            self._book.end(self.target.replica.replica_id)
            self._admission.left(self._demand, self.target.replica)

    def _choose(self, failed: set[str], full: Collection[str] = ()) -> routing.Target | None:
        tripped = self._book.tripped()
        # A replica that failed is better than none: it may be the only one, and just back.
        for avoided in ({*failed, *tripped}, failed, set[str]()):
            excluded = {*avoided, *full}
            target = routing.choose(
                self._endpoint, excluded=excluded, outstanding=self._book.outstanding, rng=self._rng
            )
            if target is not None:
                return target
        return None

    def _seat(self, failed: set[str]) -> bool:
        """Take a place at the best replica that has room."""
        outstanding = self._book.outstanding
        full = {
            replica.replica_id
            for route in self._endpoint.routes
            for replica in route.replicas
            if not self._admission.has_room(replica, outstanding.get(replica.replica_id, 0))
        }
        target = self._choose(failed, full)
        if target is None:
            return False
        self.target = target
        self._open = True
        self._book.begin(target.replica.replica_id)
        return True


def explain(error: EngineError) -> errors.ApiError:
    """Turn an engine's failure into what a client is told."""
    if isinstance(error, EngineTimedOut):
        return errors.engine_failed(f"The engine was too slow: {error}.", status=504, code="engine_timeout")
    if isinstance(error, EngineUnreachable):
        return errors.engine_failed(
            "The engine cannot be reached; it may be restarting.", status=503, code="engine_unreachable"
        )
    if isinstance(error, EngineAnsweredError) and error.status == 503:
        return errors.engine_failed("The engine is overloaded.", status=503, code="engine_overloaded")
    return errors.engine_failed("The engine failed to answer this request.")


def _not_ready(endpoint: Endpoint) -> errors.ApiError:
    if endpoint.state == "ready":
        reason = f"has no replica that is ready and satisfies its residency ({endpoint.residency})"
    else:
        reason = f"is not ready: {endpoint.state}"
    return errors.not_ready(
        f"Endpoint {endpoint.name} {reason}.", retry_after_s=_RETRY_AFTER_S.get(endpoint.state, 5)
    )
