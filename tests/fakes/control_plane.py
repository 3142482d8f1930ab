"""A control plane as a gateway sees it: long-polled snapshots, usage kept by its unique key, leases of budgets."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import defaultdict

import msgspec
from aiohttp import web

from gateway.contract import (
    LEASES_PATH,
    REPLICAS_PATH,
    SIGNALS_PATH,
    SNAPSHOT_PATH,
    TOKENIZERS_PATH,
    USAGE_PATH,
    WAKES_PATH,
    DayTotals,
    EndpointSignal,
    EndpointSignals,
    LeaseAnswer,
    LeaseReport,
    Refused,
    ReplicaReports,
    Snapshot,
    UsageBatch,
    UsageReceipt,
    UsageSegment,
    Wakes,
)
from tests.fakes.ledger import FakeLedger

TOKEN = "gateway-token"


class FakeControlPlane:
    """Starts on a free port, or on ``port`` to come back where it was.

    ``segments`` holds what it took, by identity; ``sequences`` every sequence in the order of arrival,
    repeats included; ``reports`` the metrics by replica of every report; ``signals`` all that ``signallers`` told;
    ``wakes`` the endpoints of every message that asked to wake some. ``tokenizers`` are given by the digest that
    they are kept under; ``fetched`` lists those
    asked for. ``lose_receipts`` takes that many batches and then breaks the connection; ``refuse`` names sequences
    never to be taken. ``ledger`` lends of the budgets it has; ``lose_leases`` takes that many reports and then breaks
    the connection.
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.snapshot: Snapshot | bytes | None = snapshot
        self.segments: dict[tuple[str, str, str, int, str], UsageSegment] = {}
        self.sequences: list[int] = []
        self.batches: list[int] = []
        self.polls: list[str] = []
        self.tokens: set[str | None] = set()
        self.lose_receipts = 0
        self.usage_status = 200
        self.refuse: dict[int, str] = {}
        self.days: dict[dt.date, DayTotals] = {}
        self.told: list[tuple[dt.date, int, int]] = []  # day, its requests, segments that had come by then
        self.tokenizers: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.reports: list[dict[str, str]] = []
        self.ledger = FakeLedger()
        self.lose_leases = 0
        self.signals: list[EndpointSignal] = []
        self.signallers: set[str] = set()
        self.wakes: list[tuple[str, ...]] = []
        self._changed = asyncio.Event()
        self.port = 0

    async def start(self) -> FakeControlPlane:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_get(SNAPSHOT_PATH, self._snapshot)
        application.router.add_post(USAGE_PATH, self._usage)
        application.router.add_post(REPLICAS_PATH, self._replicas)
        application.router.add_post(SIGNALS_PATH, self._signals)
        application.router.add_post(WAKES_PATH, self._wakes)
        application.router.add_get(TOKENIZERS_PATH + "/{digest}", self._tokenizer)
        application.router.add_post(LEASES_PATH, self._leases)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.05, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, snapshot: Snapshot | bytes) -> None:
        """Give a new snapshot to whoever waits for one; bytes are sent as they are."""
        self.snapshot = snapshot
        self._changed.set()
        self._changed = asyncio.Event()

    def requests(self) -> dict[str, int]:
        """Sum requests by outcome."""
        return self._sum("requests")

    def output_tokens(self) -> dict[str, int]:
        """Sum output tokens by outcome."""
        return self._sum("output_tokens")

    def _sum(self, name: str) -> dict[str, int]:
        sums: dict[str, int] = defaultdict(int)
        for segment in self.segments.values():
            sums[segment.outcome.value] += getattr(segment, name)
        return dict(sums)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization"))
        held = request.query["version"]
        self.polls.append(held)
        if self.snapshot is None:
            return web.Response(status=503)
        if isinstance(self.snapshot, Snapshot) and self.snapshot.version == held:
            try:
                async with asyncio.timeout(float(request.query["wait"])):
                    await self._changed.wait()
            except TimeoutError:
                return web.Response(status=304)
        body = self.snapshot if isinstance(self.snapshot, bytes) else msgspec.json.encode(self.snapshot)
        return web.Response(body=body, content_type="application/json")

    async def _tokenizer(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization"))
        digest = request.match_info["digest"]
        self.fetched.append(digest)
        if digest not in self.tokenizers:
            return web.Response(status=404)
        return web.Response(body=self.tokenizers[digest], content_type="application/json")

    async def _replicas(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization"))
        message = msgspec.json.decode(await request.read(), type=ReplicaReports)
        self.reports.append({report.replica_id: report.metrics for report in message.reports})
        return web.Response(status=204)

    async def _leases(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization"))
        report = msgspec.json.decode(await request.read(), type=LeaseReport)
        until = time.monotonic() + float(request.query["wait"])
        if report.lines or report.begins:
            grants = self.ledger.take(report, now=dt.datetime.now(dt.UTC))
            if self.lose_leases:
                self.lose_leases -= 1
                assert request.transport is not None
                request.transport.abort()
        else:
            while True:
                grants = self.ledger.look(
                    report.gateway, sequence=report.sequence, now=dt.datetime.now(dt.UTC)
                )
                if grants or time.monotonic() >= until:
                    break
                await asyncio.sleep(0.01)
        return web.Response(
            body=msgspec.json.encode(LeaseAnswer(grants=grants)), content_type="application/json"
        )

    async def _signals(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization"))
        message = msgspec.json.decode(await request.read(), type=EndpointSignals)
        self.signals += message.signals
        self.signallers.add(message.gateway)
        return web.Response(status=204)

    async def _wakes(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization"))
        self.wakes.append(msgspec.json.decode(await request.read(), type=Wakes).endpoint_ids)
        return web.Response(status=204)

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization"))
        batch = msgspec.json.decode(await request.read(), type=UsageBatch)
        if self.usage_status != 200:
            return web.Response(status=self.usage_status)
        inserted = duplicates = 0
        refused = []
        self.batches.append(len(batch.segments))
        for totals in batch.days:
            self.days[totals.day] = totals
            self.told.append((totals.day, totals.requests, len(self.segments) + len(batch.segments)))
        for segment in batch.segments:
            self.sequences.append(segment.sequence)
            identity = (
                segment.tenant_id,
                str(segment.day),
                segment.gateway,
                segment.sequence,
                segment.key_id,
            )
            if segment.sequence in self.refuse:
                refused.append(Refused(sequence=segment.sequence, reason=self.refuse[segment.sequence]))
            elif identity in self.segments:
                duplicates += 1
                assert self.segments[identity] == segment
            else:
                inserted += 1
                self.segments[identity] = segment
        if self.lose_receipts:
            self.lose_receipts -= 1
            assert request.transport is not None
            request.transport.abort()
        receipt = UsageReceipt(inserted=inserted, duplicates=duplicates, refused=tuple(refused))
        return web.Response(body=msgspec.json.encode(receipt), content_type="application/json")
