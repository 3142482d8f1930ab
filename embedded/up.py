"""Bring Berth up on one machine and take it down again without leftovers."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import fcntl
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from embedded import environment as environments
from embedded import processes, proctable, requirements, services
from embedded.datadir import DataDir, open_data_dir, read_json, write_json
from embedded.errors import AlreadyRunning, EmbeddedError
from embedded.faults import wires
from embedded.keep import GRACE_S
from embedded.runner import ProcfileRunner, kept_command, read_procfile

LOCK_WAIT_S = 5.0
DOWN_S = 60.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """What of a data folder runs now."""

    pid: int | None  # the runner
    urls: Mapping[str, str]
    services: services.Services | None
    processes: Sequence[processes.ProcessRecord]


class _Stopped(BaseException):
    """A stop signal arrived before the processes ran."""


def run(
    data_dir: DataDir,
    *,
    procfile: Path = Path("Procfile"),
    prepare: Sequence[Sequence[str]] = (),
    extra_env: Mapping[str, str] | None = None,
    on_ready: Callable[[Mapping[str, str]], int | None] | None = None,
    quiet: bool = False,
    keep: bool = True,
    grace_s: float = GRACE_S,
    say: Callable[[str], None] = print,
) -> int:
    """Run everything until a stop signal, and return the exit status.

    In order: what an earlier run left is reaped, PostgreSQL and Redis start, each command of
    ``prepare`` runs to its end, then the Procfile's processes run (in the Procfile's folder, each
    started again when it dies unless ``keep`` is false). ``on_ready`` gets the processes'
    environment once all are started, on a thread of its own; when it returns a number everything
    stops and that is the exit status. A stop by signal gives 0. The processes get ``grace_s``
    seconds to end by themselves. Call it on the main thread.

    Raises:
        AlreadyRunning: another runner holds the folder; nothing was touched.
        MissingRequirements: the system lacks something.
        EmbeddedError: a service or a prepare command failed; all is stopped again.
    """
    commands = read_procfile(procfile)
    folder = procfile.absolute().parent
    with _only_runner(data_dir), _stop_signals_raise():
        requirements.ensure()
        watchdog = services.Watchdog(data_dir)
        try:
            processes.reap_orphans(data_dir, keep=services.pids(data_dir))
            running = services.start(data_dir)
            environment = environments.process_environment(data_dir, running, extra=extra_env)
            commands, environment = wires.prepare(data_dir, commands, environment)
            for command in prepare:
                _prepare(command, data_dir=data_dir, environment=environment, cwd=folder, say=say)
            _write_state(data_dir, environments.urls(environment))
            runner = ProcfileRunner(
                {
                    name: kept_command(line, grace_s=grace_s) if keep else line
                    for name, line in commands.items()
                },
                data_dir=data_dir,
                environment=environment,
                cwd=folder,
                kill_rest=lambda: processes.reap_orphans(data_dir, keep=services.pids(data_dir)),
                grace_s=grace_s,
                quiet=quiet,
                on_started=_started(watchdog, on_ready, environment),
            )
            signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
            runner.loop()
            return runner.result
        except _Stopped:
            return 0
        finally:
            for signum in _STOP_SIGNALS:  # stopping goes to its end
                signal.signal(signum, signal.SIG_IGN)
            watchdog.stop()
            _stop_all(data_dir)


def down(data_dir: DataDir) -> bool:
    """Stop the folder's runner and wait for its end; without one, stop what still runs.

    Returns whether anything ran.

    Raises:
        EmbeddedError: the runner did not end within DOWN_S seconds.
    """
    record = _runner(data_dir)
    if record is not None:
        processes.send(record, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_S
        while processes.alive(record):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"process {record.pid} did not stop within {DOWN_S:.0f} s")
            time.sleep(0.1)
        return True
    with _only_runner(data_dir):
        ran = bool(services.pids(data_dir))
        return bool(_stop_all(data_dir)) or ran


def environment(data_dir: DataDir | None = None) -> dict[str, str]:
    """Give the variables by which another command finds what runs in the folder.

    The folder is the one the environment names when none is given. Without running services their
    addresses are left out; secrets are there always.
    """
    folder = data_dir or open_data_dir()
    running = services.current(folder)
    return environments.folder_variables(folder) | (running.environment() if running else {})


def status(data_dir: DataDir) -> Status:
    """Say what runs, without changing anything."""
    runner = _runner(data_dir)
    state = read_json(data_dir.file("up.json"), {})
    return Status(
        pid=runner.pid if runner else None,
        urls=state.get("urls", {}) if runner else {},
        services=services.current(data_dir),
        processes=[record for record in processes.records(data_dir) if processes.alive(record)],
    )


@contextlib.contextmanager
def _only_runner(data_dir: DataDir) -> Iterator[None]:
    """Hold the folder's runner lock, which the kernel frees however the runner ends."""
    with open(data_dir.file("lock"), "w") as lock:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # honcho's helpers hold it for a moment longer than a runner that was killed.
                holder = _runner(data_dir)
                if holder is not None or time.monotonic() > deadline:
                    urls = read_json(data_dir.file("up.json"), {}).get("urls", {})
                    raise AlreadyRunning(holder.pid if holder else None, urls) from None
                time.sleep(proctable.POLL_S)
        _write_state(data_dir, {})
        try:
            yield
        finally:
            data_dir.file("up.json").unlink(missing_ok=True)


def _write_state(data_dir: DataDir, urls: Mapping[str, str]) -> None:
    record = processes.this_process("up", data_dir=data_dir)
    state: dict[str, Any] = {
        "runner": dataclasses.asdict(record),
        "urls": dict(urls),
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    write_json(data_dir.file("up.json"), state)


def _runner(data_dir: DataDir) -> processes.ProcessRecord | None:
    state = read_json(data_dir.file("up.json"))
    if not isinstance(state, dict):
        return None
    record = processes.ProcessRecord(**state["runner"])
    return record if processes.alive(record) else None


@contextlib.contextmanager
def _stop_signals_raise() -> Iterator[None]:
    def stopped(signum: int, frame: FrameType | None) -> None:
        raise _Stopped

    before = {signum: signal.signal(signum, stopped) for signum in _STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _prepare(
    command: Sequence[str],
    *,
    data_dir: DataDir,
    environment: Mapping[str, str],
    cwd: Path,
    say: Callable[[str], None],
) -> None:
    text = shlex.join(command)
    path = data_dir.logs / "prepare.log"
    say(f"preparing: {text}")
    with open(path, "ab") as log:
        log.write(f"$ {text}\n".encode())
        log.flush()
        done = subprocess.run(
            command,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        tail = processes.log_tail(path)
        raise EmbeddedError(f"`{text}` failed with status {done.returncode}; the end of {path}:\n{tail}")


def _started(
    watchdog: services.Watchdog,
    on_ready: Callable[[Mapping[str, str]], int | None] | None,
    environment: Mapping[str, str],
) -> Callable[[], int | None]:
    def started() -> int | None:
        # Not before: honcho forks its helpers, and a fork beside a running thread may inherit its locks.
        watchdog.start()
        return on_ready(environment) if on_ready is not None else None

    return started


def _stop_all(data_dir: DataDir) -> list[int]:
    """Model servers and whatever else is left first, then Redis, then PostgreSQL."""
    reaped = processes.reap_orphans(data_dir, keep=services.pids(data_dir))
    services.stop(data_dir)
    return reaped
