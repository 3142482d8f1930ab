"""One tritonserver process: started, found again, asked, drained, cleared away."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import secrets
import signal
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final

import msgspec

from clusters.drivers.local.folder import ClusterFolder
from clusters.specs import Phase, ReplicaStatus
from clusters.triton import ENGINE_MODEL, health
from clusters.triton.errors import EngineUnavailable
from clusters.triton.server import Installation, failure_reason
from embedded import processes
from embedded.datadir import DataDir, write_json
from embedded.faults import wires
from embedded.processes import ProcessRecord

EXIT_TIMEOUT_S: Final = 300
"""How long streams may go on at least once the server was told to end; where its spec says longer, that."""
DRAIN_NOTICE_S: Final = 1.0
"""How long a draining engine still takes requests, for gateways that have not heard of it yet."""
KILL_AFTER_S: Final = 5.0
"""After that time, of one that has not ended."""
MESSAGES: Final = {
    Phase.STARTING: "loading the model",
    Phase.READY: "",
    Phase.DRAINING: "finishing its requests",
}
START_TIMEOUT_S: Final = 120.0
LOG_LINES: Final = 200
LOGS_KEPT: Final = 10
PROBE_STARTING_S: Final = 0.1
PROBE_READY_S: Final = 2.0
PROBE_DRAINING_S: Final = 0.3
PROBE_MISSES: Final = 5


def replica_id(deployment: str, index: int, token: str) -> str:
    """Name a replica; the token makes it differ from every other that had its place."""
    return f"{deployment}-{index}-{token}"


class EngineRecord(msgspec.Struct, kw_only=True):
    """What is kept of an engine on disk, so that the next supervisor finds it again."""

    replica_id: str
    deployment: str
    index: int
    process: str  # its name in the data folder's process records, and its mark in the environment
    engine_spec: str  # digest
    port: int
    metrics_port: int
    admin_key: str
    restarts: int
    started_at: dt.datetime
    ready_at: dt.datetime | None = None
    exit_timeout_s: int = EXIT_TIMEOUT_S
    wire_port: int | None = None  # where gateways connect, if their way leads through a relay


class Ended(enum.StrEnum):
    """Why an engine is not to go on."""

    DIED = "the engine's process ended"
    SLOW = f"the engine was not ready within {START_TIMEOUT_S:.0f} s"
    MUTE = f"the engine did not answer {PROBE_MISSES} times in a row"


@dataclasses.dataclass(frozen=True)
class Site:
    """What engines of one cluster share."""

    data_dir: DataDir
    folder: ClusterFolder
    installation: Installation
    backends: Path
    probes: Executor


class Engine:
    """A running tritonserver and what is known of it. ``now`` is always monotonic seconds."""

    def __init__(self, site: Site, record: EngineRecord, process: ProcessRecord, *, now: float) -> None:
        self.record = record
        self.process = process
        self.draining = False
        self._site = site
        self._since = now
        self._ready_since = now if record.ready_at else None
        self._probe: Future[bool] | None = None
        self._next_probe = now
        self._misses = 0
        self._drain_at: float | None = None
        self._told_to_end = False
        self._load: Future[bool] | None = None
        self._idle_answers = 0

    @classmethod
    def launch(
        cls,
        site: Site,
        *,
        deployment: str,
        index: int,
        token: str,
        restarts: int,
        engine_spec: str,
        drain_s: int,
        now: float,
    ) -> Engine:
        """Start a server on the deployment's repository of that digest; ``token`` is unique to it.

        It may finish what it has for ``drain_s`` seconds once it is told to end.

        Raises:
            EmbeddedError: the process could not be started.
        """
        port, metrics_port = processes.free_ports(2)
        record = EngineRecord(
            replica_id=replica_id(deployment, index, token),
            deployment=deployment,
            index=index,
            process=f"engine-{token}",
            engine_spec=engine_spec,
            port=port,
            metrics_port=metrics_port,
            admin_key=secrets.token_urlsafe(24),
            restarts=restarts,
            started_at=dt.datetime.now(dt.UTC),
            exit_timeout_s=max(EXIT_TIMEOUT_S, drain_s),
            wire_port=wires.lay(site.data_dir, f"engine-{token}", port),
        )
        command = site.installation.command(
            repository=site.folder.repository(deployment, engine_spec),
            backends=site.backends,
            port=record.port,
            metrics_port=record.metrics_port,
            admin_key=record.admin_key,
            shm_prefix=processes.shm_prefix(site.data_dir, record.process),
            exit_timeout_s=record.exit_timeout_s,
        )
        log = site.folder.log(deployment, record.replica_id)
        log.parent.mkdir(exist_ok=True)
        _keep_latest_logs(log.parent)
        _write(site, record)  # before the process, so that a supervisor killed in between leaves a trace
        try:
            process = processes.spawn(
                record.process,
                command.argv,
                data_dir=site.data_dir,
                env=command.env,
                log_path=log,
            )
        except Exception:
            _path(site, record).unlink(missing_ok=True)
            raise
        return cls(site, record, process, now=now)

    @classmethod
    def find_again(cls, site: Site, *, now: float) -> list[Engine]:
        """Take over the engines that an earlier supervisor left running, and clear away dead ones."""
        found = []
        for path in site.folder.engines.glob("*.json"):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=EngineRecord)
            except msgspec.MsgspecError:
                path.unlink()
                continue
            process = processes.find(site.data_dir, record.process)
            if process is not None:
                found.append(cls(site, record, process, now=now))
            else:
                _clear(site, record)
        return found

    @property
    def ready(self) -> bool:
        return self._ready_since is not None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.record.port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.record.metrics_port}"

    def ready_for(self, now: float) -> float:
        """Seconds since it became ready, 0 before."""
        return 0.0 if self._ready_since is None else now - self._ready_since

    def check(self, now: float) -> Ended | None:
        """Look after an engine that is to run; say so if it has to be replaced."""
        if not processes.alive(self.process):
            return Ended.DIED
        self._take_probe(now)
        if self._misses >= PROBE_MISSES:
            return Ended.MUTE
        if not self.ready and now - self._since > START_TIMEOUT_S:
            return Ended.SLOW
        return None

    def drain(self, now: float, *, notice: bool = True) -> None:
        """Begin to end it: first nobody sends it requests any more, then it finishes those it has."""
        if not self.draining:
            self.draining = True
            self._drain_at = now + (DRAIN_NOTICE_S if notice and self.ready else 0.0)

    def drained(self, now: float) -> bool:
        """Go on with ending it; True once nothing of it is left."""
        assert self._drain_at is not None
        # One that never was ready has no requests to finish, and may not heed SIGTERM while it loads.
        if self.ready and processes.alive(self.process) and now < self._kill_at:
            if now >= self._drain_at and not self._told_to_end:
                self._told_to_end = True
                processes.send(self.process, signal.SIGTERM)
            if not self._idle(now):
                return False
        self.clear()
        return True

    @property
    def _kill_at(self) -> float:
        assert self._drain_at is not None
        return self._drain_at + self.record.exit_timeout_s + KILL_AFTER_S

    def clear(self) -> None:
        """Kill what is left of it, its stub and shared memory included, and forget it."""
        _clear(self._site, self.record)

    def last_words(self) -> str:
        """Give what its log says about its end."""
        return failure_reason(self._log_tail())

    def status(self) -> ReplicaStatus:
        """Show it as a replica."""
        phase = Phase.DRAINING if self.draining else Phase.READY if self.ready else Phase.STARTING
        return ReplicaStatus(
            replica_id=self.record.replica_id,
            index=self.record.index,
            phase=phase,
            url=f"http://127.0.0.1:{self.record.wire_port or self.record.port}",
            engine_model=ENGINE_MODEL,
            message=MESSAGES[phase],
            started_at=self.record.started_at,
            ready_at=self.record.ready_at,
            restarts=self.record.restarts,
        )

    def _idle(self, now: float) -> bool:
        """Whether it was told to end and has answered everything, as it said twice in a row.

        It may be killed then. By itself it would wait for idle connections too, with its GPUs held,
        until the exit timeout. The second answer leaves the last bytes time to get on their way.
        """
        if not self._told_to_end:
            return False
        if self._load is None and now >= self._next_probe:
            self._load = self._site.probes.submit(_has_no_requests, self.metrics_url)
            self._next_probe = now + PROBE_DRAINING_S
        if self._load is not None and self._load.done():
            self._idle_answers = self._idle_answers + 1 if self._load.result() else 0
            self._load = None
        return self._idle_answers >= 2

    def _log_tail(self) -> str:
        log = self._site.folder.log(self.record.deployment, self.record.replica_id)
        return processes.log_tail(log, LOG_LINES)

    def _take_probe(self, now: float) -> None:
        if self._probe is None and now >= self._next_probe:
            self._probe = self._site.probes.submit(health.is_ready, self.url)
        if self._probe is None or not self._probe.done():
            return
        answered, self._probe = self._probe.result(), None
        if answered and self._ready_since is None:
            self._ready_since = now
            self.record.ready_at = dt.datetime.now(dt.UTC)
            _write(self._site, self.record)
        self._misses = 0 if answered or not self.ready else self._misses + 1
        self._next_probe = now + (PROBE_READY_S if self.ready else PROBE_STARTING_S)


def _has_no_requests(metrics_url: str) -> bool:
    try:
        load = health.load(metrics_url)
    except EngineUnavailable:
        return False
    return load.active + load.waiting == 0


def _keep_latest_logs(folder: Path) -> None:
    logs = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    for log in logs[: 1 - LOGS_KEPT]:
        log.unlink()


def _path(site: Site, record: EngineRecord) -> Path:
    return site.folder.engines / f"{record.replica_id}.json"


def _write(site: Site, record: EngineRecord) -> None:
    write_json(_path(site, record), msgspec.to_builtins(record))


def _clear(site: Site, record: EngineRecord) -> None:
    processes.reap_matching(site.data_dir, processes.PROCESS, record.process)
    processes.record_path(site.data_dir, record.process).unlink(missing_ok=True)
    wires.remove(site.data_dir, record.process)
    _path(site, record).unlink(missing_ok=True)
