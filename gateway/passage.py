"""One request's way from its decoded body to an engine's answer: candidates, prompt, gates, engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from gateway import chat_template, errors
from gateway.contract import Endpoint, Key, SloClass
from gateway.demand import Demand
from gateway.directory import Directory
from gateway.dispatch import Dispatcher, Exchange
from gateway.engines.base import EngineRequest, EngineStream
from gateway.gates import Gate
from gateway.requests import Call
from gateway.ticket import Ticket
from gateway.tokens import TokenCounter

SESSION_HEADER: Final = "x-berth-session"


class Desk(NamedTuple):
    """What every request is served with."""

    dispatcher: Dispatcher
    gates: Sequence[Gate]
    counter: TokenCounter


class Passage:
    """``endpoint`` and ``exchange`` are those in use, None until one is tried. Close it, however it ends.

    ``slo_class`` names a class that takes the place of the key's, empty for none.
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
        self._asked_class = slo_class or key.slo_class
        self.endpoint = directory.endpoint(key, call.model)
        self.slo_class: SloClass = directory.slo_class(self.endpoint, self._asked_class)
        self.exchange: Exchange | None = None
        ticket.endpoint = self.endpoint
        ticket.slo_class = self.slo_class.name

    async def begin(self) -> EngineStream:
        """Get the first piece of an answer.

        Raises:
            ApiError: refused, or failed before the first byte.
        """
        prompt = self._prompt(self.endpoint)
        demand = await self._demand(self.endpoint, prompt)
        for gate in self._desk.gates:
            self._ticket.permits.append(await gate.enter(demand))
        self.exchange = self._desk.dispatcher.exchange(
            demand, request_id=self._request_id, timing=self._ticket.timing
        )
        request = msgspec.structs.replace(
            self._call.sampling,
            prompt=prompt,
            max_tokens=demand.max_tokens,
            traceparent=self._ticket.trace.traceparent if self._ticket.trace else "",
        )
        return await self._start(self.exchange, request)

    async def _start(self, exchange: Exchange, request: EngineRequest) -> EngineStream:
        try:
            return await exchange.start(request)
        finally:
            self._ticket.target = exchange.target

    def close(self) -> None:
        """Let go of the engine at once. May be repeated."""
        if self.exchange is not None:
            self.exchange.close()

    @property
    def max_tokens(self) -> int:
        """Most tokens of the answer."""
        return self._call.output_limit(self.endpoint)

    def _prompt(self, endpoint: Endpoint) -> str:
        if self._call.prompt is not None:
            return self._call.prompt
        assert self._call.messages is not None
        return chat_template.render(endpoint, self._call.messages)

    async def _demand(self, endpoint: Endpoint, prompt: str) -> Demand:
        count = await self._desk.counter.count(endpoint, prompt)
        max_tokens = self._call.output_limit(endpoint)
        caps = [endpoint.context_tokens, self._key.context_tokens, self.slo_class.context_tokens]
        cap = min(cap for cap in caps if cap is not None)
        if count.exact and count.tokens + max_tokens > cap:
            raise errors.context_too_long(
                prompt_tokens=count.tokens, max_tokens=max_tokens, context_tokens=cap
            )
        return Demand(
            key=self._key,
            endpoint=endpoint,
            slo_class=self.slo_class,
            prompt=prompt,
            input_tokens=min(count.tokens, endpoint.context_tokens),
            exact=count.exact,
            max_tokens=max_tokens,
            session=self._headers.get(SESSION_HEADER, "")[:128],
        )
