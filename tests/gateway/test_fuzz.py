"""Whatever comes, the answer is no 5xx, nothing hangs, and the next request is served as ever."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract import Snapshot
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.triton import FakeTriton
from tests.fakes.trtllm_serve import FakeTrtllmServe
from tests.gateway.conftest import Bench
from tests.gateway.engines import route, serve_replica
from tests.gateway.world import KEY, World

FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
FUNCTION = {"name": "f", "arguments": "{}"}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {
        "model": "docs", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "n": 2,
        "stream": True, "stream_options": {"include_usage": True}, "stop": ["a", "b"], "seed": 1, "temperature": 0.5,
        "top_p": 0.5, "max_tokens": 4, "logit_bias": {"1": 2}, "logprobs": True, "top_logprobs": 2, "user": "u",
        "metadata": {"a": "b"}, "store": False, "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    }),
    ("/v1/chat/completions", {
        "model": "docs", "tool_choice": {"type": "function", "function": {"name": "f"}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
        "messages": [
            {"role": "user", "content": "a", "name": "n"},
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": FUNCTION}]},
            {"role": "tool", "tool_call_id": "1", "content": "x"},
        ],
    }),
    ("/v1/chat/completions", {"model": "plain", "messages": [{"role": "user", "content": "a"}], "n": 2, "seed": 3}),
    ("/v1/completions", {
        "model": "docs", "prompt": ["a"], "logprobs": 2, "best_of": 1, "echo": False, "suffix": "", "stop": "a",
        "presence_penalty": 1, "frequency_penalty": 1, "max_tokens": 3, "stream": False,
    }),
    ("/v1/completions", {"model": "plain", "prompt": "a b", "temperature": 0, "top_p": 0, "seed": -1}),
    ("/v1/embeddings", {"model": "docs", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 2}),
]  # fmt: skip

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**40, 1e308, -0.0, 0.1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["", "docs", "plain", "none", "auto", "\x00", "\u2028", "😀", "a" * 3_000])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def _places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if here:
        yield here
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*here, key))


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A body that was good, with one to three members replaced, removed or added, at any depth."""
    path, body = draw(st.sampled_from(BODIES))
    body = json.loads(json.dumps(body))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(body))
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        at: Any = body
        for key in way:
            at = at[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                at[last] = draw(JSON)
            case "remove":
                del at[last]
            case _ if isinstance(at, dict):
                at[draw(st.text(max_size=10))] = draw(JSON)
            case _:
                at.append(draw(JSON))
    return path, json.dumps(body).encode()


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, bytes]:
    """The bytes of a good body, with some of them replaced, left out or put in."""
    path, body = draw(st.sampled_from(BODIES))
    content = bytearray(json.dumps(body).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return path, bytes(content)


ANYTHING = (
    mutated()
    | broken()
    | st.tuples(st.sampled_from(PATHS), JSON.map(lambda value: json.dumps(value).encode()))
    | st.tuples(st.sampled_from(PATHS), st.binary(max_size=200))
)


@contextlib.asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[Bench]:
    world = World()
    async with FakeTriton() as triton, FakeTrtllmServe() as serve, aiohttp.ClientSession() as http:
        usual = world.snapshot(triton.url)
        docs = world.endpoint(serve.url, routes=route(serve_replica(serve.url)), context_tokens=10_000)
        plain = world.endpoint(triton.url, endpoint_id="e2", name="plain", context_tokens=10_000)
        snapshot = Snapshot.build(
            gateway="gw-1",
            region="eu-de-1",
            zones=("EU",),
            keys=usual.keys,
            endpoints=(docs, plain),
            classes=usual.classes,
        )
        control = await FakeControlPlane(snapshot).start()
        bench = Bench(triton=triton, control=control, world=world, data_dir=data_dir, http=http)
        try:
            await bench.ready()
            yield bench
        finally:
            await bench.stop()
            await control.stop()


class Fuzzed:
    """A gateway whose event loop runs only while it is asked something."""

    def __init__(self, runner: asyncio.Runner, bench: Bench) -> None:
        self._runner = runner
        self._bench = bench

    def post(self, path: str, content: bytes) -> tuple[int, bytes]:
        return self._runner.run(self._post(path, content))

    def raw(self, message: bytes, *, patience_s: float = 0.15) -> bytes:
        """Send ``message``, and no more once nothing came for ``patience_s``; give all that comes."""
        return self._runner.run(self._raw(message, patience_s))

    def healthy(self) -> bool:
        """Say whether it serves as ever, and nothing of what came before is still in progress."""
        status, _ = self.post(*_good())
        self._runner.run(self._bench.in_flight(0))
        return status == 200

    async def _post(self, path: str, content: bytes) -> tuple[int, bytes]:
        async with asyncio.timeout(20), self._bench.post(path, data=io.BytesIO(content)) as response:
            return response.status, await response.read()

    async def _raw(self, message: bytes, patience_s: float) -> bytes:
        host, port = self._bench.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        answer = b""
        try:
            async with asyncio.timeout(20):
                writer.write(message)
                with contextlib.suppress(ConnectionError):
                    try:
                        while more := await asyncio.wait_for(reader.read(65_536), patience_s):
                            answer += more
                    except TimeoutError:
                        # It may wait for the rest of a request, or for another one: not for ever.
                        writer.write_eof()
                        answer += await reader.read()
        finally:
            writer.close()
        return answer


def _good() -> tuple[str, bytes]:
    return "/v1/completions", b'{"model": "docs", "prompt": "a b"}'


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Fuzzed]:
    with asyncio.Runner() as runner:
        opening = opened(tmp_path)
        bench = runner.run(opening.__aenter__())
        try:
            yield Fuzzed(runner, bench)
        finally:
            runner.run(opening.__aexit__(None, None, None))


def test_bodies(fuzzed: Fuzzed) -> None:
    @FUZZ
    @given(case=ANYTHING)
    def check(case: tuple[str, bytes]) -> None:
        status, answer = fuzzed.post(*case)
        assert status < 500, answer
        assert b'data: {"error"' not in answer
        if status >= 400:
            assert set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}

    check()
    assert fuzzed.healthy()


@pytest.mark.parametrize("stuffing", [b"[]", b"{}", b"0", b'""', b"null", b'{"role":"user","content":"a"}'])
def test_large_bodies_of_many_small_things(fuzzed: Fuzzed, stuffing: bytes) -> None:
    many = b"[" + b",".join([stuffing] * (3 * 1024 * 1024 // (len(stuffing) + 1))) + b"]"
    chat = b'{"model": "docs", "messages": [{"role": "user", "content": "a"}], '
    for path, content in (
        ("/v1/chat/completions", b'{"model": "docs", "messages": ' + many + b"}"),
        (
            "/v1/chat/completions",
            b'{"model": "docs", "messages": [{"role": "user", "content": ' + many + b"}]}",
        ),
        ("/v1/chat/completions", chat + b'"tools": ' + many + b"}"),
        ("/v1/chat/completions", chat + b'"stop": ' + many + b"}"),
        ("/v1/chat/completions", chat + b'"response_format": ' + many + b"}"),
        ("/v1/chat/completions", chat + b'"metadata": {"a": ' + many + b"}}"),
        ("/v1/completions", b'{"model": "docs", "prompt": ' + many + b"}"),
        ("/v1/embeddings", b'{"model": "docs", "input": ' + many + b"}"),
    ):
        status, answer = fuzzed.post(path, content)
        # Only what is looked at by nobody may be so.
        assert status == (200 if b"metadata" in content else 400), answer
    assert fuzzed.healthy()


NAMES = st.sampled_from(
    ["authorization", "content-type", "content-length", "transfer-encoding", "content-encoding", "expect", "host",
     "connection", "upgrade", "origin", "x-request-id", "x-client-request-id", "x-berth-session", "accept", "cookie",
     "traceparent", "x-scale-up-timeout", "te", "trailer", "range"]
) | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)  # fmt: skip
VALUES = (
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=30)
    | st.sampled_from(
        ["", "chunked", "gzip", "100-continue", "close", "keep-alive", "websocket", "-1", "0", "99999999999999999999",
         f"Bearer {KEY}", "Bearer", "Basic abc", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "a" * 9_000]
    )
)  # fmt: skip


def test_headers(fuzzed: Fuzzed) -> None:
    path, content = _good()

    @FUZZ
    @given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=5), authorized=st.booleans())
    def check(headers: list[tuple[str, str]], authorized: bool) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        if authorized:
            head += f"Authorization: Bearer {KEY}\r\nContent-Length: {len(content)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers)
        answer = fuzzed.raw(head.encode("latin-1") + b"\r\n" + content)
        for line in answer.split(b"\r\n"):
            assert not line.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")), answer

    check()
    assert fuzzed.healthy()


AUTHORIZED = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode()
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
REQUEST = AUTHORIZED + b"Content-Length: 34\r\nConnection: close\r\n\r\n" + _good()[1]


@pytest.mark.parametrize(
    "message",
    [
        AUTHORIZED + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        AUTHORIZED + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        AUTHORIZED + b"Content-Length: 5\r\nContent-Length: 40\r\n\r\nabcde" + SMUGGLED,
        AUTHORIZED + b"Content-Length: +5\r\n\r\nabcde" + SMUGGLED,
        AUTHORIZED + b"Content-Length: 5, 5\r\n\r\nabcde" + SMUGGLED,
        AUTHORIZED + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        AUTHORIZED + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        AUTHORIZED + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        AUTHORIZED + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        AUTHORIZED + b"X: a\n\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        AUTHORIZED + b" folded: x\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
    ],
)
def test_requests_that_two_readers_could_divide_differently(fuzzed: Fuzzed, message: bytes) -> None:
    answer = fuzzed.raw(message, patience_s=10)

    assert b"berth_gateway_in_flight" not in answer
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert fuzzed.healthy()


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET", b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /v1/models HTTP/9.9\r\n\r\n", b"A" * 100_000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        AUTHORIZED + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        AUTHORIZED + b"".join(b"X%d: a\r\n" % number for number in range(20_000)) + b"\r\n",
        AUTHORIZED + b"Content-Length: 99999999999999999999\r\n\r\n",
        AUTHORIZED + b"Content-Length: 100\r\n\r\n{",
        AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
        AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nZZ\r\nabc\r\n",
        AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
        AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nabcde\r\n0\r\n\r\n",
        AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 20_000 + b"\r\nabcde\r\n0\r\n\r\n",
        AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde",
        AUTHORIZED + b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
        AUTHORIZED + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n"
        b"Content-Length: 0\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_hardly_http(fuzzed: Fuzzed, message: bytes) -> None:
    answer = fuzzed.raw(message)

    assert not answer or answer.split(b" ", 2)[1].startswith(b"4"), answer[:300]
    assert fuzzed.healthy()


def test_requests_with_bytes_out_of_place(fuzzed: Fuzzed) -> None:
    @FUZZ
    @given(
        changes=st.lists(
            st.tuples(st.integers(0, len(REQUEST) - 1), st.integers(0, 4), st.binary(max_size=4)),
            min_size=1,
            max_size=4,
        )
    )
    def check(changes: list[tuple[int, int, bytes]]) -> None:
        message = bytearray(REQUEST)
        for at, length, put in changes:
            message[at : at + length] = put
        answer = fuzzed.raw(bytes(message))
        assert not answer or answer.split(b" ", 2)[1][:1] in (b"2", b"4"), answer[:300]

    check()
    assert fuzzed.healthy()
