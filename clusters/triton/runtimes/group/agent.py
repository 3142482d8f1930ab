"""Stands in for ssh: ``agent.py HOST COMMAND...`` runs COMMAND in the pod that is called HOST."""

from __future__ import annotations

import json
import os
import socket
import sys

PORT = int(os.environ.get("GROUP_PORT", "7022"))


def address(host: str) -> str:
    """Give the name by which a pod of the group is found; MPI may have cut it at its first dot."""
    domain = os.environ.get("LWS_LEADER_ADDRESS", "").partition(".")[2]
    return host if "." in host or not domain else f"{host}.{domain}"


def main(arguments: list[str]) -> int:
    # mpirun may say how ssh should behave.
    while arguments and arguments[0].startswith("-"):
        del arguments[0]
    host, command = arguments[0], " ".join(arguments[1:])
    with socket.create_connection((address(host), PORT), timeout=30) as connection:
        connection.settimeout(None)
        connection.sendall(json.dumps({"do": "run", "command": command}).encode() + b"\n")
        output, status = sys.stdout.buffer, b""
        while chunk := connection.recv(65536):
            text, found, rest = (b"", b"\0", chunk) if status else chunk.partition(b"\0")
            output.write(text)
            output.flush()
            if found:
                status += rest or b" "
    return int(status) if status.strip() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
