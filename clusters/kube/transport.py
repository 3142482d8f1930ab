"""HTTPS to one API server: a pool of connections, bounded times, and every failure told in Berth's words."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import socket
import ssl
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

import msgspec
import urllib3
from urllib3 import exceptions as http_errors

from clusters.kube.connections import JudgedConnectionPool
from clusters.kube.credentials import Credentials
from clusters.kube.errors import Fault, KubeError, Unreachable, error_of
from tenants.outside_rules import Refused

_CONNECTIONS = 16  # kept open per cluster; more are opened when needed and closed after use
_CHUNK = 64 * 1024
_BROKEN = (http_errors.HTTPError, ssl.SSLError, OSError, Refused)


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer of 2xx."""

    status: int
    content: bytes


class Transport:
    """Requests to one server as one user. Thread-safe. A dead connection is replaced where that is safe.

    ``connect_timeout_s`` bounds the way to the server, ``read_timeout_s`` every silence in an answer, and
    ``whole_s`` an answer from beginning to end.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        whole_s: float,
        user_agent: str,
    ) -> None:
        self.server = credentials.server.rstrip("/")
        self.whole_s = whole_s
        self._connect_s, self._read_s = connect_timeout_s, read_timeout_s
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if credentials.token:
            self._headers["Authorization"] = f"Bearer {credentials.token}"
        self._pool = _pool(credentials)
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._streams: set[urllib3.BaseHTTPResponse] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: bytes | None = None,
        content_type: str = "application/json",
        repeatable: bool = False,
    ) -> Answer:
        """Send a request and give the whole answer.

        ``repeatable`` requests are sent a second time where the server closed a kept connection on them.

        Raises:
            Unreachable: no usable answer.
            KubeError: the server answered with an error.
        """
        until = time.monotonic() + self.whole_s
        try:
            response = self._send(method, path, query, body, content_type, self._read_s)
        except Unreachable as error:
            if error.fault is not Fault.RESET or not repeatable:
                raise
            response = self._send(method, path, query, body, content_type, self._read_s)
        try:
            return Answer(response.status, self._read(response, until))
        finally:
            self._done(response)

    def stream(self, path: str, *, query: Mapping[str, str], silence_s: float) -> Stream:
        """Open an endless answer; ``silence_s`` bounds each wait for its next line.

        Raises:
            Unreachable: no usable answer.
            KubeError: the server answered with an error.
        """
        response = self._send("GET", path, query, None, "application/json", silence_s)
        with self._lock:
            self._streams.add(response)
        return Stream(response, self.server, lambda: self._done(response, reuse=False))

    def close(self) -> None:
        """Close every connection; answers still being read break off, and nothing is sent any more."""
        with self._lock:
            self._closed.set()
            reading = list(self._open)
        for response in reading:
            _shut(response)
        self._pool.clear()

    def retire(self) -> None:
        """Break off the endless answers; requests on their way are finished, then nothing is kept open."""
        with self._lock:
            streams = list(self._streams)
        for response in streams:
            _shut(response)
        self._pool.clear()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes | None,
        content_type: str,
        silence_s: float,
    ) -> urllib3.BaseHTTPResponse:
        if self._closed.is_set():
            raise Unreachable(Fault.RESET, f"The connection to {self.server} was closed by Berth.")
        headers = self._headers if body is None else {**self._headers, "Content-Type": content_type}
        url = self.server + path
        if query:
            url += "?" + urllib.parse.urlencode(query)
        try:
            response = self._pool.request(
                method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=self._connect_s, read=silence_s),
                retries=False,
                redirect=False,  # a redirect would carry the credential elsewhere
                preload_content=False,
            )
        except _BROKEN as error:
            raise unreachable(error, self.server) from error
        with self._lock:
            self._open.add(response)
        if self._closed.is_set():
            self._done(response, reuse=False)
            raise Unreachable(Fault.RESET, f"The connection to {self.server} was closed by Berth.")
        if 200 <= response.status < 300:
            return response
        try:
            raise self._error(response)
        finally:
            self._done(response)

    def _error(self, response: urllib3.BaseHTTPResponse) -> KubeError:
        content = self._read(response, time.monotonic() + self._read_s)
        try:
            status = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            status = None
        if not isinstance(status, dict) or status.get("kind") != "Status":
            text = content[:200].decode(errors="replace").strip()
            # An address that no API serves is answered 404 in plain text.
            if response.status in (401, 403, 404, 429) or response.status >= 500:
                status = {"message": text or f"the server answered {response.status}"}
            else:
                return Unreachable(
                    Fault.NOT_KUBERNETES,
                    f"{self.server} answered {response.status}, but not as a Kubernetes API does: {text}",
                    status=response.status,
                )
        after = response.headers.get("Retry-After", "")
        return error_of(response.status, status, retry_after=float(after) if after.isdecimal() else None)

    def _read(self, response: urllib3.BaseHTTPResponse, until: float) -> bytes:
        parts: list[bytes] = []
        try:
            for part in response.stream(_CHUNK, decode_content=True):
                parts.append(part)
                if time.monotonic() > until:
                    raise Unreachable(
                        Fault.SLOW, f"{self.server} took longer than {self.whole_s:g} s to answer."
                    )
        except _BROKEN as error:
            response.close()
            raise unreachable(error, self.server) from error
        except Unreachable:
            response.close()  # what is left unread would be taken for the next answer
            raise
        return b"".join(parts)

    def _done(self, response: urllib3.BaseHTTPResponse, *, reuse: bool = True) -> None:
        with self._lock:
            self._open.discard(response)
            self._streams.discard(response)
        if not reuse:
            response.close()
        response.release_conn()


class Stream:
    """The lines of an endless answer. One thread reads; any thread may break it off."""

    def __init__(self, response: urllib3.BaseHTTPResponse, server: str, done: Callable[[], None]) -> None:
        self._response, self._server, self._done = response, server, done

    def __iter__(self) -> Iterator[bytes]:
        """Give line by line until the server ends the answer.

        Raises:
            Unreachable: the connection broke, was broken off, or was silent for too long.
        """
        rest = b""
        try:
            while part := self._response.read1(_CHUNK):
                *lines, rest = (rest + part).split(b"\n")
                yield from (line for line in lines if line)
        except _BROKEN as error:
            raise unreachable(error, self._server) from error
        except (AttributeError, ValueError) as error:  # closed under the reader
            raise Unreachable(Fault.RESET, f"The connection to {self._server} was closed.") from error

    def break_off(self) -> None:
        """Wake the reader; it gets an end or Unreachable."""
        _shut(self._response)

    def close(self) -> None:
        """Give the connection up; for the thread that reads."""
        self._done()


def _shut(response: urllib3.BaseHTTPResponse) -> None:
    """Wake a reader that is blocked in the socket; closing the file alone would not."""
    sock = getattr(response.connection, "sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _pool(credentials: Credentials) -> urllib3.PoolManager:
    # Its import takes 2 s and 70 MB: only processes that speak to a Kubernetes cluster pay for it.
    from kubernetes.client import Configuration  # type: ignore[import-untyped]
    from kubernetes.client.rest import RESTClientObject  # type: ignore[import-untyped]

    configuration = Configuration(host=credentials.server)
    configuration.retries = False
    configuration.tls_server_name = credentials.server_name or None
    configuration.proxy = _proxy(credentials.server)  # its own reading of the environment ignores NO_PROXY
    pool: urllib3.PoolManager = RESTClientObject(
        configuration, pools_size=1, maxsize=_CONNECTIONS
    ).pool_manager
    # A context of our own in place of its files: nothing but the given authority is trusted.
    pool.connection_pool_kw.pop("ca_certs", None)
    pool.pool_classes_by_scheme = {"https": JudgedConnectionPool}
    pool.connection_pool_kw["ssl_context"] = _tls(credentials)
    pool.connection_pool_kw["socket_options"] = _KEEPALIVE
    return pool


def _proxy(server: str) -> str | None:
    host = urlsplit(server).hostname or ""
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get("https")


_KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]
for _name, _value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
    if hasattr(socket, _name):
        _KEEPALIVE.append((socket.IPPROTO_TCP, getattr(socket, _name), _value))


def _tls(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=credentials.ca_data or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Clusters' own authorities often lack the extensions that RFC 5280 asks for.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if credentials.client_certificate:
        # OpenSSL's door takes a path only; the file is ours alone and gone before anything is sent.
        handle, path = tempfile.mkstemp(prefix="berth-")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(credentials.client_certificate.rstrip() + "\n" + credentials.client_key)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)
    return context


def warm_up() -> None:
    """Import what the first connection needs: 2 s and 70 MB, which no order should wait for."""
    importlib.import_module("kubernetes.client")


_UNKNOWN_CA = {18, 19, 20, 21}  # X509_V_ERR: self-signed, in chain, no local issuer, leaf unverifiable
_EXPIRED = {9, 10}
_HOST_NAME = {62, 64}


def unreachable(error: BaseException, server: str) -> Unreachable:
    """Tell in words why there was no answer from ``server``."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        inner = current.args[1] if len(current.args) > 1 else current.args[0] if current.args else None
        current = inner if isinstance(inner, BaseException) else current.__cause__ or current.__context__
    host = urlsplit(server).hostname or server
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return _certificate(each, server, host)
        if isinstance(each, Refused):
            return Unreachable(Fault.ADDRESS, f"{server} is not connected to: {each}")
    if any(isinstance(each, TimeoutError) and "handshake" in str(each) for each in chain):
        return Unreachable(Fault.TIMEOUT, f"{server} takes connections, but begins no TLS session in time.")
    for kinds, fault, message in _WORDS:
        if any(isinstance(each, kinds) for each in chain):
            detail = str(chain[-1])[:200] if fault in _WITH_DETAIL else ""
            return Unreachable(fault, message.format(server=server, host=host, detail=detail))
    return Unreachable(Fault.RESET, f"The connection to {server} failed: {str(chain[-1])[:300]}")


def _certificate(error: ssl.SSLCertVerificationError, server: str, host: str) -> Unreachable:
    if error.verify_code in _UNKNOWN_CA:
        return Unreachable(
            Fault.TLS_UNKNOWN_CA,
            f"The certificate of {server} is not signed by the authority that was given: "
            f"{error.verify_message}.",
        )
    if error.verify_code in _HOST_NAME:
        return Unreachable(
            Fault.TLS_HOST_NAME,
            f"The certificate of {server} is not made out to {host}: {error.verify_message}",
        )
    if error.verify_code in _EXPIRED:
        return Unreachable(
            Fault.TLS_EXPIRED,
            f"The certificate of {server} is out of its time: {error.verify_message}.",
        )
    return Unreachable(Fault.TLS, f"The certificate of {server} is refused: {error.verify_message}.")


_WITH_DETAIL = {Fault.TLS, Fault.PROXY, Fault.RESET, Fault.NO_ROUTE}

_WORDS: tuple[tuple[tuple[type[BaseException], ...], Fault, str], ...] = (
    ((http_errors.ProxyError,), Fault.PROXY, "The proxy on the way to {server} failed: {detail}"),
    ((http_errors.NameResolutionError, socket.gaierror), Fault.DNS, "The name {host} has no address."),
    ((ConnectionRefusedError,), Fault.REFUSED, "Nothing listens at {server}: the connection was refused."),
    (
        (http_errors.ConnectTimeoutError,),
        Fault.TIMEOUT,
        "{server} took no connection in time.",
    ),
    (
        (http_errors.ReadTimeoutError, TimeoutError),
        Fault.SLOW,
        "{server} took the request, but did not answer in time.",
    ),
    (
        (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, http_errors.ProtocolError),
        Fault.RESET,
        "The connection to {server} broke: {detail}",
    ),
    ((ssl.SSLError, http_errors.SSLError), Fault.TLS, "No TLS session with {server}: {detail}"),
    ((http_errors.NewConnectionError,), Fault.NO_ROUTE, "There is no way to {server}: {detail}"),
)
