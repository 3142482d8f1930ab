"""Endpoints that are scaled to zero: tells the control plane that they are wanted, and holds who waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

from gateway import errors, routing
from gateway.backoff import Backoff
from gateway.contract import MOST_WAKES, WAKES_PATH, Wakes
from gateway.directory import Directory
from gateway.telling import tell

HOLD_HEADER: Final = "x-scale-up-timeout"
MOST_HOLD_S: Final = 600.0
MOST_HELD: Final = 1_024  # for one endpoint
#: States that end by themselves in replicas.
_COMING: Final = frozenset(
    {"scaled-to-zero", "provisioning", "waiting-for-capacity", "ready", "updating", "degraded"}
)

_TELL_S: Final = 10.0
#: How long an endpoint that was told of is not told of again.
_AGAIN_S: Final = 5.0
#: How long an endpoint goes on being wanted while the control plane is away.
_WANTED_S: Final = 60.0


class Waking:
    """Belongs to one event loop. ``directory`` gives the snapshot in use."""

    def __init__(
        self, *, directory: Callable[[], Directory | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._wanted: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._held: Counter[str] = Counter()
        self._asked = asyncio.Event()
        self._changed = asyncio.Event()
        self._stopping = False

    def want(self, endpoint_id: str) -> None:
        """Note that a request asks for the endpoint."""
        now = self._clock()
        if now - self._told.get(endpoint_id, -_AGAIN_S) >= _AGAIN_S:
            self._wanted[endpoint_id] = now
            self._asked.set()

    def changed(self) -> None:
        """Let those who wait look at the snapshot that is in use now."""
        self._changed.set()
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Hold nobody any longer."""
        self._stopping = True
        self.changed()

    async def hold(self, directory: Directory, endpoint_id: str, seconds: float) -> Directory:
        """Wait until the endpoint has replicas that may serve, at most ``seconds``; give the directory in use then.

        Does not wait for an endpoint that will not come by itself, that is gone, or that :data:`MOST_HELD` wait for,
        and no longer for one that turns out not to be woken.

        Raises:
            ApiError: the gateway is stopping (503).
        """
        if self._held[endpoint_id] >= MOST_HELD:
            return directory
        known = directory.by_id(endpoint_id)
        # Who asks to be held although it was refused, is held.
        told = {"", known.wake_refused if known else ""}
        self._held[endpoint_id] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while (
                        (endpoint := directory.by_id(endpoint_id)) is not None
                        and endpoint.state in _COMING
                        and endpoint.wake_refused in told
                        and not routing.options(endpoint)
                    ):
                        directory = await self._next(directory)
        finally:
            self._held[endpoint_id] -= 1
            if not self._held[endpoint_id]:
                del self._held[endpoint_id]
        return directory

    async def _next(self, held: Directory) -> Directory:
        while True:
            if self._stopping:
                raise errors.not_ready("The gateway is stopping.", code="stopping", retry_after_s=1)
            directory = self._directory()
            if directory is not None and directory is not held:
                return directory
            await self._changed.wait()

    async def run(self, *, session: aiohttp.ClientSession, control_plane_url: str) -> None:
        """Tell the control plane until cancelled, each endpoint once in a few seconds."""
        url = control_plane_url + WAKES_PATH
        backoff = Backoff(first_s=0.5, most_s=5.0)
        while True:
            await self._asked.wait()
            self._asked.clear()
            now = self._clock()
            self._told = {name: at for name, at in self._told.items() if now - at < _AGAIN_S}
            self._wanted = {name: at for name, at in self._wanted.items() if now - at < _WANTED_S}
            batch = tuple(self._wanted)[:MOST_WAKES]
            if not batch:
                continue
            if await tell(session, url, Wakes(endpoint_ids=batch), what="wakes", total_s=_TELL_S):
                backoff.reset()
                for endpoint_id in batch:
                    del self._wanted[endpoint_id]
                    self._told[endpoint_id] = self._clock()
            else:
                await asyncio.sleep(backoff.next())
            if self._wanted:
                self._asked.set()


def asked_hold_s(headers: Mapping[str, str], *, default_s: float = 0.0, most_s: float) -> float:
    """Give the seconds that a request is held, within what is allowed: as its client asks, else ``default_s``.

    Raises:
        ApiError: the header is no number of seconds (400).
    """
    text = headers.get(HOLD_HEADER)
    try:
        seconds = default_s if text is None else float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise errors.invalid(
            f"The header X-Scale-Up-Timeout must be a number of seconds, 0 or more; it is {str(text)[:40]!r}.",
            param="X-Scale-Up-Timeout",
        )
    # The rest of the request's time is for the answer that says so.
    return max(0.0, min(seconds, MOST_HOLD_S, most_s - 0.5))
