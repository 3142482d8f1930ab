"""A Procfile under honcho: each line kept running, its output in a log file and on the terminal."""

from __future__ import annotations

import logging
import logging.handlers
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import honcho.manager  # type: ignore[import-untyped]
from honcho.environ import parse_procfile  # type: ignore[import-untyped]
from honcho.printer import Printer  # type: ignore[import-untyped]
from honcho.process import Process  # type: ignore[import-untyped]

from embedded import keep, processes
from embedded.datadir import DataDir
from embedded.errors import EmbeddedError

LOG_BYTES = 5_000_000
START_S = 30.0


def read_procfile(path: Path) -> dict[str, str]:
    """Give the Procfile's commands by name.

    Raises:
        EmbeddedError: there is no such file, or no process in it.
    """
    try:
        found = dict(parse_procfile(path.read_text(encoding="utf-8")).processes)
    except FileNotFoundError:
        raise EmbeddedError(f"there is no Procfile at {path}") from None
    if not found:
        raise EmbeddedError(f"{path} names no process")
    return found


def kept_command(command: str, *, grace_s: float) -> str:
    """Wrap a Procfile command so that it is started again when it ends."""
    keeper = [sys.executable, "-m", keep.__name__, "--grace", str(grace_s)]
    return f"exec {shlex.join([*keeper, '--', '/bin/sh', '-c', command])}"


class ProcfileRunner(honcho.manager.Manager):  # type: ignore[misc]
    """Runs ``commands`` until told to stop.

    ``on_started`` is called on a thread of its own once all were started; what it returns, unless
    None, stops them all and is the result. ``grace_s`` after a stop what is left is killed, by
    ``kill_rest`` what has left its process group. ``loop`` blocks, on the main thread; ``result`` is 0
    after a stop by signal, else the status of the process that ended by itself.
    """

    def __init__(
        self,
        commands: Mapping[str, str],
        *,
        data_dir: DataDir,
        environment: Mapping[str, str],
        cwd: Path,
        kill_rest: Callable[[], object],
        grace_s: float = keep.GRACE_S,
        quiet: bool = False,
        on_started: Callable[[], int | None] | None = None,
    ) -> None:
        super().__init__(_TeePrinter(data_dir.logs, quiet=quiet))
        # The keepers' grace must end before honcho kills the keepers themselves.
        honcho.manager.KILL_WAIT = grace_s + 1
        self._kill_rest = kill_rest
        self._process_ctor = _BoundProcess
        self._on_started = on_started
        self._answer: int | None = None
        for name, command in commands.items():
            # The mark by which it is found, whatever it calls itself.
            self.add_process(name, command, env={**environment, processes.PROCESS: name}, cwd=cwd)

    @property
    def result(self) -> int:
        """How the run ended, as a process exit status."""
        if self._answer is not None:
            return self._answer
        by_signal = {each["rc"] for each in honcho.manager.SIGNALS.values()}
        return 0 if self.returncode in by_signal else int(self.returncode or 0)

    def loop(self) -> None:
        """Start all and block until all have ended, by a signal or because one ended by itself."""
        try:
            super().loop()
        finally:
            self._printer.close()

    def kill(self) -> None:
        """Kill what did not end in time; honcho calls this.

        Its helpers read until nobody holds their pipe, a grandchild in another session included.
        """
        super().kill()
        self._kill_rest()

    def _start(self) -> None:
        super()._start()
        if self._on_started is not None:
            threading.Thread(target=self._call_on_started, name="on-started", daemon=True).start()

    def _call_on_started(self) -> None:
        assert self._on_started is not None
        deadline = time.monotonic() + START_S
        while not self._all_started() and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            answer = self._on_started()
        except Exception:  # noqa: BLE001 - whatever the callback raises, nothing may be left running
            traceback.print_exc()
            answer = 1
        if answer is not None and not self._terminating:
            self._answer = answer
            self.terminate()


class _BoundProcess(Process):  # type: ignore[misc]
    """honcho's helper process, bound to its manager's life: without it it outlives a kill -9."""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        keep.die_with_parent(signal.SIGKILL)
        super().run(events, ignore_signals)


class _TeePrinter(Printer):  # type: ignore[misc]
    """Prints as honcho does, and keeps each process's lines in its own rotated log file."""

    def __init__(self, folder: Path, *, quiet: bool) -> None:
        super().__init__(sys.stdout)
        self._folder = folder
        self._quiet = quiet
        self._files: dict[str, logging.handlers.RotatingFileHandler] = {}

    def write(self, message: Any) -> None:
        text = message.data.decode("utf-8", "replace") if isinstance(message.data, bytes) else message.data
        file = self._file(message.name)
        for line in text.splitlines():
            file.emit(logging.LogRecord(message.name, logging.INFO, "", 0, line, None, None))
        if not self._quiet:
            try:
                super().write(message)
            except OSError:
                self._quiet = True  # the terminal is gone; the logs stay

    def _file(self, name: str) -> logging.handlers.RotatingFileHandler:
        if name not in self._files:
            self._files[name] = logging.handlers.RotatingFileHandler(
                self._folder / f"{name}.log", maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8"
            )
        return self._files[name]

    def close(self) -> None:
        """Close the log files."""
        for file in self._files.values():
            file.close()
