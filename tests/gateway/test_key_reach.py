"""What a key may be used for at the gateway: from where, for which operations, for which endpoints and routes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway import keys
from gateway.contract import Key, NamedRoute, RateLimits, RouteRule, RouteTarget, Verb
from gateway.directory import read_snapshot
from tests.fakes.triton import Behaviour
from tests.gateway.batches.conftest import FILES_KEY
from tests.gateway.conftest import Bench
from tests.gateway.engines import serving
from tests.gateway.world import CREATED, KEY, OTHER_PROJECT_KEY, PEPPER, World, key

BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]},
    "completions": {"model": "docs", "prompt": "a b"},
    "embeddings": {"model": "docs", "input": "a b"},
}


async def limit(bench: Bench, **limits: Any) -> None:
    """Give the key of the bench these limits and wait for the gateway to know."""
    bench.world.keys = (key(KEY, "k1", **limits), *bench.world.keys[1:])
    bench.publish()
    await bench.settled()


async def ask(bench: Bench, path: str = "chat/completions", **headers: str) -> tuple[int, dict[str, Any]]:
    """Ask; give the status and the error, if there is one."""
    sent = {"authorization": f"Bearer {KEY}", **headers}
    async with bench.http.post(f"{bench.url}/v1/{path}", json=BODIES[path], headers=sent) as response:
        return response.status, (await response.json()).get("error", {})


async def get(bench: Bench, path: str) -> tuple[int, dict[str, Any]]:
    async with bench.http.get(
        f"{bench.url}/v1/{path}", headers={"authorization": f"Bearer {KEY}"}
    ) as response:
        return response.status, await response.json()


async def models(bench: Bench) -> list[str]:
    status, document = await get(bench, "models")
    assert status == 200
    return sorted(each["id"] for each in document["data"])


def refused(answer: tuple[int, dict[str, Any]], code: str) -> str:
    """Check a refusal and give its message, which says who can change the key."""
    status, error = answer
    assert (status, error["type"], error["code"]) == (403, "permission_error", code)
    assert "Owners, admins and developers" in error["message"]
    return str(error["message"])


@pytest.mark.parametrize(
    ("networks", "serves"),
    [
        (("127.0.0.0/8",), True),
        (("10.0.0.0/8", "127.0.0.1/32"), True),
        (("10.0.0.0/8",), False),
        (("2001:db8::/32",), False),
        (("nonsense",), False),
    ],
)
async def test_a_key_serves_from_its_networks_only(
    bench: Bench, networks: tuple[str, ...], serves: bool
) -> None:
    await limit(bench, networks=networks)
    answer = await ask(bench)
    if serves:
        assert answer[0] == 200
        assert await models(bench) == ["docs"]
    else:
        assert "127.0.0.1" not in refused(answer, "address_not_allowed")
        assert bench.triton.calls == []
        status, document = await get(bench, "models")
        assert (status, document["error"]["code"]) == (403, "address_not_allowed")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "serves"),
    [
        ("", "10.1.2.3", False),
        ("127.0.0.0/8", "10.1.2.3", True),
        (
            "127.0.0.0/8",
            "10.1.2.3, 192.0.2.9",
            False,
        ),  # the proxy saw the last, anybody may have written the first
        ("127.0.0.0/8,192.0.2.0/24", "10.1.2.3, 192.0.2.9", True),
        ("127.0.0.0/8", "::ffff:10.1.2.3", True),
        ("127.0.0.0/8", "10.1.2.3, nonsense", False),
        ("127.0.0.0/8", "", False),
    ],
)
async def test_only_named_proxies_say_where_a_request_comes_from(
    idle: Bench, proxies: str, forwarded: str, serves: bool
) -> None:
    await idle.ready(BERTH_GATEWAY_TRUSTED_PROXIES=proxies)
    await limit(idle, networks=("10.1.0.0/16",))
    answer = await ask(idle, **{"x-forwarded-for": forwarded})
    if serves:
        assert answer[0] == 200
    else:
        refused(answer, "address_not_allowed")


@pytest.mark.parametrize(
    ("verb", "path"),
    [(Verb.CHAT, "chat/completions"), (Verb.COMPLETIONS, "completions"), (Verb.EMBEDDINGS, "embeddings")],
)
async def test_a_key_asks_what_its_verbs_say(bench: Bench, verb: Verb, path: str) -> None:
    await limit(bench, verbs=(verb.value,))
    async with serving(bench):
        assert (await ask(bench, path))[0] == 200
        for other in set(BODIES) - {path}:
            assert verb.value in refused(await ask(bench, other), "operation_not_allowed")
    assert bench.totals()["refused"]["requests"] == 2
    assert (await get(bench, "models"))[0] == 403
    await limit(bench, verbs=("models",))
    assert await models(bench) == ["docs"]
    refused(await ask(bench, path), "operation_not_allowed")


async def test_a_key_calls_its_endpoints_only_and_sees_no_others(bench: Bench) -> None:
    bench.world.others = (
        bench.world.endpoint(bench.triton.url, endpoint_id="e7", name="other"),
        bench.world.endpoint(bench.triton.url, endpoint_id="e8", name="sold", tenant_id="t9", shared=True),
    )
    await limit(bench)
    assert await models(bench) == ["docs", "other", "sold"]
    await limit(bench, endpoints=("e7",))
    assert await models(bench) == ["other"]
    assert "GET /v1/models" in refused(await ask(bench), "endpoint_not_allowed")
    status, document = await get(bench, "models/docs")
    assert (status, document["error"]["code"]) == (403, "endpoint_not_allowed")
    assert (await get(bench, "models/nothing"))[0] == 404
    assert bench.triton.calls == []
    await limit(bench, endpoints=("e1",))
    assert (await ask(bench))[0] == 200


async def test_what_stands_behind_a_route_that_a_key_may_call_serves_it(bench: Bench) -> None:
    rule = RouteRule(targets=(RouteTarget(endpoint_id="e1"),))
    bench.world.more["named_routes"] = (
        NamedRoute(
            route_id="r1", tenant_id="t1", project_id="p1", name="smart", created_at=CREATED, rules=(rule,)
        ),
    )
    await limit(bench, endpoints=("r1",))
    assert await models(bench) == ["smart"]
    sent = {"authorization": f"Bearer {KEY}"}
    body = {**BODIES["chat/completions"], "model": "smart"}
    async with bench.http.post(f"{bench.url}/v1/chat/completions", json=body, headers=sent) as response:
        assert response.status == 200
    refused(await ask(bench), "endpoint_not_allowed")
    await limit(bench, endpoints=("e1",))
    async with bench.http.post(f"{bench.url}/v1/chat/completions", json=body, headers=sent) as response:
        assert response.status == 403


async def test_files_and_batches_want_their_verbs_and_those_of_their_lines(idle: Bench) -> None:
    await idle.ready(BERTH_GATEWAY_FILES_KEYS=FILES_KEY)
    order = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}

    async def batch() -> tuple[int, dict[str, Any]]:
        async with idle.post("/v1/batches", order) as response:
            return response.status, (await response.json()).get("error", {})

    await limit(idle, verbs=("batches",))
    assert (await get(idle, "batches"))[0] == 200
    assert (await get(idle, "files"))[0] == 403
    assert "chat" in refused(await batch(), "operation_not_allowed")
    await limit(idle, verbs=("batches", "chat"))
    assert (await batch())[1]["code"] == "file_not_found"
    await limit(idle, verbs=("files", "chat"))
    assert (await get(idle, "files"))[0] == 200
    refused(await batch(), "operation_not_allowed")


async def test_a_request_that_runs_when_its_key_is_revoked_finishes(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(tokens=6, delay_s=0.1)
    body = {**BODIES["chat/completions"], "stream": True}
    async with bench.post("/v1/chat/completions", body) as response:
        await response.content.readany()
        bench.world.keys = bench.world.keys[1:]
        bench.publish()
        await bench.settled()
        assert (await ask(bench))[0] == 401
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_rates_of_a_key_hold_for_it_and_the_one_that_takes_its_place_together(bench: Bench) -> None:
    rates = RateLimits(requests_per_minute=2)
    old, new = key(KEY, "k1", rates=rates), key(OTHER_PROJECT_KEY, "k5", rates=rates, earlier=("k1",))
    bench.world.keys = (old, new)
    bench.publish()
    await bench.settled()
    body = BODIES["chat/completions"]
    statuses = []
    for text in (KEY, OTHER_PROJECT_KEY, OTHER_PROJECT_KEY):
        async with bench.post("/v1/chat/completions", body, key=text) as response:
            statuses.append(response.status)
    assert statuses == [200, 200, 429]


def test_a_snapshot_of_before_reads_as_keys_without_limits_and_says_no_more_than_it_must() -> None:
    plain = key(KEY, "k1")
    written = msgspec.json.encode(plain)
    assert not {b"networks", b"verbs", b"endpoints", b"earlier"} & set(written.split(b'"'))
    assert msgspec.json.decode(written, type=Key) == plain
    limited = key(KEY, "k1", verbs=("chat",))
    assert b'"verbs":["chat"]' in msgspec.json.encode(limited)


def test_kept_snapshots_are_read_with_and_without_limits() -> None:
    world = World(keys=(key(KEY, "k1", networks=("10.0.0.0/8",)),))
    content = msgspec.json.encode(world.snapshot("http://localhost:1"))
    (found,) = read_snapshot(content, gateway="gw-1", region="eu-de-1").keys
    assert found.networks == ("10.0.0.0/8",)
    document = msgspec.json.decode(content)
    for each in document["keys"]:
        del each["networks"]
    (found,) = read_snapshot(msgspec.json.encode(document), gateway="gw-1", region="eu-de-1").keys
    assert found.networks == ()
    assert keys.digest(KEY, PEPPER) == found.digest
