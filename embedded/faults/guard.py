"""Undo a fault when it is over or when whoever did it is gone: ``python -m embedded.faults.guard DATA_DIR ID``.

The guard runs in a session of its own and reads its input, which ends when the other end dies, by kill -9 too.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
BEGUN = b"begun\n"
START_S = 60.0
END_S = 60.0
_NO_GUARD = "The guard that would undo it does not come up: nothing was done."


def heal(data_dir: DataDir, fault: Fault, *, undo: Callable[[Fault], None] = doing.undo) -> None:
    """Undo a fault and forget it."""
    undo(fault)
    journal.closed(data_dir, fault)


def watch(data_dir: DataDir, fault_id: str, *, undo: Callable[[Fault], None] = doing.undo) -> int:
    """Undo a fault when its time is over, and at the end of the input, after which nobody does it any more."""
    fault = journal.read(data_dir, fault_id)
    if fault is None:
        return 0
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    if sys.stdin.buffer.readline() == BEGUN:
        fault = journal.read(data_dir, fault_id) or fault
        ended, _, _ = select.select([sys.stdin.buffer], [], [], max(0.0, fault.until - time.time()))
        if not ended:
            undo(fault)
            sys.stdin.buffer.read()  # whoever does it may be at it still
    heal(data_dir, fault, undo=undo)
    return 0


@contextlib.contextmanager
def guarded(
    data_dir: DataDir,
    fault: Fault,
    *,
    command: Sequence[str] | None = None,
    undo: Callable[[Fault], None] = doing.undo,
) -> Iterator[Fault]:
    """Have a guard watch while the block does the fault and waits; it is undone when the block ends, however it ends.

    Gives the fault as it is timed: what the guard takes to come up is added to its ``until``.

    Raises:
        Refused: no guard could be started, so that nothing was done.
    """
    words = command or [sys.executable, "-m", __name__, str(data_dir.path), fault.id]
    begun_at = time.time()
    with subprocess.Popen(
        words,
        cwd=Path(__file__).resolve().parents[2],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as guard:
        try:
            _await_ready(guard)
            timed = dataclasses.replace(fault, until=fault.until + time.time() - begun_at)
            journal.put(data_dir, timed)
            _tell_begun(guard)
        except BaseException:
            guard.kill()
            journal.closed(data_dir, fault)
            raise
        try:
            yield timed
        finally:
            if not _undone_by(guard):
                heal(data_dir, timed, undo=undo)


def _await_ready(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdout is not None
    ready, _, _ = select.select([guard.stdout], [], [], START_S)
    if not ready or guard.stdout.readline() != READY:
        raise Refused(_NO_GUARD)


def _tell_begun(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdin is not None
    try:
        guard.stdin.write(BEGUN)
    except BrokenPipeError as error:
        raise Refused(_NO_GUARD) from error


def _undone_by(guard: subprocess.Popen[bytes]) -> bool:
    """End the guard's input and say whether it has undone the fault since: what it undid before may be done again."""
    assert guard.stdin is not None
    guard.stdin.close()
    try:
        return guard.wait(END_S) == 0
    except subprocess.TimeoutExpired:
        guard.kill()
        return False


if __name__ == "__main__":
    sys.exit(watch(DataDir(sys.argv[1]), sys.argv[2]))
