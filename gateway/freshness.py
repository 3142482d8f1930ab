"""How long ago the control plane was last heard, and which tenants are therefore no longer served."""

from __future__ import annotations

import datetime as dt
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway import errors
from gateway.contract import Tenant
from gateway.files import write_atomically

_log = logging.getLogger(__name__)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SKEW_S: Final = 60.0
_RETRY_S: Final = 10

#: From this age on answers say how old the snapshot is that they were made from.
TOLD_FROM_S: Final = 60.0
#: A long poll that finds no change is answered after 25 s, so that a shorter silence says nothing.
LEAST_S: Final = 30.0


def boot_clock() -> float:
    """Seconds since the machine was started, those in which it was suspended too. No clock setting moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Give what tells this start of the machine from any other, empty where the system does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class _Kept(msgspec.Struct):
    at: float  # seconds since the epoch
    boot_id: str
    boot_s: float  # of the boot clock


class Contact:
    """When the control plane last answered, kept in ``path`` for the next start. ``boot_id`` is this boot's.

    Within one start of the machine ages are told by its boot clock alone, so that no setting of the wall clock
    makes a snapshot younger or older. Across starts the wall clock is all there is: where it says that the contact
    is yet to come, the age is unknown and counts as infinite.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = boot_clock,
        boot_id: str = "",
    ) -> None:
        self._path = path
        self._wall = wall
        self._boot = boot
        self._boot_id = boot_id
        self._made: float | None = None  # by the boot clock

    def made(self) -> None:
        """Note a contact."""
        self._made = self._boot()

    def age_s(self) -> float | None:
        """Seconds since the last contact; None if there never was one."""
        return None if self._made is None else self._boot() - self._made

    def since(self) -> dt.datetime | None:
        """The moment of the last contact by today's wall clock; None where there was none or nobody knows."""
        age = self.age_s()
        if age is None or math.isinf(age):
            return None
        return dt.datetime.fromtimestamp(self._wall() - age, dt.UTC)

    def save(self) -> None:
        """Keep the contact of now for the next start.

        Raises:
            OSError: it cannot be written.
        """
        kept = _Kept(at=self._wall(), boot_id=self._boot_id, boot_s=self._boot())
        write_atomically(self._path, msgspec.json.encode(kept))

    def load(self, *, snapshot: Path) -> None:
        """Take over the contact that an earlier process kept, at worst from the age of its ``snapshot`` file."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            kept = _Kept(at=snapshot.stat().st_mtime, boot_id="", boot_s=0.0)
        if kept.boot_id and kept.boot_id == self._boot_id and kept.boot_s <= self._boot():
            self._made = kept.boot_s
            return
        age = self._wall() - kept.at
        if age < -_SKEW_S:
            _log.error("the snapshot on disk is from the future: the clock is wrong, and its age unknown")
            age = math.inf
        self._made = self._boot() - max(0.0, age)


class Freshness:
    """Refuses the requests of tenants that chose not to be served from a snapshot as old as this one.

    Less than :data:`LEAST_S` cannot be chosen: while nothing changes, that is how rarely a control plane is heard.
    """

    def __init__(self, contact: Contact) -> None:
        self._contact = contact

    @property
    def contact(self) -> Contact:
        """When the control plane was last heard."""
        return self._contact

    def refuses(self, tenant: Tenant) -> bool:
        """Say whether the requests of ``tenant`` are refused now."""
        limit_s, age_s = tenant.refuse_after_s, self._contact.age_s()
        return limit_s is not None and age_s is not None and age_s > max(limit_s, LEAST_S)

    def require(self, tenant: Tenant | None) -> None:
        """Check that ``tenant`` may still be served; None stands for one of whom nothing was chosen.

        Raises:
            ApiError: this gateway was cut off for longer than the tenant chose (503).
        """
        if tenant is not None and tenant.refuse_after_s is not None and self.refuses(tenant):
            raise self._cut_off(tenant)

    def _cut_off(self, tenant: Tenant) -> errors.ApiError:
        since, age_s = self._contact.since(), self._contact.age_s()
        assert age_s is not None
        limit_s = max(tenant.refuse_after_s or 0.0, LEAST_S)
        if since is None:
            silence = "cannot tell how long it has heard nothing of its control plane"
        else:
            silence = (
                f"has heard nothing of its control plane since {since:%Y-%m-%d %H:%M:%S} UTC ({age_s:.0f} s)"
            )
        return errors.not_ready(
            f"This gateway {silence}, so that it may have missed that keys were revoked. The tenant {tenant.name}"
            f" chose to be refused after {limit_s:g} s of that. It is served again as soon as the control plane"
            " answers.",
            code="gateway_cut_off",
            retry_after_s=_RETRY_S,
        )
