"""HTTP/1.1 towards engines: POSTs whose answers are streamed, over connections that are kept.

It does only what engines need (no redirects, cookies, compression or trailers), because a general
client took a third of the gateway's time for each request. Chunks that arrive together are handed
on together.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

_HEAD_LIMIT: Final = 64 * 1024
_CHUNK_LIMIT: Final = 4 * 1024 * 1024
_HIGH_WATER: Final = 256 * 1024
# A kept connection holds up the shutdown of a Triton server, so that it is not kept for long.
_IDLE_S: Final = 10.0
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*\bchunked\b", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*\bclose\b", re.IGNORECASE)


class HttpBroken(Exception):
    """The connection could not be made, or broke, or what came over it is not HTTP."""


class Origin(NamedTuple):
    """Where connections go."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Origin:
        """Read the origin of an ``http`` or ``https`` URL.

        Raises:
            ValueError: it is no such URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url[:100]!r}")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)


class _Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.lost = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > _HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._wake()

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def abort(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    async def more(self) -> None:
        """Wait until the buffer has grown."""
        if self.lost:
            raise HttpBroken("the engine closed the connection")
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class HttpPool:
    """Connections by origin, kept for ``idle_s`` seconds after use. Belongs to one event loop."""

    def __init__(self, *, idle_s: float = _IDLE_S) -> None:
        self._idle_s = idle_s
        self._idle: dict[Origin, list[_Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def post(self, origin: Origin, message: bytes, *, connect_s: float) -> HttpResponse:
        """Send a whole request, head and body, and give its answer once the answer's head is there.

        Raises:
            HttpBroken: no connection within ``connect_s``, or it broke.
        """
        connection = self._kept(origin) or await _connect(origin, connect_s)
        response = HttpResponse(self, origin, connection)
        try:
            connection.write(message)
            await response.read_head()
        except BaseException:
            response.close()
            raise
        return response

    def keep(self, origin: Origin, connection: _Connection) -> None:
        """Take back a connection whose answer was read to its end."""
        connection.idle_since = time.monotonic()
        self._idle.setdefault(origin, []).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._idle_s / 2, self._drop_idle)

    def close(self) -> None:
        """Drop all connections that are not in use."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _kept(self, origin: Origin) -> _Connection | None:
        connections = self._idle.get(origin, [])
        while connections:
            connection = connections.pop()
            if not connection.lost and not connection.buffer:
                return connection
            connection.abort()
        return None

    def _drop_idle(self) -> None:
        self._sweep = None
        limit = time.monotonic() - self._idle_s
        for origin, connections in list(self._idle.items()):
            kept = [c for c in connections if not c.lost and c.idle_since > limit]
            for connection in connections:
                if connection not in kept:
                    connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(self._idle_s / 2, self._drop_idle)


class HttpResponse:
    """One answer, read as it comes."""

    def __init__(self, pool: HttpPool, origin: Origin, connection: _Connection) -> None:
        self._pool = pool
        self._origin = origin
        self._connection: _Connection | None = connection
        self._chunked = False
        self._left = 0
        self._reusable = False
        self.status = 0

    async def read_head(self) -> None:
        """Read status and headers. Called once, by the pool."""
        connection = self._connection
        assert connection is not None
        while (end := connection.buffer.find(b"\r\n\r\n")) < 0:
            if len(connection.buffer) > _HEAD_LIMIT:
                raise HttpBroken("the answer's head is too long")
            await connection.more()
        head = bytes(connection.buffer[: end + 2])
        del connection.buffer[: end + 4]
        version, _, rest = head.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise HttpBroken("the answer is not HTTP")
        self.status = int(rest[:3])
        self._chunked = _CHUNKED.search(head) is not None
        length = _LENGTH.search(head)
        self._left = int(length[1]) if length else 0
        if not self._chunked and length is None:
            raise HttpBroken("the answer's end is not marked")
        self._reusable = version == b"HTTP/1.1" and _CLOSE.search(head) is None

    async def read(self) -> bytes:
        """Give what has arrived of the body, waiting for some; empty at its end.

        Raises:
            HttpBroken: the connection broke before the end.
        """
        while (connection := self._connection) is not None:
            data = self._dechunk(connection) if self._chunked else self._take(connection)
            if data:
                return data
            if self._connection is not None:
                await connection.more()
        return b""

    async def read_all(self, limit: int) -> bytes:
        """Give the whole body, cut after about ``limit`` bytes."""
        pieces: list[bytes] = []
        length = 0
        while length < limit and (data := await self.read()):
            pieces.append(data)
            length += len(data)
        return b"".join(pieces)

    def close(self) -> None:
        """Drop the connection at once, unless the answer came to its end."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _take(self, connection: _Connection) -> bytes:
        data = bytes(connection.buffer[: self._left])
        del connection.buffer[: len(data)]
        self._left -= len(data)
        if not self._left:
            self._end(connection)
        return data

    def _dechunk(self, connection: _Connection) -> bytes:
        data = bytes(connection.buffer)
        pieces: list[bytes] = []
        at = 0
        while (line_end := data.find(b"\r\n", at)) >= 0:
            size = _chunk_size(data[at:line_end])
            start, end = line_end + 2, line_end + 2 + size
            if len(data) < end + 2:
                break
            if data[end : end + 2] != b"\r\n":
                raise HttpBroken("a chunk does not end where it should")
            at = end + 2
            if not size:
                del connection.buffer[:at]
                self._end(connection)
                return b"".join(pieces)
            pieces.append(data[start:end])
        del connection.buffer[:at]
        return b"".join(pieces)

    def _end(self, connection: _Connection) -> None:
        self._connection = None
        if self._reusable and not connection.buffer and not connection.lost:
            self._pool.keep(self._origin, connection)
        else:
            connection.abort()


def _chunk_size(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError as error:
        raise HttpBroken("a chunk has no size") from error
    if not 0 <= size <= _CHUNK_LIMIT:
        raise HttpBroken("a chunk is too large")
    return size


async def _connect(origin: Origin, connect_s: float) -> _Connection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(connect_s):
            _, connection = await loop.create_connection(
                lambda: _Connection(loop), origin.host, origin.port, ssl=origin.tls or None
            )
    except (OSError, TimeoutError) as error:
        raise HttpBroken(f"no connection: {type(error).__name__}") from error
    return connection
