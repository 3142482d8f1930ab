"""Watching one Kubernetes cluster: what changes there wakes whom it concerns, and its GPUs are written down."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from clusters.drivers.base import DriverError
from clusters.endpoints.watch import (
    cluster_away,
    cluster_seen,
    wake_changed,
    wake_endpoints,
    wake_pools,
    wake_unfit,
)
from clusters.inventory import gateways
from clusters.inventory.access import credentials_of
from clusters.inventory.drivers import driver_of, feature, installation_of
from clusters.inventory.nodes import Unread, gpu_part, lean_node, lean_pod, node_part, only_metadata
from clusters.inventory.reading import inventory_read, inventory_unread
from clusters.inventory.refresh import PODS_WITH_NODE, about_read
from clusters.inventory.renewing import credentials_renew
from clusters.kube.client import KubeClient
from clusters.kube.errors import KubeError, ServerTrouble, Unauthorized, Unreachable
from clusters.kube.kinds import DEPLOYMENT, JOB, LEADER_WORKER_SET, NODE, POD, STATEFUL_SET, Kind
from clusters.kube.manifests.names import INSTALLATION, PREFIX
from clusters.kube.watch import Reflector
from clusters.models import Cluster, Gateway
from tenants.errors import BerthError

log = logging.getLogger(__name__)

WAKE_AFTER_S: Final = 0.2  # changes of one endpoint come in bursts
READ_AFTER_S: Final = 1.0  # nodes' and pods' too
READ_EVERY_S: Final = 60.0
LOOK_EVERY_S: Final = 60.0  # every deployment compared with what is written: an event, a wake may be lost
FRESH_FOR_S: Final = 300.0  # longer than a watch: a picture that nobody confirmed since then is an old one
PATIENCE_S: Final = 20.0  # a watch that breaks is mostly resumed sooner
ABOUT_EVERY_S: Final = 300.0
RENEW_EVERY_S: Final = 60.0
PROBE_S: Final = 5.0
PROBE_AGAIN_S: Final = 1.0
AWAY_AFTER: Final = 2  # probes in a row without an answer
RETRY_S: Final = 1.0  # after trouble with the database
END_S: Final = 1.0  # waited for each reflector
_IDLE_S: Final = 5.0

ENDPOINT: Final = f"{PREFIX}/endpoint"
GATEWAY: Final = f"{PREFIX}/gateway"

OWN_KINDS: Final = (DEPLOYMENT, STATEFUL_SET, JOB, POD, LEADER_WORKER_SET)
"""Followed where they carry the installation's label; the last where the cluster serves it."""
ALL_OF: Final[Mapping[Kind, str]] = {NODE: "", POD: PODS_WITH_NODE}
"""Followed whoever made them, by these field selectors, where Berth may read the whole cluster."""


class KubernetesWatch(threading.Thread):
    """Two threads beside the reflectors': this one writes to the database, the other asks the cluster how it is.

    ``stop`` asks all of them to end and breaks their connections.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name=f"watch-{cluster.name}", daemon=True)
        self._cluster_id, self._cluster_name = cluster.id, cluster.name
        self._namespaces = list(cluster.namespaces)
        self._has_sets = feature(LEADER_WORKER_SET) in cluster.features
        self._installation = installation_of(cluster)
        self._stopping, self._poke = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._due: dict[tuple[str, uuid.UUID], float] = {}  # ("endpoint" or "gateway", id): when to wake it
        self._read_at = time.monotonic() + READ_AFTER_S
        self._reflectors: list[Reflector] = []

    def stop(self) -> None:
        self._stopping.set()
        self._poke.set()

    def run(self) -> None:
        client = self._connect()
        if client is None:
            return
        keeper = threading.Thread(
            target=self._keep_in_touch, args=(client,), name=f"{self.name}-probe", daemon=True
        )
        try:
            self._begin(client)
            keeper.start()
            while not self._stopping.is_set():
                self._poke.clear()
                self._poke.wait(self._write_what_is_due())
        except Exception:
            log.exception("the watch of cluster %s broke; it is begun anew", self._cluster_name)
        finally:
            self._stopping.set()
            client.close()
            for patience_s in (0.0, END_S):  # all are told before any is waited for
                for reflector in self._reflectors:
                    reflector.stop(patience_s)
            if keeper.is_alive():
                keeper.join(END_S)
            connections.close_all()

    def _connect(self) -> KubeClient | None:
        while not self._stopping.is_set():
            with self._healing("opened"):
                cluster = Cluster.objects.get(id=self._cluster_id)
                try:
                    return KubeClient(credentials_of(cluster))
                except BerthError as error:
                    cluster_away(cluster, error.message)
            self._stopping.wait(_IDLE_S)
        return None

    def _begin(self, client: KubeClient) -> None:
        labels = f"{INSTALLATION}={self._installation}"
        places: list[str | None] = [*self._namespaces] or [None]
        for kind in OWN_KINDS:
            if kind == LEADER_WORKER_SET and not self._has_sets:
                continue
            for namespace in places:
                self._reflect(
                    client, kind, self._on_own, namespace=namespace, labels=labels, keep=only_metadata
                )
        if not self._namespaces:
            tell = {NODE: (self._on_node, lean_node), POD: (self._on_pod, lean_pod)}
            found = {}
            for kind, fields in ALL_OF.items():
                on_change, keep = tell[kind]
                found[kind] = self._reflect(client, kind, on_change, fields=fields, keep=keep)
            self._nodes, self._pods = found[NODE], found[POD]

    def _reflect(
        self, client: KubeClient, kind: Kind, on_change: Callable[..., None], **where: Any
    ) -> Reflector:
        def tell(_: Kind, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
            # What the first list holds is no change: all of it is compared once, when it is whole.
            if reflector.synced:
                on_change(old, new)

        reflector = Reflector(client, kind, on_change=tell, **where)
        self._reflectors.append(reflector)
        return reflector.start()

    # What reflectors' threads call: it only notes.

    def _on_own(self, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        labels = ((new or old or {}).get("metadata") or {}).get("labels") or {}
        for what, label in (("endpoint", ENDPOINT), ("gateway", GATEWAY)):
            try:
                row_id = uuid.UUID(labels[label])
            except (KeyError, ValueError):
                continue
            with self._lock:
                self._due.setdefault((what, row_id), time.monotonic() + WAKE_AFTER_S)
            self._poke.set()

    def _on_node(self, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        if old is None or new is None or node_part(old) != node_part(new):
            self._read_soon()

    def _on_pod(self, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        if (gpu_part(old) if old else None) != (gpu_part(new) if new else None):
            self._read_soon()

    def _read_soon(self) -> None:
        with self._lock:
            self._read_at = min(self._read_at, time.monotonic() + READ_AFTER_S)
        self._poke.set()

    # What this thread does.

    def _write_what_is_due(self) -> float:
        """Wake whom it is time to wake, read the inventory when it is time to; give the seconds to the next."""
        now = time.monotonic()
        with self._lock:
            due = [key for key, at in self._due.items() if at <= now]
            for key in due:
                del self._due[key]
            read = self._read_at <= now
            if read:
                self._read_at = now + READ_EVERY_S
        if due and not self._tried("woken", functools.partial(self._wake, due)):
            with self._lock:
                for key in due:
                    self._due.setdefault(key, now + RETRY_S)
        if read and not self._namespaces and not self._tried("read", self._read):
            with self._lock:
                self._read_at = min(self._read_at, now + RETRY_S)
        with self._lock:
            soonest = min([*self._due.values(), self._read_at])
        return min(max(0.01, soonest - time.monotonic()), _IDLE_S)

    def _wake(self, due: list[tuple[str, uuid.UUID]]) -> None:
        wake_endpoints({row_id for what, row_id in due if what == "endpoint"})
        chosen = {row_id for what, row_id in due if what == "gateway"}
        if chosen:
            for gateway in Gateway.objects.filter(id__in=chosen, cluster=self._cluster_id):
                gateways.wake(gateway)

    def _read(self) -> None:
        cluster = Cluster.objects.filter(id=self._cluster_id).first()
        if cluster is None:
            return
        now, dark = timezone.now(), [each for each in (self._nodes, self._pods) if _is_dark(each)]
        if dark:
            notes = [
                Unread(
                    what=f"The cluster's {each.kind.plural}",
                    why=f"They cannot be listed: {each.failure or 'the watch has gone silent'}",
                    todo="GPUs are kept as they were last read. Check the connection.",
                )
                for each in dark
                if each.age_s > PATIENCE_S and (each.synced or each.failure)
            ]
            if notes:
                inventory_unread(cluster, notes, now=now)
            self._read_soon()
            return
        nodes, pods = self._nodes.store.values(), self._pods.store.values()
        change = inventory_read(cluster, nodes=nodes, pods=pods, now=now)
        if change.lost:
            log.warning("cluster %s lost %d nodes for engines", self._cluster_name, len(change.lost))
            wake_pools({pool_id for pool_id, _ in change.lost})

    # What the other thread does.

    def _keep_in_touch(self, client: KubeClient) -> None:
        told_away, failures = False, 0
        marked = functools.partial(self._tried, "marked as seen", functools.partial(self._mark, ""))
        about_at = renew_at = look_at = 0.0
        pause = 0.0
        while not self._stopping.wait(pause):
            trouble = _probe(client)
            failures = failures + 1 if trouble else 0
            pause = PROBE_AGAIN_S if 0 < failures < AWAY_AFTER else PROBE_S
            if self._stopping.is_set():
                break
            if failures >= AWAY_AFTER:
                told_away = True
                self._tried("marked as away", functools.partial(self._mark, trouble))
            if trouble:
                continue
            now = time.monotonic()
            if marked() and told_away:
                told_away, look_at = False, 0.0
            if now >= about_at and self._tried("asked what it is", functools.partial(self._about, client)):
                about_at = now + ABOUT_EVERY_S
            if now >= look_at and self._all_synced() and self._tried("compared", self._look):
                look_at = now + LOOK_EVERY_S
            if now >= renew_at:
                self._tried("given a new token", self._renew)
                renew_at = now + RENEW_EVERY_S
        connections.close_all()

    def _all_synced(self) -> bool:
        return all(reflector.synced or reflector.failure for reflector in self._reflectors)

    def _mark(self, trouble: str) -> None:
        cluster = Cluster.objects.filter(id=self._cluster_id).first()
        if cluster is None:
            return
        if trouble:
            cluster_away(cluster, trouble)
        else:
            cluster_seen(cluster)

    def _about(self, client: KubeClient) -> None:
        cluster = Cluster.objects.filter(id=self._cluster_id).first()
        if cluster is not None:
            about_read(cluster, client)

    def _look(self) -> None:
        cluster = Cluster.objects.filter(id=self._cluster_id).first()
        if cluster is not None:
            wake_unfit(cluster)
            wake_changed(cluster, driver_of(cluster).deployments())

    def _renew(self) -> None:
        cluster = Cluster.objects.exclude(credentials=None).filter(id=self._cluster_id).first()
        if cluster is not None:
            credentials_renew(cluster=cluster)

    def _tried(self, what: str, step: Callable[[], object]) -> bool:
        """Run a step; say whether it went through. What fails is told, and tried again in its time."""
        with self._healing(what):
            step()
            return True
        return False

    @contextlib.contextmanager
    def _healing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (DriverError, KubeError, BerthError) as error:
            log.info("cluster %s could not be %s: %s", self._cluster_name, what, error)
        except (DatabaseError, InterfaceError) as error:
            log.warning("the database is away, cluster %s was not %s: %s", self._cluster_name, what, error)
        except Exception:
            if self._stopping.is_set():  # its connection was closed under it
                log.info("cluster %s was not %s: its watch ends", self._cluster_name, what)
            else:
                log.exception("cluster %s could not be %s", self._cluster_name, what)
        finally:
            connections.close_all()


def _is_dark(picture: Reflector) -> bool:
    """Whether a picture may be older than its cluster."""
    return not picture.synced or bool(picture.failure) or picture.age_s > FRESH_FOR_S


def _probe(client: KubeClient) -> str:
    """Ask the cluster who we are; give why it cannot be used, empty where it can.

    An answer of any other kind than these is a sign of life: its cause is told where it hurts.
    """
    try:
        client.whoami()
    except Unauthorized as error:
        return f"It does not accept Berth's credentials any more: {error}"
    except (Unreachable, ServerTrouble) as error:
        return str(error)
    except KubeError:
        return ""
    return ""
