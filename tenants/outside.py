"""Speaking to addresses that people name, without being led to what only Berth can reach.

A name is resolved once, every address it has is judged, and the connection goes to the judged address: what the name
means a moment later does not matter. Redirects are not followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from tenants.outside_rules import Address, Refused, is_private, never

__all__ = [
    "Address",
    "Answer",
    "NoAnswer",
    "Refused",
    "Target",
    "judge",
    "judge_cluster",
    "post",
    "resolve",
]

_PORTS: Final = {"https": 443, "http": 80}
_USUAL_PORTS: Final = {**_PORTS, "amqp": 5672, "amqps": 5671}


class NoAnswer(Exception):
    """There was no usable answer; the message says why."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A URL taken apart, with the address that it was judged by."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer: its status, the beginning of its body, ``Retry-After`` in seconds, and how long it took."""

    status: int
    text: str
    retry_after: int
    took_ms: int


def resolve(url: str) -> Target:
    """Take a URL apart, resolve its host and judge every address that it has.

    Raises:
        Refused: it is no URL to send to, its host is not known, or one of its addresses is refused.
    """
    scheme, host, port, path = _parts(url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused(f"The host {host} is not known: {error}") from error
    addresses = [ipaddress.ip_address(each[4][0].partition("%")[0]) for each in found]
    for address in addresses:
        judge(address, port=port, encrypted=scheme == "https")
    return Target(scheme, host, port, path, addresses[0])


def judge(address: Address, *, port: int, encrypted: bool = True) -> None:
    """Refuse an address that tenants may not lead Berth to.

    Private networks are open where the operator names them (``OUTSIDE_ALLOWED_NETWORKS``), loopback in development;
    plain http only to these.

    Raises:
        Refused: it is refused.
    """
    _judge_always(address, port)
    known = address.is_loopback and settings.OUTSIDE_ALLOW_LOOPBACK
    known = known or any(address in network for network in settings.OUTSIDE_ALLOWED_NETWORKS)
    if not known and (address.is_loopback or is_private(address)):
        raise Refused(
            f"{address} is in a private network. Operators allow one by naming it in OUTSIDE_ALLOWED_NETWORKS."
        )
    if not known and not encrypted:
        raise Refused("Plain http is only spoken within networks that operators allow; use https.")


def judge_cluster(address: Address, port: int) -> None:
    """Refuse an address that operators may not lead Berth to as a cluster's.

    Private networks are open, for clusters stand there; with ``CLUSTER_ALLOWED_NETWORKS`` nothing but these is, save
    loopback in development.

    Raises:
        Refused: it is refused.
    """
    _judge_always(address, port)
    if address.is_loopback and settings.OUTSIDE_ALLOW_LOOPBACK:
        return
    if address.is_loopback:
        raise Refused(f"{address} is this machine itself; no cluster is reached there outside development.")
    allowed = settings.CLUSTER_ALLOWED_NETWORKS
    if allowed and not any(address in network for network in allowed):
        raise Refused(f"{address} is in none of the networks that CLUSTER_ALLOWED_NETWORKS names.")


def _judge_always(address: Address, port: int) -> None:
    why = never(address)
    if why:
        raise Refused(f"{address} is {why}; nothing is sent there.")
    if (str(address), port) in _own_services():
        raise Refused(f"{address} port {port} belongs to Berth itself; nothing is sent there.")


def post(
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    *,
    connect_s: float = 5,
    read_s: float = 10,
    whole_s: float = 20,
    most_text: int = 500,
) -> Answer:
    """Send ``body`` to a judged target and give the answer, whatever its status.

    ``connect_s`` bounds the way there, ``read_s`` each silence, ``whole_s`` all of it.

    Raises:
        NoAnswer: there was none in time, or it was not HTTP.
    """
    began = time.monotonic()
    try:
        with _connected(target, connect_s) as sock, _at_most(whole_s, sock):
            sock.settimeout(read_s)
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = sock
            connection.auto_open = 0
            default = target.port == _PORTS[target.scheme]
            host = f"[{target.host}]" if ":" in target.host else target.host
            named = {"Host": host if default else f"{host}:{target.port}", "Connection": "close"}
            connection.request("POST", target.path, body=body, headers={**headers, **named})
            response = connection.getresponse()
            text = response.read(most_text).decode(errors="replace")
            after = response.headers.get("Retry-After", "")
            return Answer(
                status=response.status,
                text=_kept(text),
                retry_after=int(after) if after.isascii() and after.isdigit() and len(after) < 8 else 0,
                took_ms=round((time.monotonic() - began) * 1000),
            )
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {round(time.monotonic() - began)} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(_told(error)) from error


def _parts(url: str) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise Refused(f"This is no URL: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Refused("Give an address that begins with https:// and names a host.")
    if parts.username is not None or parts.password is not None:
        raise Refused("Leave user name and password out of the address; the signature proves who sends.")
    if any(ord(each) <= 32 or ord(each) > 126 for each in url):
        raise Refused("Write the address in ASCII without blanks.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, parts.hostname, port, path


def _own_services() -> set[tuple[str, int]]:
    """Give address and port of the databases, the brokers and the Vault that Berth itself uses."""
    places: set[tuple[str, int]] = set()
    owner: dict[str, Any] = settings.DATABASE_OWNER or {}
    for database in (*settings.DATABASES.values(), owner):
        places |= {
            (host, int(database.get("PORT") or 5432)) for host in (database.get("HOST") or "").split(",")
        }
    for url in (
        settings.CELERY_BROKER_URL,
        settings.GATEWAY_REDIS_URL,
        settings.SEALING_VAULT.get("address", ""),
    ):
        with contextlib.suppress(ValueError):
            parts = urlsplit(url)
            places.add((parts.hostname or "", parts.port or _USUAL_PORTS.get(parts.scheme, 6379)))
    found = set()
    for host, port in places:
        if host and not host.startswith("/"):
            with contextlib.suppress(OSError, UnicodeError):
                found |= {
                    (each[4][0].partition("%")[0], port)
                    for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                }
    return found


@contextlib.contextmanager
def _connected(target: Target, connect_s: float) -> Iterator[socket.socket]:
    with socket.create_connection((str(target.address), target.port), timeout=connect_s) as plain:
        if target.scheme == "http":
            yield plain
            return
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with context.wrap_socket(plain, server_hostname=target.host) as encrypted:
            yield encrypted


@contextlib.contextmanager
def _at_most(seconds: float, sock: socket.socket) -> Iterator[None]:
    """Shut the connection after so long: a sender of one byte a second never lets a read time out."""
    late = threading.Event()

    def shut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


def _told(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return (_kept(str(error)) or type(error).__name__)[:200]


def _kept(text: str) -> str:
    """Give what the other side said as it can be kept in a row, which holds no NUL."""
    return " ".join(text.replace("\0", " ").split())
