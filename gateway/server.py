"""One gateway process: puts the parts together, serves until told to stop, and drains."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web

from gateway.addresses import Addresses
from gateway.admission import Admission, AdmissionFigures
from gateway.batches import BatchDoors, make_room
from gateway.budgets import BudgetGate, LeaseBook, Lessee
from gateway.config import Config
from gateway.contract import EngineProtocol, SloClass
from gateway.directory import Directory
from gateway.dispatch import Dispatcher
from gateway.doors import Doors
from gateway.engines import openai_http
from gateway.engines.http import HttpPool
from gateway.engines.triton_generate import TritonGenerate
from gateway.files import FolderLock, write_atomically
from gateway.freshness import Freshness
from gateway.gauges import watch_process
from gateway.inference import Inference
from gateway.limits import RateGate, SharedCounters
from gateway.metering.meter import Meter
from gateway.metering.shipper import Shipper, ShippingFailed
from gateway.metrics import Metrics
from gateway.passage import Desk
from gateway.protocol import DoorRunner
from gateway.replicas import ReplicaBook
from gateway.reports import Reporter
from gateway.signals import Signaller
from gateway.snapshots import SnapshotKeeper
from gateway.tokens import TokenCounter, TokenizerStore
from gateway.tracing import Tracer
from gateway.waking import Waking

_log = logging.getLogger(__name__)
_LAST_SHIPPING_S: Final = 5.0


class GatewayServer:
    """Start with :meth:`start`, end with :meth:`stop`; ``url`` is where it answers in between.

    ``clock`` is the time of day by which batches end and files go.

    Raises:
        FolderInUse: another process works under the same name in the same data folder.
    """

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._lock = FolderLock(config.folder)
        self._meter = Meter(config.folder, gateway=config.name)
        self._book = ReplicaBook()
        self._metrics = Metrics(counting=config.metrics)
        self._admission = Admission(self._book.outstanding, most_waiting=config.most_waiting)
        self._leases = LeaseBook(self._meter.charges())
        self._shared = (
            SharedCounters(config.redis_url, call_s=config.redis_call_s) if config.redis_url else None
        )
        self._rates = RateGate(
            self._shared, refused=lambda owner, unit: self._metrics.rate_limited(owner, unit).inc()
        )
        self._tokenizers = TokenizerStore(config.folder / "tokenizers")
        self._keeper = SnapshotKeeper(
            path=config.folder / "snapshot.json",
            gateway=config.name,
            region=config.region,
            peppers=config.peppers,
            on_change=self._snapshot_changed,
        )
        self._freshness = Freshness(self._keeper.contact)
        self._tracer = (
            Tracer(
                url=config.traces_url,
                ratio=config.trace_ratio,
                gateway=self._meter.identity,
                region=config.region,
            )
            if config.traces_url
            else None
        )
        self._waking = Waking(directory=lambda: self._keeper.directory)
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = contextlib.AsyncExitStack()
        self.url = ""

    async def start(self) -> None:
        """Load the snapshot on disk, open the port, and begin polling, cutting and shipping."""
        config = self._config
        triton, openai = HttpPool(), HttpPool(idle_s=openai_http.IDLE_S)
        self._resources.callback(triton.close)
        self._resources.callback(openai.close)
        counter = TokenCounter(self._tokenizers.find)
        self._resources.callback(counter.close)
        control_session = await self._resources.enter_async_context(_control_session(config.token))
        self._lessee = Lessee(
            self._leases,
            identity=self._meter.identity,
            start=self._meter.start,
            session=control_session,
            control_plane_url=config.control_plane_url,
        )
        budgets = BudgetGate(
            self._leases,
            is_away=lambda: self._lessee.is_away,
            refused=lambda code: self._metrics.budget_refusals(code).inc(),
        )
        self._dispatcher = Dispatcher(
            {
                EngineProtocol.TRITON_GENERATE: TritonGenerate(triton),
                EngineProtocol.OPENAI_HTTP: openai_http.OpenAiHttp(openai),
            },
            book=self._book,
            admission=self._admission,
            metrics=self._metrics,
            rng=random.Random(),  # noqa: S311
        )
        addresses = Addresses(config.trusted_proxies)
        self._inference = Inference(
            directory=lambda: self._keeper.directory,
            desk=Desk(
                dispatcher=self._dispatcher,
                gates=(self._rates, budgets),
                counter=counter,
                waking=self._waking,
                metrics=self._metrics,
            ),
            meter=self._meter,
            metrics=self._metrics,
            freshness=self._freshness,
            tracer=self._tracer,
            region=config.region,
            body_limit_bytes=config.body_limit_bytes,
            addresses=addresses,
        )
        self._room = make_room(
            config.files,
            directory=lambda: self._keeper.directory,
            complete=self._inference.complete,
            metrics=self._metrics,
            line_bytes=config.body_limit_bytes,
            clock=self._clock,
        )
        self._doors = Doors(
            keeper=self._keeper,
            inference=self._inference,
            meter=self._meter,
            metrics=self._metrics,
            freshness=self._freshness,
            gateway=config.name,
            batches=BatchDoors(self._room),
            limits_shared=lambda: self._rates.is_shared,
            addresses=addresses,
        )
        self._shipper = Shipper(
            meter=self._meter,
            session=control_session,
            control_plane_url=config.control_plane_url,
        )
        watch_process(
            self._metrics,
            keeper=self._keeper,
            meter=self._meter,
            freshness=self._freshness,
            tracer=self._tracer,
            limits_shared=lambda: self._rates.is_shared,
            book=self._book,
        )
        self._metrics.add(AdmissionFigures(self._admission.state))
        self._keeper.load()
        await self._tokenizers.load()
        if self._shared is not None:
            self._run(self._shared.run())
        await self._listen()
        self._run(self._meter.run(window_s=config.segment_window_s, on_cut=self._shipper.wake))
        self._run(self._shipper.run())
        self._run(self._lessee.run())
        self._run(self._keeper.run(session=control_session, control_plane_url=config.control_plane_url))
        self._run(self._tokenizers.run(session=control_session, control_plane_url=config.control_plane_url))
        reporter = Reporter(
            directory=lambda: self._keeper.directory,
            region=config.region,
            session=control_session,
            control_plane_url=config.control_plane_url,
            interval_s=config.report_s,
            on_read=self._admission.read,
        )
        self._run(reporter.run())
        if config.metrics:
            signaller = Signaller(
                tallies=self._metrics.tallies,
                queues=self._admission.state,
                tried_again=self._dispatcher.tried_again,
                class_of=self._class_of,
                identity=self._meter.identity,
                session=control_session,
                control_plane_url=config.control_plane_url,
                interval_s=config.signal_s,
            )
            self._run(signaller.run())
        if self._room is not None:
            self._room.runner.start()
        self._run(self._waking.run(session=control_session, control_plane_url=config.control_plane_url))

    def routes(self) -> list[web.RouteDef]:
        """Give every door of a started gateway."""
        return self._doors.routes()

    async def stop(self) -> None:
        """Drain: say so, take no new connections, let streams finish, ship the last segments, let go.

        For the time of the notice the port stays open while readiness already fails, because whoever sends
        requests here learns of it late.
        """
        self._doors.draining = True
        if self._room is not None:
            self._room.runner.drain()
        self._waking.stop()
        await asyncio.sleep(self._config.notice_s)
        await self._site.stop()
        deadline = asyncio.get_running_loop().time() + self._config.drain_s
        while self._inference.in_flight and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        if self._inference.in_flight:
            _log.warning("%d requests are broken off", self._inference.in_flight)
            self._inference.abort()
        if self._room is not None:
            await self._room.runner.stop()
        await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._meter.close()
        await self._lessee.close()
        try:
            async with asyncio.timeout(_LAST_SHIPPING_S):
                await self._shipper.ship()
        except (ShippingFailed, TimeoutError, OSError) as error:
            _log.warning(
                "%d usage segments wait on disk for the next start: %s",
                self._meter.spool.segments_pending, error,
            )  # fmt: skip
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)
        await self._resources.aclose()
        (self._config.folder / "address.json").unlink(missing_ok=True)
        self._lock.release()

    async def _listen(self) -> None:
        config = self._config
        application = web.Application(client_max_size=config.body_limit_bytes)
        application.add_routes(self._doors.routes())
        self._runner = DoorRunner(
            application,
            handler_cancellation=True,
            keepalive_timeout=75.0,
            lingering_time=2.0,
            shutdown_timeout=2.0,
        )
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, config.host, config.port, backlog=1024)
        await self._site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://{config.host}:{port}"
        address = {"host": config.host, "port": port, "url": self.url, "pid": os.getpid()}
        write_atomically(config.folder / "address.json", msgspec.json.encode(address))
        _log.info("gateway %s of region %s answers at %s", config.name, config.region, self.url)

    def _class_of(self, endpoint_id: str) -> SloClass | None:
        directory = self._keeper.directory
        endpoint = directory.by_id(endpoint_id) if directory else None
        return directory.slo_class(endpoint) if directory and endpoint else None

    def _snapshot_changed(self, directory: Directory) -> None:
        self._metrics.tallies.aim(directory.snapshot.classes)
        self._metrics.tallies.keep(
            frozenset(endpoint.endpoint_id for endpoint in directory.snapshot.endpoints)
        )
        self._rates.use(directory.snapshot)
        self._leases.keep(directory.snapshot)
        self._tokenizers.use(directory.snapshot)
        self._book.keep(
            {
                replica.replica_id
                for endpoint in directory.snapshot.endpoints
                for route in endpoint.routes
                for replica in route.replicas
            }
        )
        self._dispatcher.use(directory)
        self._admission.use(directory)
        self._waking.changed()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        task.add_done_callback(_say_broken)
        self._tasks.append(task)


def _say_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("a part of the gateway has ended; restart it", exc_info=error)


def _control_session(token: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"}, cookie_jar=aiohttp.DummyCookieJar()
    )
