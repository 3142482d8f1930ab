"""The long-running watcher: each cluster is looked at by threads of its own, so that a dead one slows nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from django.db import DatabaseError, InterfaceError, connection, connections

from clusters.endpoints.watch import watch_cluster
from clusters.endpoints.watching_kubernetes import KubernetesWatch
from clusters.inventory.drivers import feature
from clusters.kube.kinds import LEADER_WORKER_SET
from clusters.models import Cluster

log = logging.getLogger(__name__)

#: How often new, removed and changed clusters are looked for, in seconds.
TICK_S: Final = 2.0
#: How often a local cluster is asked.
LOOK_S: Final = 1.0
#: How long the watches of all clusters together may take to end.
END_S: Final = 10.0


class Watch(Protocol):
    """One cluster being watched. A thread underneath; ``stop`` only asks, ``join`` waits."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


class LocalWatch(threading.Thread):
    """Asks the local driver every second what runs."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name=f"watch-{cluster.name}", daemon=True)
        self._cluster_id, self._stopping = cluster.id, threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                cluster = Cluster.objects.filter(id=self._cluster_id).first()
                if cluster is not None:
                    watch_cluster(cluster)
            except Exception:
                log.exception("cluster %s could not be looked at", self._cluster_id)
            finally:
                connections.close_all()


def watch_of(cluster: Cluster) -> Watch | None:
    """Give a watch for a cluster, not started; None where nothing can be asked."""
    if cluster.driver == Cluster.DriverKind.LOCAL:
        return LocalWatch(cluster)
    return KubernetesWatch(cluster) if cluster.credentials else None


class Claims:
    """Which clusters this process watches: one advisory lock each, all held by one database session.

    A second watcher gets those that this one lets go, and all of them once this one's session ends.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._session = 0

    def keep(self, names: Iterable[str]) -> set[str]:
        """Hold the locks of exactly ``names``, as far as nobody else does; give those that are held.

        Raises:
            DatabaseError: the database is away; what was held may be lost.
        """
        wanted = set(names)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (session,) = cursor.fetchone()
            if session != self._session:  # another session: the former's locks went with it
                self._held, self._session = set(), session
            for name in self._held - wanted:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [_key(name)])
            self._held &= wanted
            for name in sorted(wanted - self._held):
                cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [_key(name)])
                if cursor.fetchone()[0]:
                    self._held.add(name)
        return set(self._held)


def _key(name: str) -> str:
    return f"watch:{name}"


class Watcher:
    """Keeps one watch for each cluster that this process holds the lock of."""

    def __init__(self, make: Callable[[Cluster], Watch | None] = watch_of) -> None:
        self._make, self._claims = make, Claims()
        self._watches: dict[str, tuple[tuple, Watch]] = {}
        self._trouble = ""

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set. What is away, be it the database, is tried again for as long as it takes."""
        while not stop.is_set():
            self.tick()
            stop.wait(TICK_S)
        self.close()

    def tick(self) -> None:
        """Begin, renew and end watches as the clusters' rows say now."""
        try:
            rows = {str(cluster.id): cluster for cluster in Cluster.objects.present()}
            mine = self._claims.keep(rows)
        except (DatabaseError, InterfaceError) as error:
            if str(error) != self._trouble:
                log.warning("the database is away, clusters are watched as they were: %s", error)
            self._trouble = str(error)
            connection.close()
            return
        self._trouble = ""
        for name in set(self._watches) - mine:
            self._end(name)
        for name in mine:
            self._keep(name, rows[name])

    def close(self) -> None:
        """End every watch, and give up the clusters."""
        for _, watch in self._watches.values():
            watch.stop()
        deadline = time.monotonic() + END_S
        for _, watch in self._watches.values():
            watch.join(max(0.0, deadline - time.monotonic()))
        self._watches.clear()
        try:
            self._claims.keep(())
        except (DatabaseError, InterfaceError) as error:
            log.info("the locks go with the session: %s", error)
        connection.close()

    def _keep(self, name: str, cluster: Cluster) -> None:
        signature = _signature(cluster)
        if name in self._watches:
            held, watch = self._watches[name]
            if held == signature and watch.is_alive():
                return
            self._end(name)
        watch = self._make(cluster)
        if watch is not None:
            watch.start()
            self._watches[name] = (signature, watch)

    def _end(self, name: str) -> None:
        _, watch = self._watches.pop(name)
        watch.stop()


def _signature(cluster: Cluster) -> tuple:
    """What a watch must be begun anew for: how the cluster is reached, and what is to be seen there."""
    has_sets = feature(LEADER_WORKER_SET) in cluster.features
    return cluster.driver, cluster.credentials_version, tuple(cluster.namespaces), has_sets
