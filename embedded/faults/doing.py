"""Doing a fault on this machine, and undoing it again: to processes, to their files, to wires.

Every step is a pair: what undoes it is said first and kept in the journal, then it is done. Undoing a step twice, or
one that was never done, changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from embedded import proctable
from embedded.faults.journal import Fault

Step = Mapping[str, Any]


def pausing(victims: Sequence[psutil.Process]) -> list[Step]:
    """Say what lets them run again."""
    return [{"do": "continue", **_named(victim)} for victim in victims]


def pause(victims: Sequence[psutil.Process]) -> None:
    """Stop them as they are, connections open, nothing answered."""
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGSTOP)


def filling(victims: Sequence[psutil.Process]) -> list[Step]:
    """Say what lets their files grow again."""
    steps: list[Step] = []
    for victim in victims:
        soft, hard = resource.prlimit(victim.pid, resource.RLIMIT_FSIZE)
        steps.append({"do": "file-size", **_named(victim), "soft": soft, "hard": hard})
    return steps


def fill(victims: Sequence[psutil.Process]) -> None:
    """Let no file of theirs grow any more: to them the disk is full (EFBIG), to everybody else it is not."""
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(victim.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (0, hard))


def marking(path: Path) -> list[Step]:
    """Say what takes a mark away by which a fault is told to whoever acts it out."""
    return [{"do": "remove", "path": str(path)}]


def undo(fault: Fault) -> None:
    """Take a fault back, as far as what it was done to is still there."""
    for step in fault.undo:
        _UNDO[step["do"]](step)


def _continue(step: Step) -> None:
    if _there(step):
        with contextlib.suppress(ProcessLookupError):
            os.kill(step["pid"], signal.SIGCONT)


def _restore_file_size(step: Step) -> None:
    if _there(step):
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(step["pid"], resource.RLIMIT_FSIZE, (step["soft"], step["hard"]))


def _remove(step: Step) -> None:
    Path(step["path"]).unlink(missing_ok=True)


def _named(victim: psutil.Process) -> dict[str, int]:
    found = proctable.stat(victim.pid)
    return {"pid": victim.pid, "start_time": found[1] if found else 0}


def _there(step: Step) -> bool:
    """Whether it is the very process, not a later one with its pid."""
    found = proctable.stat(step["pid"])
    return found is not None and found[1] == step["start_time"]


_UNDO: Mapping[str, Callable[[Step], None]] = {
    "continue": _continue,
    "file-size": _restore_file_size,
    "remove": _remove,
}
