"""Which addresses a cluster may be reached at: judged anew for each connection, on what its name means just then."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from tenants.outside_rules import Address, Refused, never

#: Raises Refused for an address and port that are not to be connected to.
Judge = Callable[[Address, int], None]


def _judge_never(address: Address, port: int) -> None:
    why = never(address)
    if why:
        raise Refused(f"{address} port {port} is {why}; nothing is sent there.")


_judge: Judge = _judge_never


def judge_by(judge: Judge) -> None:
    """Have this process judge by ``judge``, which knows what operators allow; without it only the worst is refused."""
    global _judge
    _judge = judge


def judged(host: str, port: int) -> list[Address]:
    """Resolve a host and give its addresses, the best first, once all of them have passed.

    Raises:
        Refused: one of them is not to be connected to.
        OSError: the name has no address.
        UnicodeError: it is no name.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    for address in addresses:
        _judge(address, port)
    return list(dict.fromkeys(addresses))
