"""The gateway serves and meters without its control plane, and says how it stands."""

from __future__ import annotations

import stat

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.contract import SCHEMA
from gateway.directory import BadSnapshot, read_snapshot
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY, World, key, make_key

CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


async def readiness(bench: Bench) -> tuple[int, dict[str, object]]:
    async with bench.http.get(f"{bench.url}/readyz") as response:
        return response.status, await response.json()


async def test_without_any_snapshot_keys_are_not_called_wrong(idle: Bench) -> None:
    idle.control.snapshot = None
    await idle.start()

    status, document = await readiness(idle)
    async with idle.post("/v1/chat/completions", CHAT) as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "gateway_not_ready"
        assert response.headers["retry-after"]

    assert status == 503
    assert document["control_plane_contact_age_s"] is None
    assert (await idle.http.get(f"{idle.url}/healthz")).status == 200

    idle.publish()
    await idle.settled()
    assert await idle.http_status("/v1/chat/completions", CHAT) == 200


async def test_a_start_without_the_control_plane_uses_the_snapshot_on_disk(bench: Bench) -> None:
    await bench.stop()
    await bench.control.stop()
    path = bench.folder / "snapshot.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    await bench.start()
    status, document = await readiness(bench)
    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    await eventually(lambda: bench.totals().get("completed", {}).get("requests") == 1)

    assert status == 200
    assert isinstance(document["control_plane_contact_age_s"], float)
    assert bench.control.segments == {}

    await bench.control.start()
    await eventually(lambda: bench.control.requests() == {"completed": 1})


async def test_the_control_plane_goes_and_comes_back_in_mid_run(bench: Bench) -> None:
    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    await eventually(lambda: bench.control.requests() == {"completed": 1})
    await bench.control.stop()

    for _ in range(5):
        assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    assert (await readiness(bench))[0] == 200

    bench.publish(max_output_tokens=3)
    await bench.control.start()
    await eventually(lambda: bench.control.requests() == {"completed": 6})
    await bench.settled()
    await bench.http_status("/v1/chat/completions", CHAT)
    assert bench.triton.calls[-1].payload["max_tokens"] == 3
    assert len(set(bench.control.sequences)) == max(bench.control.sequences)


async def test_a_damaged_snapshot_on_disk_is_not_used(bench: Bench) -> None:
    await bench.stop()
    await bench.control.stop()
    path = bench.folder / "snapshot.json"
    path.write_bytes(path.read_bytes()[:-20])

    await bench.start()

    assert (await readiness(bench))[0] == 503


async def test_a_bad_snapshot_is_refused_and_the_old_one_kept(bench: Bench) -> None:
    good = bench.world.snapshot(bench.triton.url)
    for content in (b"not json", msgspec.json.encode(msgspec.structs.replace(good, schema=2))):
        polls = len(bench.control.polls)
        bench.control.publish(content)
        await eventually(lambda polls=polls: len(bench.control.polls) > polls + 1)
        assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    assert (await readiness(bench))[1]["snapshot_version"] == good.version

    bench.publish(default_max_tokens=2)
    await bench.settled()


GOOD = World().snapshot("http://engine")


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b"\xff",
        b'{"schema": 1}',
        msgspec.json.encode({**msgspec.to_builtins(GOOD), "surprise": 1}),
        msgspec.json.encode(msgspec.structs.replace(GOOD, schema=SCHEMA + 1)),
        msgspec.json.encode(msgspec.structs.replace(GOOD, gateway="another")),
        msgspec.json.encode(msgspec.structs.replace(GOOD, region="us-1")),
        msgspec.json.encode(msgspec.structs.replace(GOOD, version="")),
        msgspec.json.encode(msgspec.structs.replace(GOOD, endpoints=GOOD.endpoints * 2)),
        msgspec.json.encode(GOOD).replace(b"2026-01-02T03:04:05Z", b"2026-01-02T03:04:05"),
        msgspec.json.encode(GOOD).replace(b'"weight":100', b'"weight":-1'),
    ],
)
def test_what_makes_a_snapshot_bad(content: bytes) -> None:
    assert read_snapshot(msgspec.json.encode(GOOD), gateway="gw-1", region="eu-de-1") == GOOD

    with pytest.raises(BadSnapshot):
        read_snapshot(content, gateway="gw-1", region="eu-de-1")


async def test_revoked_and_new_keys_take_effect(bench: Bench) -> None:
    fresh = make_key("z")
    bench.world.keys = (key(fresh, "k9"),)
    bench.publish()
    await bench.settled()

    async with bench.post("/v1/chat/completions", CHAT, key=KEY) as response:
        assert response.status == 401
    async with bench.post("/v1/chat/completions", CHAT, key=fresh) as response:
        assert response.status == 200


async def test_a_redirect_is_not_followed_with_the_gateways_token(idle: Bench) -> None:
    asked: list[str] = []
    reached: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": f"{elsewhere.make_url('/')}"})

    async def answer(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(text="{}")

    app, other = web.Application(), web.Application()
    app.router.add_route("*", "/{path:.*}", redirect)
    other.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(other) as elsewhere, TestServer(app) as control:
        await idle.start(BERTH_CONTROL_PLANE_URL=str(control.make_url("")).rstrip("/"))
        await eventually(lambda: len(asked) >= 2)
        assert reached == []
        assert (await idle.http.get(f"{idle.url}/readyz")).status == 503
