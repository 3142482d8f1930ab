"""How long anything of a running Berth stood still, looked at from outside, in its database and its folders."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Final

import psycopg

from embedded.datadir import DataDir
from embedded.postgres import Postgres
from gateway.metering.log import log_files
from gateway.metering.spool import cut_files

LOOK_S: Final = 0.5
LONG_S: Final = 20.0
SETTLED: Final = ("ready", "paused", "deleted")

#: What stands still, and since how many seconds the oldest of it does. Nothing that is settled is in here.
LOOKS: Final = {
    "endpoint_pass_s": "SELECT extract(epoch FROM now() - min(due_at)) FROM clusters_endpoint"
    " WHERE due_at < now() AND deleted_at IS NULL",
    "usage_to_be_counted_s": "SELECT extract(epoch FROM now() - min(received_at)) FROM billing_usagesegment"
    " WHERE xact >= (SELECT min(xact) FROM billing_rollupmark)",
}


class Watch(threading.Thread):
    """Looks twice a second until :meth:`end`; ``longest`` has the longest times that were seen.

    It also keeps hold of every file of the gateway's usage log by a second name, because the gateway removes those
    that were shipped.
    """

    def __init__(self, data_dir: DataDir, *, gateway: str, keep: Path) -> None:
        super().__init__(name="stillness", daemon=True)
        self._url = Postgres(data_dir).superuser_url()
        self._gateway = data_dir.path / "gateway" / gateway
        self._keep = keep
        self._ending = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._away_since: float | None = None
        self._on_its_way: dict[str, float] = {}
        names = [*LOOKS, "endpoint_on_its_way_s", "segment_at_gateway_s", "database_away_s"]
        self.longest: dict[str, float] = dict.fromkeys(names, 0.0)
        #: When something stood still for long: time of day, what, for how many seconds.
        self.long_times: list[tuple[str, str, float]] = []
        keep.mkdir()

    def end(self) -> None:
        self._ending.set()
        self.join(30)

    def run(self) -> None:
        while not self._ending.wait(LOOK_S):
            self.keep_logs()
            with contextlib.suppress(FileNotFoundError):
                waiting = [path.stat().st_mtime for path in cut_files(self._gateway / "spool").values()]
                self._note("segment_at_gateway_s", time.time() - min(waiting, default=time.time()))
            self._ask()

    @property
    def at_rest(self) -> bool:
        """Whether the last look saw every endpoint settled."""
        return self._away_since is None and not self._on_its_way

    def keep_logs(self) -> None:
        """Give every log file that is not kept yet its second name."""
        for number, path in log_files(self._gateway / "log").items():
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(path, self._keep / f"{number:012d}.jsonl")

    def _ask(self) -> None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=3)
            for name, query in LOOKS.items():
                (seconds,) = self._connection.execute(query).fetchone() or (None,)
                self._note(name, float(seconds or 0.0))
            states = self._connection.execute("SELECT id, state FROM clusters_endpoint").fetchall()
            self._note_states({str(identity): state for identity, state in states})
            self._away_since = None
        except psycopg.Error:
            self._connection = None
            self._away_since = self._away_since or time.monotonic()
            self._note("database_away_s", time.monotonic() - self._away_since)

    def _note_states(self, states: dict[str, str]) -> None:
        """Count from when an endpoint was last seen settled, whatever it went through since."""
        now = time.monotonic()
        underway = [identity for identity, state in states.items() if state not in SETTLED]
        self._on_its_way = {identity: self._on_its_way.get(identity, now) for identity in underway}
        self._note("endpoint_on_its_way_s", now - min(self._on_its_way.values(), default=now))

    def _note(self, name: str, seconds: float) -> None:
        if seconds > LONG_S:
            self.long_times.append((time.strftime("%H:%M:%S"), name, round(seconds, 1)))
        self.longest[name] = max(self.longest[name], seconds)
