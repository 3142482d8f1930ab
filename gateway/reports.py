"""Tells the control plane what the region's replicas show of their memory.

Only gateways are let through to engines, so that they read the engines' metrics and pass on the few lines that
the control plane asks for, unread.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final

import aiohttp

from gateway.contract import (
    MOST_REPORTED_BYTES,
    MOST_REPORTS,
    REPLICAS_PATH,
    REPORTED_METRICS,
    Replica,
    ReplicaReport,
    ReplicaReports,
)
from gateway.directory import Directory
from gateway.telling import tell

_log = logging.getLogger(__name__)
_ENGINE_TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0)
_ANSWER_LIMIT: Final = 1024 * 1024
_AT_ONCE: Final = 8
_PREFIXES: Final = tuple(prefix.encode() for prefix in REPORTED_METRICS)


class Reporter:
    """Reads the replicas of ``region`` in rounds about ``interval_s`` apart, each replica once in a round.

    ``session`` carries the gateway's token; the one towards engines carries nothing. ``on_read`` is given the lines
    that each replica showed.
    """

    def __init__(
        self,
        *,
        directory: Callable[[], Directory | None],
        region: str,
        session: aiohttp.ClientSession,
        control_plane_url: str,
        interval_s: float,
        on_read: Callable[[Replica, str], None] = lambda replica, metrics: None,
    ) -> None:
        self._directory = directory
        self._region = region
        self._session = session
        self._url = control_plane_url + REPLICAS_PATH
        self._interval_s = interval_s
        self._on_read = on_read

    async def run(self) -> None:
        """Report until cancelled."""
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), timeout=_ENGINE_TIMEOUT
        ) as engines:
            while True:
                # Gateways that started together must not ask an engine together.
                await asyncio.sleep(self._interval_s * random.uniform(0.75, 1.25))  # noqa: S311
                reports = await self._read(engines)
                for start in range(0, len(reports), MOST_REPORTS):
                    await self._send(tuple(reports[start : start + MOST_REPORTS]))

    async def _read(self, engines: aiohttp.ClientSession) -> list[ReplicaReport]:
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(replica: Replica) -> ReplicaReport | None:
            async with free:
                metrics = await _metrics(engines, replica)
            if not metrics:
                return None
            self._on_read(replica, metrics)
            return ReplicaReport(replica_id=replica.replica_id, metrics=metrics)

        found = await asyncio.gather(*map(one, self._replicas()))
        return [report for report in found if report is not None]

    def _replicas(self) -> Iterable[Replica]:
        directory = self._directory()
        if directory is None:
            return ()
        return {
            replica.replica_id: replica
            for endpoint in directory.snapshot.endpoints
            for route in endpoint.routes
            for replica in route.replicas
            if replica.metrics_url and replica.region == self._region
        }.values()

    async def _send(self, reports: tuple[ReplicaReport, ...]) -> None:
        await tell(self._session, self._url, ReplicaReports(reports=reports), what="replica reports")


async def _metrics(engines: aiohttp.ClientSession, replica: Replica) -> str:
    """Give the lines to report, empty where there are none to be had."""
    content = b""
    try:
        async with engines.get(replica.metrics_url, allow_redirects=False) as response:
            if response.status != 200:
                return ""
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > _ANSWER_LIMIT:
                    _log.warning(
                        "replica %s shows more metrics than 1 MiB; none are read", replica.replica_id
                    )
                    return ""
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        _log.debug("no metrics of replica %s: %r", replica.replica_id, error)
        return ""
    return _kept(content)


def _kept(content: bytes) -> str:
    lines: list[bytes] = []
    size = 0
    for line in content.splitlines():
        if line.startswith(_PREFIXES):
            size += len(line) + 1
            if size > MOST_REPORTED_BYTES:
                break
            lines.append(line + b"\n")
    return b"".join(lines).decode("utf-8", "replace")
