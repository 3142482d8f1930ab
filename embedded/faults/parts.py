"""The parts of a running Berth as processes of this machine, found by the marks that they were started with."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from typing import Final

import psutil

from embedded import keep, processes, proctable
from embedded.datadir import DataDir
from embedded.faults.errors import Refused

#: Lines of the Procfile: their keepers start them again.
KEPT: Final = ("web", "worker", "beat", "watch", "gateway", "models")
#: Started again by the watchdog of the services.
SERVICES: Final = ("redis", "postgres")
#: Started again by the local driver's supervisor.
ENGINE: Final = "engine"
PARTS: Final = (*KEPT, ENGINE, *SERVICES)


def find(data_dir: DataDir, part: str) -> list[psutil.Process]:
    """Give the processes of a part, a worker's pool and whatever else it started among them.

    Of an engine and of a service it is the main process alone: their own ends when that does.

    Raises:
        Refused: there is no such part, or nothing of it runs.
    """
    if part in KEPT:
        marks = {processes.INSTANCE: data_dir.instance, processes.PROCESS: part}
        found = [each for each in proctable.marked(marks) if not _keeper(each)]
    elif part in SERVICES:
        record = processes.find(data_dir, part)
        found = [psutil.Process(record.pid)] if record else []
    elif part == ENGINE:
        records = (each for each in processes.records(data_dir) if each.name.startswith(f"{ENGINE}-"))
        found = [psutil.Process(each.pid) for each in records if processes.alive(each)]
    else:
        raise Refused(f"There is no part {part!r}; there are {', '.join(PARTS)}.")
    if not found:
        raise Refused(f"No process of {part} runs on {data_dir.path}. See: python -m embedded status.")
    return found


def kill(victims: Sequence[psutil.Process]) -> list[int]:
    """Kill -9, the parents first so that they start nothing anew; give the pids that were there."""
    gone = []
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
            gone.append(victim.pid)
    return gone


def _keeper(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return keep.__name__ in process.cmdline()
    return True
