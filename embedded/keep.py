"""Keep one command running: `python -m embedded.keep [--grace SECONDS] -- COMMAND…`.

The command is started again, with backoff, whenever it ends, by kill -9 too. SIGTERM, SIGINT or
SIGHUP is passed on once, to the command's main process alone (a worker pool is its parent's to
stop); what still runs after the grace is killed, and the keeper ends. It also ends so when its own
parent dies, and the command is killed when the keeper is.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

GRACE_S = 8.0
BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 10.0
STEADY_S = 30.0  # after running this long, a death starts the backoff anew

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum: signal.Signals) -> None:
    """Have the kernel send ``signum`` to this process when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signum.value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the keeper and return the command's last exit status."""
    parser = argparse.ArgumentParser(prog="python -m embedded.keep", description=__doc__)
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds to wait after a stop signal")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command given")
    # Blocked and waited for, so that none is lost between a look and a wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS | {signal.SIGCHLD})
    die_with_parent(signal.SIGTERM)
    return _keep(command, grace_s=options.grace)


def _keep(command: Sequence[str], *, grace_s: float) -> int:
    backoff_s = BACKOFF_FIRST_S
    while True:
        started = time.monotonic()
        child = _start(command)
        asked = _wait(child, None)
        if asked is not None:
            child.send_signal(signal.SIGTERM if asked == signal.SIGHUP else asked)
            _wait(child, grace_s, heed=set())
        _kill_group(child)
        if asked is not None:
            return child.returncode if child.returncode >= 0 else 128 - child.returncode
        if time.monotonic() - started > STEADY_S:
            backoff_s = BACKOFF_FIRST_S
        _say(f"{command[0]} ended with status {child.returncode}; starting it again in {backoff_s:g} s")
        asked_meanwhile = signal.sigtimedwait(_STOP_SIGNALS, backoff_s)
        if asked_meanwhile is not None:
            return 128 + asked_meanwhile.si_signo
        backoff_s = min(2 * backoff_s, BACKOFF_LAST_S)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    def in_child() -> None:
        die_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS | {signal.SIGCHLD})

    try:
        return subprocess.Popen(command, start_new_session=True, preexec_fn=in_child)
    except OSError as error:
        _say(f"cannot start {command[0]}: {error}")
        raise SystemExit(127) from error


def _wait(
    child: subprocess.Popen[bytes], seconds: float | None, *, heed: set[signal.Signals] = _STOP_SIGNALS
) -> signal.Signals | None:
    """Wait for the child's end (None) or for a signal in ``heed``, ``seconds`` at most."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while child.poll() is None:
        left = 3600.0 if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return None
        arrived = signal.sigtimedwait(heed | {signal.SIGCHLD}, left)
        if arrived is not None and arrived.si_signo != signal.SIGCHLD:
            return signal.Signals(arrived.si_signo)
    return None


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's process group: a new start must not meet the old one's pool."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"keep: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
