"""One request's way from its decoded body to an engine's answer: candidates, prompt, gates, engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from gateway import candidates, caps, errors, keys, routing
from gateway.contract import Endpoint, Key, OnOverload, SloClass
from gateway.demand import Demand
from gateway.directory import Directory
from gateway.dispatch import Dispatcher, Exchange
from gateway.engines import features
from gateway.engines.base import EngineStream
from gateway.gates import Gate
from gateway.metrics import Metrics
from gateway.prompts import Prompts
from gateway.requests import Call
from gateway.routing import named
from gateway.tallies import Level
from gateway.ticket import Ticket
from gateway.tokens import TokenCounter
from gateway.waking import Waking, asked_hold_s

SESSION_HEADER: Final = "x-berth-session"
FALLBACK_HEADER: Final = "x-berth-fallback"
SHORTENED_HEADER: Final = "x-berth-shortened"
_SESSION_LIMIT: Final = 128


class Desk(NamedTuple):
    """What every request is served with."""

    dispatcher: Dispatcher
    gates: Sequence[Gate]
    counter: TokenCounter
    waking: Waking
    metrics: Metrics


class Passage:
    """``endpoint``, ``slo_class`` and ``exchange`` are those in use; ``headers`` tell the client of them.

    Those of a named route are known once it is resolved. Close it, however it ends. ``slo_class`` names a class above
    which the request may not be, empty for none.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        directory: Directory,
        key: Key,
        call: Call,
        headers: Mapping[str, str],
        ticket: Ticket,
        request_id: str,
        slo_class: str = "",
    ) -> None:
        self._desk = desk
        self._directory = directory
        self._key = key
        self._call = call
        self._headers = headers
        self._ticket = ticket
        self._request_id = request_id
        self._asked_classes = (key.slo_class, slo_class)
        self._session = headers.get(SESSION_HEADER, "")[:_SESSION_LIMIT]
        self._needs = frozenset(call.needs)
        self._prompts = Prompts(call, desk.counter)
        self._began = desk.dispatcher.clock()
        self._route = directory.named_routes(key).get(call.model)
        self._level: Level | None = None
        self.exchange: Exchange | None = None
        self.headers: dict[str, str] = {}
        self.max_tokens = 0  # of the answer, at most
        self.endpoint: Endpoint
        self.slo_class: SloClass
        if self._route is None:
            endpoint = directory.endpoint(key, call.model)
            self._use(endpoint)
            keys.require_target(key, endpoint.endpoint_id, call.model)
        else:
            ticket.route_id = self._route.route_id
            keys.require_target(key, self._route.route_id, call.model)
            self._use(candidates.main_target(directory, key, self._route))

    async def resolve(self) -> None:
        """Find the endpoint of a named route. May be repeated.

        Raises:
            ApiError: no rule takes the request (400), or nothing here may serve it (503).
        """
        route = self._route
        if route is None:
            return
        main = self.endpoint
        endpoint = candidates.route_target(
            self._directory,
            self._key,
            route,
            slo_class=self.slo_class.name,
            input_tokens=await self._prompts.about(main) if named.measures(route) else 0,
            headers=self._headers,
            session=self._session,
            rng=self._desk.dispatcher.rng,
        )
        self._route = None
        self._use(endpoint)

    async def begin(self) -> EngineStream:
        """Get the first piece of an answer: of the endpoint or, if it cannot, as its class then says.

        Raises:
            ApiError: refused, or failed before the first byte.
        """
        await self.resolve()
        self._count_at(self.endpoint)
        options = self._options(self.endpoint) or await self._woken()
        policy, shorter_context = self.slo_class.on_overload, self.slo_class.degraded_context_tokens
        if policy is OnOverload.SHORTEN and shorter_context is not None and options:
            return await self._shorten(options, shorter_context)
        answer = await self._ask(self.endpoint, self.slo_class, options)
        if not isinstance(answer, errors.Unserved):
            return answer
        if policy is OnOverload.FALLBACK and self.endpoint.fallbacks:
            return await self._fall_back(answer)
        raise answer

    def close(self) -> None:
        """Let go of the engine at once. May be repeated."""
        if self.exchange is not None:
            self.exchange.close()
        if self._level is not None:
            self._level.dec()
            self._level = None

    def _count_at(self, endpoint: Endpoint) -> None:
        """Count the request as in progress at ``endpoint`` from now on."""
        level = self._desk.metrics.endpoint_in_flight(endpoint.endpoint_id)
        level.inc()
        if self._level is not None:
            self._level.dec()
        self._level = level

    def _use(self, endpoint: Endpoint) -> None:
        self.endpoint = self._ticket.endpoint = endpoint
        self.slo_class = self._directory.slo_class(endpoint, *self._asked_classes)
        self._ticket.slo_class = self.slo_class.name

    def _options(self, endpoint: Endpoint, *, residency: str | None = None) -> Sequence[routing.Option]:
        return routing.options(
            endpoint, residency=residency, needs=self._needs, revision_id=self._key.revision_id
        )

    async def _woken(self) -> Sequence[routing.Option]:
        """Have the endpoint woken if it sleeps, and wait for it: as long as it says, or as its client asks."""
        endpoint = self.endpoint
        if endpoint.state == "scaled-to-zero":
            self._desk.waking.want(endpoint.endpoint_id)
        left_s = self._began + self.slo_class.timeouts.total_s - self._desk.dispatcher.clock()
        # Whoever stands in for it and is awake answers at once, unless the client asks to be held.
        default_s = 0.0 if self._stands_in() else endpoint.wake_hold_s
        hold_s = asked_hold_s(self._headers, default_s=default_s, most_s=left_s)
        if not hold_s:
            return ()
        directory = await self._desk.waking.hold(self._directory, endpoint.endpoint_id, hold_s)
        if not directory.knows(self._key):
            raise keys.unknown()
        self._directory = directory
        if (found := directory.callable_by(self._key, endpoint.endpoint_id)) is None:
            raise errors.model_not_found(self._call.model)
        self._use(found)
        return self._options(found)

    def _stands_in(self) -> bool:
        """Say whether a fallback would take the request now."""
        return self.slo_class.on_overload is OnOverload.FALLBACK and any(
            routing.options(fallback, residency=self.endpoint.residency, needs=self._needs)
            for fallback in candidates.fallbacks(self._directory, self.endpoint)
        )

    async def _ask(
        self,
        endpoint: Endpoint,
        slo_class: SloClass,
        options: Sequence[routing.Option],
        *,
        residency: str | None = None,
        max_tokens: int | None = None,
    ) -> EngineStream | errors.Unserved:
        """Ask one endpoint; gives the refusal if another might serve the request, which no gate ever says.

        ``residency`` is that of the endpoint that it stands in for; ``max_tokens`` takes the place of what the
        client's request may have.

        Raises:
            ApiError: it is refused for good.
        """
        features.require(endpoint, self._call.needs)
        if not options:
            return candidates.not_ready(endpoint)
        try:
            self._desk.dispatcher.check(endpoint, slo_class, self._key)
        except errors.Overloaded as refusal:
            return refusal
        demand = await self._demand(endpoint, slo_class, max_tokens)
        for gate in self._desk.gates:
            self._ticket.permits.append(await gate.enter(demand))
        exchange = self.exchange = self._desk.dispatcher.exchange(
            demand,
            request_id=self._request_id,
            options=options,
            residency=residency,
            deadline=self._began + self.slo_class.timeouts.total_s,
            timing=self._ticket.timing,
        )
        self.max_tokens = demand.max_tokens
        request = msgspec.structs.replace(
            self._call.sampling,
            prompt=demand.prompt,
            max_tokens=demand.max_tokens,
            cache_salt=self._directory.cache_salt(self._key.tenant_id),
            priority=1 / max(1, slo_class.priority),
            traceparent=self._ticket.trace.traceparent if self._ticket.trace else "",
        )
        try:
            return await exchange.start(request)
        except errors.Unserved as refusal:
            return refusal
        finally:
            self._ticket.target = exchange.target

    async def _demand(self, endpoint: Endpoint, slo_class: SloClass, max_tokens: int | None) -> Demand:
        call, prompt, count = self._call, self._prompts.text(endpoint), await self._prompts.count(endpoint)
        if max_tokens is None:
            cap = caps.context_cap(endpoint, self._key, slo_class)
            max_tokens = caps.answer_tokens(call, endpoint=endpoint, cap=cap, count=count)
        input_tokens, exact = count.tokens, count.exact
        if call.overhead_tokens:
            # Of a prompt that the engine makes only a bound is known: no text has more tokens than bytes.
            input_tokens, exact = len(prompt.encode()) + call.overhead_tokens, False
        return Demand(
            key=self._key,
            endpoint=endpoint,
            slo_class=slo_class,
            prompt=prompt,
            input_tokens=min(input_tokens, endpoint.context_tokens * call.inputs),
            exact=exact,
            max_tokens=max_tokens,
            choices=call.sampling.choices,
            needs=self._needs,
            session=self._session,
        )

    async def _shorten(self, options: Sequence[routing.Option], context_tokens: int) -> EngineStream:
        """Ask the endpoint, with an answer cut to fit ``context_tokens`` while there is little room.

        It is cut from the start while others wait, so that all get their turn the sooner, and else once it is refused.

        Raises:
            ApiError: it is refused either way, or its prompt leaves no room for an answer.
        """
        endpoint, slo_class = self.endpoint, self.slo_class
        whole = (await self._demand(endpoint, slo_class, None)).max_tokens
        count = await self._prompts.count(endpoint)
        shorter = caps.shortened(whole, cap_tokens=context_tokens, count=count)
        cuts = 0 < shorter < whole
        refusal: errors.Unserved | None = None
        if not cuts or not self._desk.dispatcher.crowded(endpoint):
            answer = await self._ask(endpoint, slo_class, options)
            if not isinstance(answer, errors.Unserved):
                return answer
            refusal = answer
            if isinstance(refusal, errors.Overloaded) and shorter < 1 <= whole:
                raise errors.Overloaded(
                    f"Endpoint {endpoint.name} has little room and takes prompts with their answers up to"
                    f" {context_tokens} tokens now; this prompt is longer. Send it again later, or a shorter one.",
                    retry_after_s=refusal.retry_after_s or 1,
                )
            if not isinstance(refusal, errors.Overloaded) or not cuts:
                raise refusal
            self._ticket.withdraw()
        answer = await self._ask(endpoint, slo_class, options, max_tokens=shorter)
        if isinstance(answer, errors.Unserved):
            raise refusal or answer
        self.headers[SHORTENED_HEADER] = str(shorter)
        self._desk.metrics.shortened(endpoint.endpoint_id).inc()
        return answer

    async def _fall_back(self, refusal: errors.Unserved) -> EngineStream:
        """Try the endpoint's fallbacks, on replicas that satisfy its own residency as well.

        Raises:
            ApiError: ``refusal``, if none of them serves it.
        """
        origin, target = self.endpoint, self._ticket.target
        for fallback in candidates.fallbacks(self._directory, origin):
            slo_class = self._directory.slo_class(fallback, *self._asked_classes)
            options = self._options(fallback, residency=origin.residency)
            if fallback.state == "scaled-to-zero" and not options:
                self._desk.waking.want(fallback.endpoint_id)
            self._ticket.withdraw()
            self._ticket.endpoint, self._ticket.slo_class = fallback, slo_class.name
            self._count_at(fallback)
            try:
                answer = await self._ask(fallback, slo_class, options, residency=origin.residency)
            except errors.ApiError:
                # Its context may be too small, or its price more than a budget has left.
                continue
            if not isinstance(answer, errors.Unserved):
                self.headers[FALLBACK_HEADER] = fallback.name
                self._desk.metrics.fallbacks(origin.endpoint_id, fallback.endpoint_id).inc()
                self.endpoint, self.slo_class = fallback, slo_class
                return answer
        self._ticket.withdraw()
        self._ticket.target = target
        self._ticket.endpoint, self._ticket.slo_class = origin, self.slo_class.name
        self._count_at(origin)
        raise refusal
