"""Keeps the newest good snapshot: by long poll, and on disk for starts without the control plane."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import aiohttp

from gateway.backoff import Backoff
from gateway.contract import SNAPSHOT_PATH
from gateway.directory import BadSnapshot, Directory, read_snapshot
from gateway.files import write_atomically
from gateway.freshness import Contact, boot_clock, boot_id

_log = logging.getLogger(__name__)
_WAIT_S: Final = 25
_TIMEOUT: Final = aiohttp.ClientTimeout(total=_WAIT_S + 15.0, sock_connect=5.0)
# Keeps a control plane that does not wait from being asked without pause.
_LEAST_INTERVAL_S: Final = 0.2


class PollFailed(Exception):
    """The control plane gave no usable answer; the message says why."""


class SnapshotKeeper:
    """Holds the directory in use. ``on_change`` is called with each new one."""

    def __init__(
        self,
        *,
        path: Path,
        gateway: str,
        region: str,
        peppers: Mapping[int, bytes],
        on_change: Callable[[Directory], None] = lambda directory: None,
        contact: Contact | None = None,
    ) -> None:
        self._path = path
        self.contact = contact or Contact(path.with_name("contact.json"), boot_id=boot_id())
        self._gateway = gateway
        self._region = region
        self._peppers = peppers
        self._on_change = on_change
        self._used_at: float | None = None  # by the boot clock
        self.directory: Directory | None = None

    def load(self) -> None:
        """Take the snapshot an earlier process left on disk, if there is a good one."""
        try:
            content = self._path.read_bytes()
            self._use(content)
        except FileNotFoundError:
            return
        except (BadSnapshot, OSError) as error:
            _log.error("the snapshot in %s is not used: %s", self._path, error)
            return
        self.contact.load(snapshot=self._path)
        self._used_at = boot_clock() - max(0.0, time.time() - self._path.stat().st_mtime)
        _log.info("serving from the snapshot on disk, %.0f s old", self.contact_age_s() or 0.0)

    def contact_age_s(self) -> float | None:
        """Seconds since the control plane last answered, or None if it never did."""
        return self.contact.age_s()

    def snapshot_age_s(self) -> float | None:
        """Seconds since the snapshot in use replaced another one here, or None while there is none.

        One that is old may be as new as can be: nothing may have changed. See :meth:`contact_age_s`.
        """
        return None if self._used_at is None else boot_clock() - self._used_at

    async def run(self, *, session: aiohttp.ClientSession, control_plane_url: str) -> None:
        """Poll until cancelled. ``session`` carries the gateway's token."""
        backoff = Backoff(first_s=0.25, most_s=5.0)
        url = control_plane_url + SNAPSHOT_PATH
        wait_s = 0  # whether the control plane is there is known at once, at a start and after a failure
        while True:
            asked = time.monotonic()
            try:
                await self._poll(session, url, wait_s)
                wait_s = _WAIT_S
                backoff.reset()
                delay = max(0.0, _LEAST_INTERVAL_S - (time.monotonic() - asked))
            except PollFailed as error:
                wait_s = 0
                delay = backoff.next()
                _log.warning("no snapshot from the control plane, next try in %.1f s: %s", delay, error)
            await asyncio.sleep(delay)

    async def _poll(self, session: aiohttp.ClientSession, url: str, wait_s: int) -> None:
        held = self.directory.snapshot.version if self.directory else ""
        try:
            async with session.get(
                url,
                params={"version": held, "wait": str(wait_s)},
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PollFailed(f"it cannot be reached: {error!r}") from error
        if response.status not in (200, 304):
            raise PollFailed(f"it answered {response.status}")
        if response.status == 200:
            try:
                self._use(content)
            except BadSnapshot as error:
                _log.error("a snapshot was refused, the one before stays in use: %s", error)
                raise PollFailed("its snapshot was refused") from error
            except Exception as error:
                _log.exception("a snapshot could not be taken up; it is tried again")
                raise PollFailed("its snapshot could not be taken up") from error
        self.contact.made()
        try:
            if response.status == 200:
                await asyncio.to_thread(write_atomically, self._path, content)
            await asyncio.to_thread(self.contact.save)
        except OSError as error:
            _log.error("the snapshot cannot be kept in %s: %s", self._path, error)

    def _use(self, content: bytes) -> None:
        snapshot = read_snapshot(content, gateway=self._gateway, region=self._region)
        before, self.directory = self.directory, Directory(snapshot, peppers=self._peppers)
        try:
            self._on_change(self.directory)
        except Exception:
            self.directory = before
            raise
        self._used_at = boot_clock()
        keys, endpoints = len(snapshot.keys), len(snapshot.endpoints)
        _log.info("snapshot %s: %d keys, %d endpoints", snapshot.version, keys, endpoints)
