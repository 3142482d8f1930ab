"""Runs in a worker's pod: starts what the leader asks for, and ends when the leader does.

The first line of a connection is JSON: ``{"do": "hold"}`` from the leader, which it keeps open as long as it
lives, or ``{"do": "run", "command": "…"}`` from an agent, which gets the output and then the exit
status. Nobody is answered but who connects from the leader's own address.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading

PORT = int(os.environ.get("GROUP_PORT", "7022"))
FIRST_LINE = 1 << 20


def serve(listener: socket.socket) -> int:
    """Answer until the leader's connection ends; gives the exit status."""
    ended = threading.Event()
    leaders: set[str] = set()

    def accept() -> None:
        while True:
            connection, (host, *_) = listener.accept()
            threading.Thread(target=answer, args=(connection, host, leaders, ended), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    ended.wait()
    print("the leader has gone", flush=True)
    # The group is made anew when any of its pods ends badly, and it was not asked to end well.
    return 1


def is_leader(host: str) -> bool:
    """Tell whether an address is the one that the leader's name has now."""
    try:
        found = socket.getaddrinfo(os.environ["LWS_LEADER_ADDRESS"], None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return host in {address[0] for *_, address in found}


def answer(connection: socket.socket, host: str, leaders: set[str], ended: threading.Event) -> None:
    """Serve one connection from ``host``; ``leaders`` is whose connection is held."""
    with connection, connection.makefile("rb") as lines:
        try:
            asked = json.loads(lines.readline(FIRST_LINE))
        except ValueError:
            return
        if not (host in leaders or (asked.get("do") == "hold" and is_leader(host))):
            print(f"refused {host}, which is not the leader", flush=True)
        elif asked.get("do") == "hold":
            leaders.add(host)
            connection.sendall(b"held\n")
            print("the leader is here", flush=True)
            while lines.read(1):
                pass
            ended.set()
        elif asked.get("do") == "run":
            run(connection, asked["command"])


def run(connection: socket.socket, command: str) -> None:
    """Run a command line, its output to the asker and its exit status last, after a zero byte."""
    child = subprocess.Popen(  # noqa: S602 - what mpirun writes is meant for a remote shell
        command,
        shell=True,  # nosec B602
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert child.stdout is not None
    try:
        while chunk := child.stdout.read1(65536):
            connection.sendall(chunk)
        connection.sendall(b"\0" + str(child.wait()).encode())
    except OSError:
        child.terminate()
        child.wait()


def main() -> int:
    # The group drains together: the leader lets its requests end, then it lets go of the workers.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = socket.create_server(("", PORT), backlog=64)
    print(f"waiting for the leader on port {PORT}", flush=True)
    return serve(listener)


if __name__ == "__main__":
    sys.exit(main())
