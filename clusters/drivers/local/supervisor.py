"""The process that makes a data folder's local clusters what they are wanted to be.

It owns no truth: what is wanted are files, what runs is found by its records. Killed and started
again, it takes the engines over that are still alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from clusters.drivers.local.deployment import Deployment
from clusters.drivers.local.engine import Engine, Site
from clusters.drivers.local.folder import ClusterFolder, Heartbeat
from clusters.triton.errors import EngineNotInstalled
from clusters.triton.server import Installation
from embedded.datadir import DataDir, open_data_dir
from gateway.contract.redaction import log_to_stderr

logger = logging.getLogger(__name__)

TICK_S: Final = 0.1
BEAT_S: Final = 1.0
RESCAN_S: Final = 1.0
STOP_PATIENCE_S: Final = 5.0
LOCK_PATIENCE_S: Final = 30.0


class Cluster:
    """One cluster's deployments, kept in step with its files."""

    def __init__(self, site: Site, *, data_dir: DataDir, now: float) -> None:
        self._site = site
        self._cache = data_dir.folder("models")
        self._deployments: dict[str, Deployment] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._scanned_at = float("-inf")
        self._folder_mtime = 0
        for engine in Engine.find_again(site, now=now):
            self._deployment(engine.record.deployment).adopt(engine)
        for name in site.folder.names():
            self._deployment(name)

    def tick(self, now: float) -> None:
        """Read what changed, then bring every deployment one step on; a cluster marked as lost loses its engines."""
        if self._site.folder.lost:
            for deployment in self._deployments.values():
                deployment.lose()
            return
        self._scan(now)
        for name, deployment in list(self._deployments.items()):
            if not deployment.tick(now):
                self._forget(name, deployment)

    def deployments(self) -> list[Deployment]:
        return list(self._deployments.values())

    def _scan(self, now: float) -> None:
        """Look for specs that came, changed or went; a full look at least every RESCAN_S."""
        mtime = self._site.folder.desired.stat().st_mtime_ns
        if mtime == self._folder_mtime and now - self._scanned_at < RESCAN_S:
            return
        self._folder_mtime, self._scanned_at = mtime, now
        present: dict[str, tuple[int, int]] = {}
        for path in self._site.folder.desired.glob("[!.]*.json"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                present[path.stem] = (found.st_mtime_ns, found.st_ino)
        for name, changed in present.items():
            if self._seen.get(name) != changed:
                self._take_up(name, now)
        for name in [*self._deployments]:
            if name not in present:
                self._deployments[name].want(None, now=now)
        self._seen = present

    def _take_up(self, name: str, now: float) -> None:
        folder = self._site.folder
        # Under the lock, so that whoever takes the spec back sees the status written here, and
        # does not believe that nothing was ever started.
        with folder.locked():
            spec = folder.read_desired(name)
            if spec is None:
                logger.error("%s/%s: the spec cannot be read", folder.cluster, name)
                return
            deployment = self._deployment(name)
            deployment.want(spec, now=now)
            deployment.write_status()

    def _deployment(self, name: str) -> Deployment:
        if name not in self._deployments:
            self._deployments[name] = Deployment(self._site, name, cache=self._cache)
        return self._deployments[name]

    def _forget(self, name: str, deployment: Deployment) -> None:
        with self._site.folder.locked():
            deployment.remove_traces()
        del self._deployments[name]
        self._seen.pop(name, None)


class Supervisor:
    """All local clusters of one data folder."""

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        self._heartbeat = Heartbeat(data_dir)
        self._installation = Installation.find()
        self._backends = self._installation.prepare_backends(data_dir.folder("triton"))
        self._probes = ThreadPoolExecutor(max_workers=4, thread_name_prefix="probe")
        self._clusters: dict[str, Cluster] = {}
        self._beaten_at = float("-inf")
        self._stopping = threading.Event()

    def run(self) -> None:
        """Supervise until `request_stop`, then end every engine."""
        logger.info("supervising the engines below %s", self._data_dir.path)
        while not self._stopping.is_set():
            self.tick(time.monotonic())
            self._stopping.wait(TICK_S)
        self._heartbeat.stop()
        self._stop_engines()
        self._probes.shutdown(wait=False, cancel_futures=True)

    def request_stop(self) -> None:
        """Make `run` return; safe in a signal handler."""
        self._stopping.set()

    def tick(self, now: float) -> None:
        """Make one round over all clusters; one cluster's fault does not keep the others waiting."""
        due = now - self._beaten_at >= BEAT_S
        if due:
            self._find_clusters(now)
        for name, cluster in self._clusters.items():
            try:
                cluster.tick(now)
            except Exception:
                logger.exception("cluster %s: this round failed", name)
        if due:  # last, so that whoever sees the first beat sees no state of an earlier supervisor
            self._heartbeat.beat()
            self._beaten_at = now

    def _find_clusters(self, now: float) -> None:
        for path in self._data_dir.folder("clusters").iterdir():
            if path.is_dir() and path.name not in self._clusters:
                try:
                    self._clusters[path.name] = self._cluster(path.name, now)
                except Exception:
                    logger.exception("cluster %s: cannot be looked after yet", path.name)

    def _cluster(self, name: str, now: float) -> Cluster:
        site = Site(
            data_dir=self._data_dir,
            folder=ClusterFolder(self._data_dir, name),
            installation=self._installation,
            backends=self._backends,
            probes=self._probes,
        )
        return Cluster(site, data_dir=self._data_dir, now=now)

    def _stop_engines(self) -> None:
        deployments = [d for cluster in self._clusters.values() for d in cluster.deployments()]
        now = time.monotonic()
        deadline = now + STOP_PATIENCE_S
        for deployment in deployments:
            deployment.stop(now)
        while deployments and now < deadline:
            time.sleep(TICK_S / 2)
            now = time.monotonic()
            deployments = [d for d in deployments if not d.stopped(now)]
        for deployment in deployments:
            deployment.kill()
        logger.info("all engines have ended")


@contextlib.contextmanager
def sole_supervisor(data_dir: DataDir) -> Iterator[bool]:
    """Hold the folder's supervisor lock, waiting for one that is just ending; False if it stays held."""
    with open(data_dir.folder("locks") / "local-supervisor", "w") as file:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(TICK_S)
            else:
                yield True
                return


def main() -> int:
    """Supervise the data folder that BERTH_DATA_DIR names until SIGTERM or SIGINT."""
    log_to_stderr(logging.INFO, "%(asctime)s %(levelname)s %(message)s")
    data_dir = open_data_dir()
    with sole_supervisor(data_dir) as alone:
        if not alone:
            logger.error("another supervisor works on %s", data_dir.path)
            return 1
        try:
            supervisor = Supervisor(data_dir)
        except EngineNotInstalled as error:
            logger.error("%s", error)
            return 1
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: supervisor.request_stop())
        supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
