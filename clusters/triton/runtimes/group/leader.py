"""Runs in the leader's pod: waits for the workers, runs the engine on all of the group's GPUs, lets it drain.

``leader.py GPUS_PER_NODE COMMAND...``. Group and pod names come from the LeaderWorkerSet's environment
(LWS_LEADER_ADDRESS, LWS_GROUP_SIZE); the pod of worker N is called like the leader's with ``-N`` behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PORT = int(os.environ.get("GROUP_PORT", "7022"))
ENGINE_PID = Path(os.environ.get("TMPDIR", "/tmp")) / "engine.pid"  # noqa: S108 - the container's own
AFTER_ENGINE_S = 20


def workers(leader: str, size: int) -> list[str]:
    """Give the addresses of the workers' pods."""
    name, dot, domain = leader.partition(".")
    return [f"{name}-{number}{dot}{domain}" for number in range(1, size)]


def hold(host: str) -> socket.socket:
    """Connect to a worker, however long it takes to come, and keep the connection."""
    told = False
    while True:
        try:
            return held(socket.create_connection((host, PORT), timeout=10))
        except OSError as error:
            if not told:
                print(f"waiting for {host}: {error}", flush=True)
                told = True
            time.sleep(1)


def held(connection: socket.socket) -> socket.socket:
    """Ask for the connection to be held, and give it.

    Raises:
        OSError: the worker does not, as long as the leader's name is not known where it runs.
    """
    try:
        connection.sendall(json.dumps({"do": "hold"}).encode() + b"\n")
        if not connection.recv(16):
            raise ConnectionRefusedError("it does not know this address as the leader's yet")
    except OSError:
        connection.close()
        raise
    connection.settimeout(None)
    return connection


def mpirun(hosts: list[str], gpus: int, command: list[str]) -> list[str]:
    """Give the command line that starts one process for each GPU of the group."""
    agent = f"{sys.executable} {Path(__file__).with_name('agent.py')}"
    return [
        "mpirun", "-n", str(len(hosts) * gpus), "--host", ",".join(f"{host}:{gpus}" for host in hosts),
        "--mca", "plm_rsh_agent", agent, "--mca", "plm_rsh_no_tree_spawn", "1",
        "--leave-session-attached", "--bind-to", "none", "--map-by", "slot",
        *command,
    ]  # fmt: skip


def main(gpus: int, command: list[str]) -> int:
    ENGINE_PID.unlink(missing_ok=True)
    size = int(os.environ["LWS_GROUP_SIZE"])
    others = workers(os.environ["LWS_LEADER_ADDRESS"], size)
    held = [hold(host) for host in others]
    process = subprocess.Popen(mpirun([socket.gethostname(), *others], gpus, command))

    def drain(*_: object) -> None:
        # mpirun would end everything at once; the engine knows how to end well.
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(ENGINE_PID.read_text("ascii")), signal.SIGTERM)
            return
        process.terminate()

    signal.signal(signal.SIGTERM, drain)
    status = wait(process)
    for connection in held:
        connection.close()
    return status


def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for mpirun; if the engine is gone and mpirun does not follow, end it."""
    gone_since = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=1)
        if not engine_gone():
            gone_since = None
        elif gone_since is None:
            gone_since = time.monotonic()
        elif time.monotonic() - gone_since > AFTER_ENGINE_S:
            process.terminate()
            gone_since = None


def engine_gone() -> bool:
    """Tell whether the engine was started and has ended."""
    try:
        os.kill(int(ENGINE_PID.read_text("ascii")), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
