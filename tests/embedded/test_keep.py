from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.embedded.conftest import eventually, is_running, pid_in

ROOT = Path(__file__).resolve().parents[2]
RECORDS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def leave(signum, frame):
    with open(folder / "signals", "a") as file:
        file.write(f"{signum}\\n")
    time.sleep(0.2)
    sys.exit(7)
signal.signal(signal.SIGTERM, leave)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: (folder / "child-was-signalled").touch())
    while True:
        time.sleep(1)
(folder / f"pid-{len(list(folder.glob('pid-*')))}").write_text(str(os.getpid()))
while True:
    time.sleep(1)
"""


def keeper(*words: str, grace: float = 5) -> list[str]:
    return [sys.executable, "-m", "embedded.keep", "--grace", str(grace), "--", *words]


def test_a_killed_command_comes_back_and_a_stop_reaches_its_main_process_once(tmp_path: Path) -> None:
    with subprocess.Popen(keeper(sys.executable, "-c", RECORDS, str(tmp_path)), cwd=ROOT) as keep:
        first = pid_in(tmp_path / "pid-0")
        os.kill(first, signal.SIGKILL)
        second = pid_in(tmp_path / "pid-1")
        assert is_running(second)
        keep.terminate()
        keep.terminate()
        assert keep.wait(timeout=20) == 7
    assert not is_running(second)
    assert (tmp_path / "signals").read_text() == "15\n"
    assert not (tmp_path / "child-was-signalled").exists()


def test_what_ignores_the_stop_is_killed_after_the_grace(
    tmp_path: Path, stubborn: Callable[[], list[str]]
) -> None:
    with subprocess.Popen(keeper(*stubborn(), grace=0.2), cwd=ROOT) as keep:
        parent = pid_in(tmp_path / "parent.pid")
        child = pid_in(tmp_path / "child.pid")
        keep.terminate()
        assert keep.wait(timeout=20) == 128 + signal.SIGKILL
    assert not is_running(parent)
    os.kill(child, signal.SIGKILL)  # it left the group: a keeper's reach ends there


def test_keeper_and_command_end_when_the_keepers_parent_is_killed(tmp_path: Path) -> None:
    program = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    command = keeper("/bin/sh", "-c", f"echo $$ > {tmp_path}/command.pid; exec sleep 600")
    with subprocess.Popen([sys.executable, "-c", program, *command], cwd=ROOT) as parent:
        pid = pid_in(tmp_path / "command.pid")
        parent.kill()
    eventually(lambda: not is_running(pid))


def test_the_command_is_killed_when_its_keeper_is(tmp_path: Path) -> None:
    command = keeper("/bin/sh", "-c", f"echo $$ > {tmp_path}/command.pid; exec sleep 600")
    with subprocess.Popen(command, cwd=ROOT) as keep:
        pid = pid_in(tmp_path / "command.pid")
        keep.kill()
    eventually(lambda: not is_running(pid))
