"""What can be reached: the doors that exist, each billable one through the meter, and nothing of an engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.conftest import Bench
from tests.gateway.engines import serving
from tests.gateway.world import KEY

CHAT: dict[str, Any] = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}
#: These answer no prompt themselves: the lines of batches pass the same seam, which the tests of batches show.
BATCH_DOORS = {
    ("POST", "/v1/files"), ("GET", "/v1/files"), ("GET", "/v1/files/{id}"), ("GET", "/v1/files/{id}/content"),
    ("DELETE", "/v1/files/{id}"),
    ("POST", "/v1/batches"), ("GET", "/v1/batches"), ("GET", "/v1/batches/{id}"),
    ("POST", "/v1/batches/{id}/cancel"),
}  # fmt: skip
#: Every other door there is. One that takes a body is billable, and is proven to be metered below.
DOORS = {
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"),
    ("GET", "/v1/models"), ("GET", "/v1/models/{model:.+}"),
    ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"),
    ("OPTIONS", "/v1/{path:.*}"), ("*", "/{path:.*}"),
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "docs", "prompt": "a b"},
    "/v1/embeddings": {"model": "docs", "input": "a b"},
}


async def raw(bench: Bench, message: bytes) -> tuple[int, bytes]:
    """Send ``message`` as it is; give the status and everything that comes back."""
    host, port = bench.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(message)
        async with asyncio.timeout(15):
            answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer


def line(method: str, target: str) -> bytes:
    return (
        f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n"
        "Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    ).encode()


async def test_every_billable_door_passes_the_meter(bench: Bench) -> None:
    assert bench.server is not None
    doors = {(door.method, door.path) for door in bench.server.routes()}
    assert doors == DOORS | BATCH_DOORS

    async with serving(bench):
        for path, body in BODIES.items():
            async with bench.post(path, body) as response:
                assert response.status == 200, await response.text()

    assert {path for method, path in doors - BATCH_DOORS if method == "POST"} == set(BODIES)
    assert bench.totals()["completed"]["requests"] == len(BODIES)
    assert bench.totals()["completed"]["input_tokens"] > 0


ENGINE_PATHS = [
    "/release_memory", "/resume_memory", "/update_weights", "/health_generate", "/version", "/kv_cache_events",
    "/prometheus/metrics", "/v1/responses", "/v1/kv_cache/hint", "/_internal/tokenize",
    "/_control/kv_cache/truncate_tokens",
    "/v2", "/v2/health/ready", "/v2/models/front/generate", "/v2/models/front/generate_stream",
    "/v2/models/front/infer",
    "/v2/repository/index", "/v2/repository/models/front/unload", "/v2/logging", "/v2/trace/setting",
    "/v2/systemsharedmemory/status",
]  # fmt: skip
ODD = [
    "/{}", "//{}", "/./{}", "/v1/../{}", "/v1/%2e%2e/{}", "/v1/..%2f{}", "/%2e/{}", "/v1/models/../../{}",
    "/v1/chat/completions/../../../{}", "/v1/chat/completions/{}", "/v1/;/{}", "http://engine:8000/{}",
    "http://gateway/{}", "/{}/", "/{}?x=1", "/{}#x",
]  # fmt: skip


@pytest.mark.parametrize("path", ENGINE_PATHS)
async def test_no_path_of_an_engine_is_reached_however_it_is_spelled(bench: Bench, path: str) -> None:
    async with serving(bench) as engine:
        for method in ("GET", "POST"):
            for form in ODD:
                status, _ = await raw(bench, line(method, form.format(path.removeprefix("/"))))
                # A name below /v1/models/ is that of a model, and there is none.
                assert status == 404, (method, form)
        assert engine.calls == []


@pytest.mark.parametrize(
    "target",
    [
        "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "/V1/chat/completions",
        "/v1/../v1/completions", "/v1/%2e/completions", "/v1/chat%2fcompletions/x", "/v1/completions;x",
    ],
)  # fmt: skip
async def test_generating_doors_have_one_spelling(bench: Bench, target: str) -> None:
    assert (await raw(bench, line("POST", target)))[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "GET", "HEAD"])
async def test_generating_doors_take_posts_alone(bench: Bench, method: str) -> None:
    for path in BODIES:
        assert (await raw(bench, line(method, path)))[0] == 404


async def test_every_answer_has_an_id_of_the_gateways_own(bench: Bench) -> None:
    ids = set()
    theirs = {"x-request-id": "mine", "x-client-request-id": "mine-7"}
    for method, path in (
        ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/nothing"),
        ("OPTIONS", "/v1/models"), ("POST", "/v1/chat/completions"),
    ):  # fmt: skip
        async with bench.http.request(method, bench.url + path, headers=theirs) as response:
            ids.add(response.headers["x-request-id"])
            assert response.headers["x-client-request-id"] == "mine-7"
    for stream in (False, True):
        async with bench.post("/v1/chat/completions", {**CHAT, "stream": stream}) as response:
            ids.add(response.headers["x-request-id"])
            assert response.headers["x-berth-endpoint"] == "docs"
            assert "x-client-request-id" not in response.headers
    _, answer = await raw(bench, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n")
    assert b"\r\nx-request-id: " in answer.lower()

    assert len(ids) == 9
    assert all(len(request_id) == 24 for request_id in ids)


async def test_a_clients_id_that_could_do_harm_is_not_given_back(bench: Bench) -> None:
    for bad in ("a b", "x" * 129, "é", "a\tb"):
        async with bench.http.get(f"{bench.url}/healthz", headers={"x-client-request-id": bad}) as response:
            assert "x-client-request-id" not in response.headers


async def test_nothing_of_a_clients_headers_goes_to_an_engine(bench: Bench) -> None:
    headers = {
        "authorization": f"Bearer {KEY}", "x-tenant-id": "t2", "x-priority": "high", "x-berth-class": "batch",
        "x-request-id": "r", "x-berth-session": "s", "cookie": "a=b", "user-agent": "u", "x-forwarded-for": "1.2.3.4",
        "openai-organization": "o", "triton-request-id": "7", "traceparent": "00-a-b-01",
    }  # fmt: skip
    async with serving(bench) as engine:
        for path, body in BODIES.items():
            async with bench.http.post(bench.url + path, json=body, headers=headers) as response:
                assert response.status == 200
        assert len(engine.calls) == len(BODIES)
        for call in engine.calls:
            assert set(call.headers) == {"Host", "Content-Type", "Accept", "Content-Length"}


async def test_compressed_bodies_are_refused(bench: Bench) -> None:
    async with bench.http.post(
        f"{bench.url}/v1/chat/completions",
        data=b"x" * 10,
        headers={"authorization": f"Bearer {KEY}", "content-encoding": "gzip"},
    ) as response:
        assert response.status == 415
        assert (await response.json())["error"]["code"] == "unsupported_content_encoding"


async def test_a_body_that_waits_for_leave_to_be_sent(bench: Bench) -> None:
    body = b'{"model": "docs", "prompt": "a"}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    length = f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"

    _, answer = await raw(bench, head.encode() + length.encode() + body)

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_what_cannot_be_read_is_not_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    status, answer = await raw(
        bench, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\x00\r\n\r\n"
    )

    assert status == 400
    assert b'"code":"malformed_request"' in answer
    assert b"sesame" not in answer
    assert "sesame" not in caplog.text
