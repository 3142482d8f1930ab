"""Faults on purpose: what may be broken, by which driver, told to the audit, and taken back whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from clusters.drivers.base import GiveUp
from clusters.drivers.faults import FaultDriver, Kind, Plan, Refused, Wish
from clusters.drivers.kubernetes.faults import KubernetesFaults
from clusters.drivers.kubernetes.scope import Scope
from clusters.drivers.local.faults import LocalFaults
from clusters.inventory.access import credentials_of
from clusters.inventory.drivers import installation_of
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.models import Cluster
from embedded.datadir import DataDir
from embedded.faults import guard, journal
from embedded.faults.journal import Fault
from tenants.audit import audit
from tenants.errors import BerthError

log = logging.getLogger(__name__)

HOLD_S: Final = 2.0
TELL_S: Final = 30.0
LOCAL: Final = ""  # the key of this machine's own driver


@dataclasses.dataclass
class Practice:
    """The injector of one data folder. ``admin`` are credentials in place of Berth's own in a cluster."""

    data_dir: DataDir
    admin: Credentials | None = None
    sleep: Callable[[float], None] = time.sleep
    _drivers: dict[str, FaultDriver] = dataclasses.field(default_factory=dict)

    def plans(self, wish: Wish, *, cluster: str = "") -> list[Plan]:
        """Plan a fault in a cluster, on this machine where none is named, or in a whole region.

        Raises:
            Refused: faults are not allowed here, or this one cannot be done, or one is done to the same now.
        """
        if not settings.FAULTS_ALLOWED:
            raise Refused(
                "Faults are not allowed here. Where nobody's work depends on it, set BERTH_FAULTS=allowed in the"
                " environment of this command and of what it is to break, and start that again."
            )
        plans = self._planned(wish, cluster)
        journal.refuse_twice(self.data_dir, [step for plan in plans for step in plan.undo])
        return plans

    def carry_out(
        self, wish: Wish, plans: Sequence[Plan], *, cluster: str = "", guard_command: Sequence[str] = ()
    ) -> None:
        """Do it, wait while it lasts, and take it back; told to the audit before and after.

        Raises:
            Refused: it could not be done; what was done of it is taken back.
        """
        facts = {
            "kind": wish.kind.value,
            "target": wish.target,
            "seconds": wish.seconds if wish.kind.lasts else 0,
        }
        facts |= {"what": "; ".join(plan.told for plan in plans)[:500], "account": getpass.getuser()}
        facts |= {"cluster": cluster} if cluster else {}
        audit(None, "fault.begin", **facts)
        if not wish.kind.lasts:
            for plan in plans:
                plan.do()
            return
        fault = journal.opened(
            self.data_dir,
            kind=wish.kind,
            target=wish.target,
            until=time.time() + wish.seconds,
            undo=[step for plan in plans for step in plan.undo],
        )
        command = [*guard_command, fault.id] if guard_command and self._asks_clusters(fault) else None
        try:
            with guard.guarded(self.data_dir, fault, command=command, undo=self.undo) as timed:
                for plan in plans:
                    plan.do()
                self._wait(timed, [plan.hold for plan in plans if plan.hold])
        finally:  # on Ctrl-C, too
            self._tell_end(facts)

    def undo(self, fault: Fault) -> None:
        """Take a fault back, everywhere that it was done."""
        keys = {str(step.get("cluster", LOCAL)) for step in fault.undo}
        for key in sorted(keys):
            self.driver(key).undo(fault)

    def heal(self, fault: Fault) -> None:
        """Take a fault back that somebody left behind."""
        guard.heal(self.data_dir, fault, undo=self.undo)

    def driver(self, name: str) -> FaultDriver:
        """Give what breaks a cluster, or this machine where no name is given.

        Raises:
            Refused: there is no such cluster, or Berth cannot be let in.
        """
        if name not in self._drivers:
            self._drivers[name] = self._made(name)
        return self._drivers[name]

    def _planned(self, wish: Wish, cluster: str) -> list[Plan]:
        if wish.kind is not Kind.REGION:
            return [self.driver(cluster).plan(wish)]
        clusters = list(Cluster.objects.present().filter(region__code=wish.target))
        names = [each.name for each in clusters if each.driver == Cluster.DriverKind.KUBERNETES]
        if not clusters:
            raise Refused(f"No cluster stands in a region {wish.target!r}; regions are named by their code.")
        keys = [*([LOCAL] if len(names) < len(clusters) else []), *names]
        return [self.driver(key).plan(wish) for key in keys]

    def _made(self, name: str) -> FaultDriver:
        if name == LOCAL:
            return LocalFaults(self.data_dir, clusters_of=_local_clusters)
        cluster = Cluster.objects.present().filter(name=name).first()
        if cluster is None:
            known = ", ".join(Cluster.objects.present().values_list("name", flat=True)) or "none"
            raise Refused(f"There is no cluster {name}; known are {known}.")
        if cluster.driver != Cluster.DriverKind.KUBERNETES:
            return LocalFaults(self.data_dir, clusters_of=_local_clusters)
        try:
            own = credentials_of(cluster)
        except (BerthError, GiveUp) as error:
            raise Refused(str(error)) from error
        if self.admin is not None and _place(self.admin.server) != _place(own.server):
            raise Refused(
                f"Cluster {name} is at {own.server}, but the kubeconfig's current context leads to {self.admin.server}:"
                " nothing is done to a cluster that was not named. Give a kubeconfig for that address; clusters of a"
                " region that need one each are broken one at a time."
            )
        client = KubeClient(self.admin or own, field_manager="berth-practice")
        scope = Scope(installation=installation_of(cluster), namespaces=tuple(cluster.namespaces))
        return KubernetesFaults(client, scope, cluster=name)

    def _asks_clusters(self, fault: Fault) -> bool:
        return any("cluster" in step for step in fault.undo)

    def _wait(self, fault: Fault, holds: Sequence[Callable[[], None]]) -> None:
        while (left := fault.until - time.time()) > 0:
            self.sleep(min(HOLD_S, left) if holds else left)
            for hold in holds:
                if time.time() < fault.until:  # afterwards the guard takes it back
                    hold()

    def _tell_end(self, facts: Mapping[str, object]) -> None:
        """Tell the audit once its database is back, which may be what was broken."""
        deadline = time.monotonic() + TELL_S
        while True:
            try:
                audit(None, "fault.end", **facts)
                return
            except (DatabaseError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    log.error("the end of the fault could not be told to the audit: %s", error)
                    return
                connection.close_if_unusable_or_obsolete()
                self.sleep(1.0)


def _place(server: str) -> tuple[str, int, str]:
    """Give an API server's address so that two ways to write it are equal."""
    parts = urlsplit(server)
    return parts.hostname or "", parts.port or 443, parts.path.rstrip("/")


def _local_clusters(region: str) -> Iterator[str]:
    local = Cluster.objects.present().filter(driver=Cluster.DriverKind.LOCAL, region__code=region)
    yield from local.values_list("name", flat=True)


@contextlib.contextmanager
def undone_on_signals() -> Iterator[None]:
    """Let signals that would end this process unwind it first, so that what is done is taken back."""

    def leave(signum: int, frame: object) -> None:
        sys.exit(128 + signum)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
