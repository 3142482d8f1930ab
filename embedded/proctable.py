"""Looking at, and killing in, the kernel's process table."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil

from embedded.errors import EmbeddedError

# Not ours to choose: tritonserver puts its regions there.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
POLL_S = 0.02
KILL_WAIT_S = 5.0


def boot_id() -> str:
    """Give the kernel's identifier of this boot; start times count from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> tuple[str, int] | None:
    """Give a process's state letter and start time in ticks since boot; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the command in brackets, may itself hold spaces and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def running(process: psutil.Process) -> bool:
    """Say whether this very process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> list[psutil.Process]:
    """List children, grandchildren and so on; empty when there is no such process."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def tree(pid: int) -> list[psutil.Process]:
    """List a process and its descendants; empty when there is no such process."""
    try:
        return [psutil.Process(pid), *descendants(pid)]
    except psutil.NoSuchProcess:
        return []


def protected(keep: Collection[int] = ()) -> set[int]:
    """Give the pids never to be reaped: the caller, its ancestors, ``keep`` with its descendants."""
    me = psutil.Process()
    found = {me.pid, *(parent.pid for parent in me.parents())}
    for pid in keep:
        found |= {pid, *(child.pid for child in descendants(pid))}
    return found


def marked(marks: Mapping[str, str]) -> list[psutil.Process]:
    """List live processes whose environment, as it was when they were started, has all of ``marks``."""
    wanted = {f"{key}={value}".encode() for key, value in marks.items()}
    found = []
    for pid in psutil.pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            if wanted <= set(environment.split(b"\0")):
                found.append(psutil.Process(pid))
        except (OSError, psutil.NoSuchProcess):
            continue
    return [process for process in found if running(process)]


def kill_all(remaining: Callable[[], list[psutil.Process]]) -> list[int]:
    """Kill until nothing remains, for a process may fork between the look and the signal.

    Returns the pids that were killed.

    Raises:
        EmbeddedError: something survived SIGKILL for KILL_WAIT_S seconds.
    """
    killed: dict[int, None] = {}
    deadline = time.monotonic() + KILL_WAIT_S
    while found := remaining():
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in found)
            raise EmbeddedError(f"processes {pids} survived SIGKILL for {KILL_WAIT_S:.0f} s")
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            killed[process.pid] = None
        time.sleep(POLL_S)
    return list(killed)


def remove_shared_memory(prefix: str, *, mapped_by: Collection[int]) -> None:
    """Remove the regions in /dev/shm that start with ``prefix``, except what ``mapped_by`` has mapped."""
    leftovers = [path for path in SHARED_MEMORY.glob(f"{prefix}*") if not path.is_dir()]
    if not leftovers:
        return
    mapped = set()
    for pid in mapped_by:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                mapped.add(line.rpartition(" ")[2])
    for path in leftovers:
        if str(path) not in mapped:
            path.unlink(missing_ok=True)


def wait_until(settled: Callable[[], bool], seconds: float) -> bool:
    """Poll until ``settled`` or until the time is over; return the last answer."""
    deadline = time.monotonic() + seconds
    while not (done := settled()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return done
