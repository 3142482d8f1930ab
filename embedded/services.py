"""PostgreSQL and Redis of a data folder as one thing: start, find, stop, watch."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading

from embedded.datadir import DataDir, read_json, write_json
from embedded.errors import EmbeddedError
from embedded.postgres import Postgres
from embedded.redis import Redis

LOCK = "services"
LIMITS_DATABASE = 1  # of Redis; the queues have 0
WATCH_S = 0.5

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Services:
    """Where the running services answer. The URLs hold passwords."""

    database_url: str
    database_owner_url: str
    redis_url: str
    pids: tuple[int, ...]  # their main processes

    def environment(self) -> dict[str, str]:
        """Give the variables by which Berth's processes find them."""
        return {
            "DATABASE_URL": self.database_url,
            "DATABASE_OWNER_URL": self.database_owner_url,
            "CELERY_BROKER_URL": self.redis_url,
            "BERTH_GATEWAY_REDIS_URL": f"{self.redis_url.rpartition('/')[0]}/{LIMITS_DATABASE}",
        }


def start(data_dir: DataDir) -> Services:
    """Start what does not run yet and adopt what does; return once both answer.

    Safe to call at once from several processes: the second finds what the first started.

    Raises:
        ServiceFailed: one did not come up.
    """
    return _start(data_dir, same_port=False)


def current(data_dir: DataDir) -> Services | None:
    """Give the services if both are alive, without starting anything."""
    kept = read_json(data_dir.file("services.json"))
    postgres, redis = Postgres(data_dir).alive(), Redis(data_dir).alive()
    if not isinstance(kept, dict) or postgres is None or redis is None:
        return None
    return Services(**kept | {"pids": (postgres.pid, redis.pid)})


def stop(data_dir: DataDir) -> None:
    """Stop both, Redis first; nothing happens where none runs."""
    with data_dir.locked(LOCK):
        Redis(data_dir).stop()
        Postgres(data_dir).stop()
        data_dir.file("services.json").unlink(missing_ok=True)


def pids(data_dir: DataDir) -> list[int]:
    """List the main processes of those services that are alive."""
    return [record.pid for each in (Postgres, Redis) if (record := each(data_dir).alive()) is not None]


class Watchdog(threading.Thread):
    """Restarts PostgreSQL or Redis on its old port when it died, until `stop`."""

    def __init__(self, data_dir: DataDir, *, interval_s: float = WATCH_S) -> None:
        super().__init__(name="services-watchdog", daemon=True)
        self.data_dir = data_dir
        self.interval_s = interval_s
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(self.interval_s):
            if len(pids(self.data_dir)) == 2:
                continue
            logger.warning("a service died; restarting it")
            try:
                _start(self.data_dir, same_port=True)
            except EmbeddedError as error:
                logger.error("%s", error)

    def stop(self) -> None:
        """Leave the services as they are and end the thread."""
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # it was never started
            self.join()


def _start(data_dir: DataDir, *, same_port: bool) -> Services:
    with data_dir.locked(LOCK):
        postgres, redis = Postgres(data_dir), Redis(data_dir)
        postgres_record = postgres.start(same_port=same_port)
        redis_record = redis.start(same_port=same_port)
        services = Services(
            database_url=postgres.app_url(),
            database_owner_url=postgres.owner_url(),
            redis_url=redis.url(),
            pids=(postgres_record.pid, redis_record.pid),
        )
        write_json(data_dir.file("services.json"), dataclasses.asdict(services))
        return services
