"""The HTTP client towards engines, against servers that write byte by byte, lie, or go away."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engines.http import HttpBroken, HttpPool, Origin

MESSAGE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class RawServer:
    """Answers each request with ``pieces``, as they are, and may then close."""

    def __init__(self, *pieces: bytes, close: bool = False) -> None:
        self.pieces = pieces
        self.close = close
        self.connections = 0

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = Origin("127.0.0.1", self._server.sockets[0].getsockname()[1], False)
        self.pool = HttpPool()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pool.close()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readexactly(len(MESSAGE)):
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def ask(self) -> tuple[int, bytes]:
        response = await self.pool.post(self.origin, MESSAGE, connect_s=1.0)
        return response.status, await response.read_all(1 << 20)


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(1, 9))
def test_chunks_are_read_however_they_are_cut(chunks: list[bytes], step: int) -> None:
    answer = HEAD + chunked(*chunks)
    pieces = [answer[at : at + step] for at in range(0, len(answer), step)]

    async def run() -> None:
        async with RawServer(*pieces) as server:
            assert await server.ask() == (200, b"".join(chunks))

    asyncio.run(run())


async def test_a_connection_is_kept_and_used_again() -> None:
    async with RawServer(HEAD + chunked(b"one", b"two")) as server:
        answers = [await server.ask() for _ in range(3)]

        assert answers == [(200, b"onetwo")] * 3
        assert server.connections == 1


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy",
             b"HTTP/1.0 503 Busy\r\ncontent-length:4\r\n\r\nbusy"],
)  # fmt: skip
async def test_a_connection_that_may_not_be_kept(head: bytes) -> None:
    async with RawServer(head) as server:
        assert [await server.ask() for _ in range(2)] == [(503, b"busy")] * 2
        assert server.connections == 2


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async with RawServer(HEAD + chunked(b"x"), close=True) as server:
        for _ in range(3):
            assert await server.ask() == (200, b"x")
            await asyncio.sleep(0.05)
        assert server.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nTransf",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nwithout an end",
        HEAD + b"5\r\nab",
        HEAD + b"zz\r\nab\r\n",
        HEAD + b"-1\r\n\r\n",
        HEAD + b"1\r\nabc\r\n",
        HEAD + b"fffffff\r\nabc\r\n",
        HEAD + b"1\r\na\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    ],
)
async def test_a_broken_answer_is_never_taken_for_a_whole_one(answer: bytes) -> None:
    async with RawServer(answer, close=True) as server:
        with pytest.raises(HttpBroken):
            await server.ask()


async def test_nobody_listens() -> None:
    with pytest.raises(HttpBroken):
        await HttpPool().post(Origin("127.0.0.1", 1, False), MESSAGE, connect_s=0.5)


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "http://x:port"])
def test_urls_that_are_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|Port"):
        Origin.of(url)


def test_origins() -> None:
    assert Origin.of("http://[::1]:8000/base") == Origin("::1", 8000, False)
    assert Origin.of("https://engine") == Origin("engine", 443, True)
