"""The one seam that every billable request passes: from bearer key to last byte, metered once."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiohttp import web

from gateway import errors, keys
from gateway.addresses import Addresses
from gateway.choices import Choice
from gateway.contract import Key, Outcome, Verb
from gateway.directory import Directory
from gateway.engines.base import EngineError, EngineStream
from gateway.failures import explain
from gateway.freshness import Freshness
from gateway.metering.meter import Meter
from gateway.metering.records import UsageRecord
from gateway.metrics import Metrics
from gateway.passage import Desk, Passage
from gateway.protocol import read_body
from gateway.replies import Reply, vectors
from gateway.requests import Call
from gateway.ticket import Ticket
from gateway.tracing import Tracer

_log = logging.getLogger(__name__)
_ENDPOINT_HEADER: Final = "x-berth-endpoint"
_STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Arrival(NamedTuple):
    """One request. ``headers`` go out with a stream; ``read`` understands its body; ``verb`` is what it asks.

    ``request`` is None for one that did not come through a generating door, but as a line of a batch.
    ``slo_class`` names a class above which it may not be, empty for none.
    """

    request: web.Request | None
    request_id: str
    headers: Mapping[str, str]
    read: Callable[[bytes], Call]
    verb: Verb
    slo_class: str = ""


class Inference:
    """Serves generating requests. ``directory`` gives the snapshot in use, None while there is none."""

    def __init__(
        self,
        *,
        directory: Callable[[], Directory | None],
        desk: Desk,
        meter: Meter,
        metrics: Metrics,
        freshness: Freshness,
        tracer: Tracer | None,
        region: str,
        body_limit_bytes: int,
        addresses: Addresses,
    ) -> None:
        self._directory = directory
        self._addresses = addresses
        self._freshness = freshness
        self._tracer = tracer
        self._desk = desk
        self._meter = meter
        self._metrics = metrics
        self._region = region
        self._body_limit_bytes = body_limit_bytes
        self._tasks: set[asyncio.Task[object]] = set()
        self._aborting = False

    @property
    def in_flight(self) -> int:
        """Requests now in progress."""
        return len(self._tasks)

    def abort(self) -> None:
        """Break off every request: their clients get an error, their records say failed."""
        self._aborting = True
        for task in self._tasks:
            task.cancel()

    async def serve(self, arrival: Arrival) -> web.StreamResponse:
        """Answer one request.

        Raises:
            ApiError: it was refused or failed before its first byte; its record is written.
        """
        directory, request = self._directory(), arrival.request
        assert request is not None
        if directory is None:
            raise no_snapshot()
        try:
            key = directory.key(request.headers.get("authorization"))
        except errors.ApiError:
            self._metrics.unauthenticated.inc()
            raise

        def body() -> Awaitable[bytes]:
            return read_body(request, limit_bytes=self._body_limit_bytes)

        return await self._ticketed(arrival, directory, key, body)

    async def complete(
        self,
        *,
        key: Key,
        content: bytes,
        read: Callable[[bytes], Call],
        verb: Verb,
        request_id: str,
        slo_class: str,
    ) -> bytes:
        """Answer a request of ``key`` that came through no generating door, in no higher class than ``slo_class``.

        It passes all that others pass, and is metered as they are. Gives the body of the answer.

        Raises:
            ApiError: it was refused or failed; its record is written.
        """

        async def body() -> bytes:
            return content

        directory = self._directory()
        if directory is None:
            raise no_snapshot()
        arrival = Arrival(None, request_id, {}, read, verb, slo_class)
        response = await self._ticketed(arrival, directory, key, body)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return response.body

    async def _ticketed(
        self, arrival: Arrival, directory: Directory, key: Key, body: Callable[[], Awaitable[bytes]]
    ) -> web.StreamResponse:
        """Answer one request whose key is known; however that ends, one record is written."""
        ticket = Ticket(request_id=arrival.request_id, key=key, region=self._region, write=self._write)
        if self._tracer is not None:
            ticket.trace = self._tracer.begin(arrival.request.headers if arrival.request is not None else {})
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._metrics.in_flight.inc()
        try:
            return await self._metered(arrival, directory, key, ticket, body)
        except errors.ApiError as error:
            error.more_headers = {**_permit_headers(ticket), **error.more_headers}
            failed = error.status >= 500 and (ticket.target is not None or isinstance(error, errors.Down))
            outcome = Outcome.FAILED if failed else Outcome.REFUSED
            ticket.close_quietly(outcome, status=error.status, code=error.code or error.type)
            raise
        except (asyncio.CancelledError, ConnectionError):
            # The client has left: the server cancels then, unless a write finds out first.
            ticket.close_quietly(Outcome.CANCELLED, status=499)
            raise
        except Exception:
            ticket.close_quietly(Outcome.FAILED, status=500, code="internal_error")
            raise
        finally:
            if self._tracer is not None and ticket.trace is not None and ticket.record is not None:
                self._tracer.end(ticket.trace, ticket, ticket.record, route=_route(arrival))
            self._tasks.discard(task)
            self._metrics.in_flight.dec()

    async def _metered(
        self,
        arrival: Arrival,
        directory: Directory,
        key: Key,
        ticket: Ticket,
        body: Callable[[], Awaitable[bytes]],
    ) -> web.StreamResponse:
        keys.require_current(key, now=dt.datetime.now(dt.UTC))
        self._freshness.require(directory.tenant(key))
        request = arrival.request
        if request is not None and key.networks:
            keys.require_place(key, self._addresses.of(request))
        keys.require_verb(key, arrival.verb)
        call = arrival.read(await body())
        if call.stream and request is None:
            raise errors.invalid("A line of a batch cannot be streamed.", param="stream")
        passage = Passage(
            self._desk,
            directory=directory,
            key=key,
            call=call,
            headers=request.headers if request is not None else {},
            ticket=ticket,
            request_id=arrival.request_id,
            slo_class=arrival.slo_class,
        )
        await passage.resolve()
        answer = _Answer(arrival, call, passage, ticket)
        total_s = passage.slo_class.timeouts.total_s
        try:
            async with asyncio.timeout(total_s):
                return await answer.run()
        except TimeoutError as error:
            late = errors.engine_failed(
                f"The request took longer than the {total_s:g} s this endpoint allows.",
                status=504,
                code="request_timeout",
            )
            return await answer.break_off(late, error)
        except asyncio.CancelledError as error:
            if not self._aborting or (request is not None and request.transport is None):
                raise
            stopping = errors.not_ready("The gateway is stopping.", code="stopping", retry_after_s=1)
            return await answer.break_off(stopping, error)
        except (errors.ApiError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - a stream that began needs an end
            _log.exception("request %s failed inside the gateway", arrival.request_id)
            return await answer.break_off(errors.internal(), error)
        finally:
            passage.close()

    def _write(self, record: UsageRecord) -> None:
        self._metrics.count(record)
        self._meter.append(record)


class _Answer:
    """One admitted request, until its last byte."""

    def __init__(self, arrival: Arrival, call: Call, passage: Passage, ticket: Ticket) -> None:
        self._arrival = arrival
        self._call = call
        self._passage = passage
        self._ticket = ticket
        self._response: web.StreamResponse | None = None

    @property
    def _request(self) -> web.Request:
        assert self._arrival.request is not None  # only a door's request is streamed
        return self._arrival.request

    async def run(self) -> web.StreamResponse:
        stream = await self._passage.begin()
        try:
            if self._call.stream:
                return await self._pass_on(stream)
            body = await self._collect(stream)
        except EngineError as error:
            assert self._passage.exchange is not None
            self._passage.exchange.blame(error)
            return await self.break_off(explain(error), error)
        return web.Response(body=body, content_type="application/json", headers=self._headers())

    async def break_off(self, refusal: errors.ApiError, cause: BaseException) -> web.StreamResponse:
        """Tell the client of a failure: as an answer, or as the last event of a stream that began.

        Raises:
            ApiError: ``refusal``, if no byte went out yet.
        """
        if self._response is None:
            raise refusal from cause
        self._passage.close()
        self._ticket.close_quietly(Outcome.FAILED, status=refusal.status, code=refusal.code or refusal.type)
        # The client may have stopped reading, which is why this may not wait for it.
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._response.write_eof(b"data: " + refusal.body() + b"\n\n")
        self._response.force_close()
        return self._response

    def _reply(self) -> Reply:
        assert self._ticket.target is not None
        return Reply(
            chat=self._call.is_chat,
            model=self._call.model,
            fingerprint=self._ticket.target.revision_id,
            request_id=self._arrival.request_id,
            usage=self._call.include_usage,
            choices=self._call.sampling.choices,
        )

    async def _collect(self, stream: EngineStream) -> bytes:
        """Give the body of the whole answer; its record is written."""
        choices = [Choice(index) for index in range(self._call.sampling.choices)]
        data: Sequence[Any] = ()
        async for deltas in stream:
            self._ticket.count(deltas)
            for delta in deltas:
                if self._call.sampling.embedding is not None:
                    data = (delta.more or {})["data"]
                else:
                    choices[delta.choice].add(delta)
        usage = self._ticket.usage
        if self._call.sampling.embedding is not None:
            body = vectors(data, model=self._call.model, usage=usage)
        else:
            for choice in choices:
                choice.finish_reason = choice.finish_reason or self._inferred_reason(choice.output_tokens)
            body = self._reply().whole(choices, usage=usage)
        self._ticket.close(Outcome.COMPLETED)
        return body

    async def _pass_on(self, stream: EngineStream) -> web.StreamResponse:
        reply = self._reply()
        reasons: list[str | None] = [None] * self._call.sampling.choices
        tokens = [0] * len(reasons)
        pieces = [reply.opening()]
        response = web.StreamResponse(headers={**_STREAM_HEADERS, **self._arrival.headers, **self._headers()})
        async for deltas in stream:
            self._ticket.count(deltas)
            for delta in deltas:
                pieces.append(reply.piece(delta))
                tokens[delta.choice] += delta.output_tokens
                if delta.finish_reason is not None:
                    reasons[delta.choice] = delta.finish_reason
            if self._response is None:
                self._response = response
                await response.prepare(self._request)
            if piece := b"".join(pieces):
                await response.write(piece)
            pieces.clear()
        if self._response is None:
            self._response = response
            await response.prepare(self._request)
        end = reply.closing(
            finish_reasons=[
                reason or self._inferred_reason(count) for reason, count in zip(reasons, tokens, strict=True)
            ],
            usage=self._ticket.usage,
        )
        self._ticket.close(Outcome.COMPLETED)
        await response.write_eof(b"".join(pieces) + end)
        return response

    def _headers(self) -> dict[str, str]:
        headers = {_ENDPOINT_HEADER: self._passage.endpoint.name, **self._passage.headers}
        return {**headers, **_permit_headers(self._ticket)}

    def _inferred_reason(self, output_tokens: int) -> str:
        """Say why an engine that gives no reason ended a choice of so many tokens."""
        return "length" if output_tokens >= self._passage.max_tokens else "stop"


def _permit_headers(ticket: Ticket) -> dict[str, str]:
    return {name: value for permit in ticket.permits for name, value in permit.headers.items()}


def _route(arrival: Arrival) -> str:
    """Give the door by which a request came."""
    return "/v1/batches" if arrival.request is None else arrival.request.path


def no_snapshot() -> errors.ApiError:
    """The gateway knows no key yet, so that it may not call any unknown (503)."""
    return errors.not_ready(
        "This gateway has not reached its control plane yet.", code="gateway_not_ready", retry_after_s=2
    )
