"""Undo a fault when it is over or when whoever did it is gone: ``python -m embedded.faults.guard DATA_DIR ID``.

The guard runs in a session of its own and reads its input, which ends when the other end dies, by kill -9 too.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from embedded.datadir import DataDir
from embedded.faults import doing, journal
from embedded.faults.errors import Refused
from embedded.faults.journal import Fault

READY = b"watching\n"
START_S = 60.0


def heal(data_dir: DataDir, fault: Fault, *, undo: Callable[[Fault], None] = doing.undo) -> None:
    """Undo a fault and forget it."""
    undo(fault)
    journal.closed(data_dir, fault)


def watch(data_dir: DataDir, fault_id: str, *, undo: Callable[[Fault], None] = doing.undo) -> int:
    """Wait for the end of the fault's time or of the input, then heal it."""
    fault = journal.read(data_dir, fault_id)
    if fault is None:
        return 0
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    select.select([sys.stdin.buffer], [], [], max(0.0, fault.until - time.time()))
    if journal.read(data_dir, fault_id) is not None:
        heal(data_dir, fault, undo=undo)
    return 0


@contextlib.contextmanager
def guarded(
    data_dir: DataDir,
    fault: Fault,
    *,
    command: Sequence[str] | None = None,
    undo: Callable[[Fault], None] = doing.undo,
) -> Iterator[None]:
    """Have a guard watch while the block does the fault and waits; heal at its end, however it ends.

    Raises:
        Refused: no guard could be started, so that nothing was done.
    """
    words = command or [sys.executable, "-m", __name__, str(data_dir.path), fault.id]
    guard = subprocess.Popen(
        words,
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    try:
        ready, _, _ = select.select([guard.stdout], [], [], START_S)
        if not ready or guard.stdout.readline() != READY:
            journal.closed(data_dir, fault)
            raise Refused("The guard that would undo it does not come up: nothing was done.")
        yield
    finally:
        if journal.read(data_dir, fault.id) is not None:
            heal(data_dir, fault, undo=undo)
        guard.stdin.close()
        guard.stdout.close()
        guard.wait()


if __name__ == "__main__":
    sys.exit(watch(DataDir(sys.argv[1]), sys.argv[2]))
