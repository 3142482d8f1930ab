"""Data folders, waiting, and child trees that do not want to die."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded import processes, proctable
from embedded.datadir import DataDir

# A tree like a crashed tritonserver's: the child has its own session and nobody heeds SIGTERM.
STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
folder = pathlib.Path(sys.argv[1])
if os.fork() == 0:
    os.setsid()
    (folder / "child.pid").write_text(str(os.getpid()))
else:
    (folder / "parent.pid").write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[DataDir]:
    folder = DataDir(tmp_path / "data")
    yield folder
    processes.reap_orphans(folder)


@pytest.fixture
def stubborn(tmp_path: Path) -> Callable[[], list[str]]:
    """Give the command line of a stubborn tree that writes its pids into ``tmp_path``."""
    return lambda: [sys.executable, "-c", STUBBORN, str(tmp_path)]


def pid_in(path: Path) -> int:
    """Wait for a pid file and read it."""
    eventually(lambda: path.exists() and path.read_text() != "")
    return int(path.read_text())


def is_running(pid: int) -> bool:
    found = proctable.stat(pid)
    return found is not None and found[0] not in "ZX"


def eventually(settled: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not settled():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)


def carriers(data_dir: DataDir) -> list[int]:
    """List the live processes that carry the folder's instance."""
    return [p.pid for p in proctable.marked({processes.INSTANCE: data_dir.instance}) if p.pid != os.getpid()]
