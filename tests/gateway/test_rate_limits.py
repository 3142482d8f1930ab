"""Requests and tokens a minute, through the door: who is refused, what it is told, and what is given back."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import msgspec
import openai
import pytest

from gateway.contract import Project, RateLimits, Tenant
from gateway.demand import Demand
from gateway.errors import ApiError
from gateway.limits import RateGate
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench
from tests.gateway.world import KEY, OTHER_PROJECT_KEY, World, key

PROMPT = {"model": "docs", "prompt": "one two", "max_tokens": 5}
HELD = len("one two") + 3 + 5  # without a tokenizer
OWNERS = {"key": "key k1", "project": "Web site", "tenant": "Acme", "endpoint": "docs"}


async def limit(bench: Bench, owner: str, **rates: int) -> None:
    """Publish a snapshot in which ``owner`` has these limits, and wait for it."""
    limits = {name: RateLimits() for name in OWNERS} | {owner: RateLimits(**rates)}
    first, *others = World().keys
    bench.world.keys = (msgspec.structs.replace(first, rates=limits["key"]), *others)
    bench.world.more = {
        "projects": (Project(project_id="p1", tenant_id="t1", name="Web site", rates=limits["project"]),),
        "tenants": (Tenant(tenant_id="t1", name="Acme", rates=limits["tenant"]),),
    }
    bench.publish(rates=limits["endpoint"])
    await bench.settled()


@dataclasses.dataclass
class Answer:
    status: int
    headers: Any
    error: dict[str, Any]


async def ask(bench: Bench, body: dict[str, Any] = PROMPT, **options: Any) -> Answer:
    async with bench.post("/v1/completions", body, **options) as response:
        content = await response.read()
    error = msgspec.json.decode(content)["error"] if response.status != 200 else {}
    return Answer(response.status, response.headers, error)


@pytest.mark.parametrize("owner", OWNERS)
async def test_more_requests_than_a_minute_may_have_are_refused(bench: Bench, owner: str) -> None:
    await limit(bench, owner, requests_per_minute=3)

    passed = [await ask(bench) for _ in range(3)]
    refused = await ask(bench)

    assert [each.status for each in passed] == [200, 200, 200]
    assert [each.headers["x-ratelimit-remaining-requests"] for each in passed] == ["2", "1", "0"]
    assert {each.headers["x-ratelimit-limit-requests"] for each in passed} == {"3"}
    assert "x-ratelimit-limit-tokens" not in passed[0].headers
    assert refused.status == 429
    assert (refused.error["type"], refused.error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    told = re.fullmatch(
        rf"Rate limit reached: {owner} '{OWNERS[owner]}' may use 3 requests per minute\."
        r" There is room again in ([0-9.]+) s\.",
        refused.error["message"],
    )
    assert told
    assert 30 < float(told[1]) <= 60.5
    assert int(refused.headers["retry-after-ms"]) == pytest.approx(float(told[1]) * 1000)
    assert 0 <= int(refused.headers["retry-after"]) - float(told[1]) < 1
    assert "x-should-retry" not in refused.headers  # it may pass later, so that clients decide
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert float(refused.headers["x-ratelimit-reset-requests"].removesuffix("s")) >= float(told[1])
    assert len(bench.triton.calls) == 3
    assert bench.totals()["refused"]["requests"] == 1
    async with bench.http.get(f"{bench.url}/metrics") as response:
        assert (
            f'berth_gateway_rate_limited_total{{owner="{owner}",unit="requests"}} 1.0'
            in await response.text()
        )


@pytest.mark.parametrize("owner", OWNERS)
async def test_tokens_are_held_by_their_most_and_given_back(bench: Bench, owner: str) -> None:
    await limit(bench, owner, tokens_per_minute=20)
    # Of the engine's own count two tokens came in and three went out: fifteen were held.
    bench.triton.behaviour = Behaviour(tokens=3)

    passed = [await ask(bench) for _ in range(2)]
    refused = await ask(bench)

    assert [each.status for each in passed] == [200, 200]
    assert [each.headers["x-ratelimit-remaining-tokens"] for each in passed] == ["5", "0"]
    assert refused.status == 429
    assert refused.error["message"].startswith(
        f"Rate limit reached: {owner} '{OWNERS[owner]}' may use 20 tokens per minute, and this request may use"
        f" {HELD}. There is room again in "
    )
    assert refused.headers["x-ratelimit-remaining-tokens"] == "10"
    small = await ask(bench, {**PROMPT, "prompt": "one", "max_tokens": 4})
    assert small.status == 200


async def test_what_no_minute_has_room_for_says_so_and_is_not_tried_again(bench: Bench) -> None:
    await limit(bench, "project", tokens_per_minute=HELD - 1, requests_per_minute=2)

    with pytest.raises(openai.RateLimitError) as caught:
        await bench.openai().with_options(max_retries=2).completions.create(**PROMPT)

    assert "project 'Web site' may use 14 tokens per minute" in caught.value.message
    assert f"may use {HELD} tokens" in caught.value.message
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert bench.totals()["refused"]["requests"] == 1
    # Nothing was counted for it, in requests neither.
    answer = await ask(bench, {**PROMPT, "max_tokens": 4})
    assert (answer.status, answer.headers["x-ratelimit-remaining-requests"]) == (200, "1")


async def test_streams_and_failures_carry_the_headers_too(bench: Bench) -> None:
    await limit(bench, "key", requests_per_minute=9, tokens_per_minute=100)

    async with bench.post("/v1/completions", {**PROMPT, "stream": True}) as response:
        await response.read()
    bench.triton.behaviour = Behaviour(error="broken", status=500)
    failed = await ask(bench)
    bench.triton.behaviour = Behaviour(tokens=1)
    after = await ask(bench)

    assert response.headers["x-ratelimit-remaining-requests"] == "8"
    assert response.headers["x-ratelimit-remaining-tokens"] == "85"
    assert failed.status >= 500
    assert failed.headers["x-ratelimit-remaining-requests"] == "7"
    # The stream used 2 + 5 tokens, the failure none: 100 - 7 - 15.
    assert after.headers["x-ratelimit-remaining-tokens"] == "78"


async def test_what_is_withdrawn_was_never_there() -> None:
    rates = RateLimits(requests_per_minute=1, tokens_per_minute=10)
    endpoint = World().endpoint("http://nowhere", rates=rates)
    demand = Demand(
        key=key(KEY, "k1", rates=rates),
        endpoint=endpoint,
        slo_class=World().classes()[0],
        prompt="",
        input_tokens=4,
        exact=True,
        max_tokens=6,
    )
    gate = RateGate()

    (await gate.enter(demand)).withdraw()
    permit = await gate.enter(demand)
    with pytest.raises(ApiError):
        await gate.enter(demand)

    assert permit.headers["x-ratelimit-remaining-tokens"] == "0"
    permit.withdraw()
    assert (await gate.enter(demand)).headers["x-ratelimit-remaining-requests"] == "0"


async def test_the_tightest_limit_is_shown(bench: Bench) -> None:
    first, *others = World().keys
    bench.world.keys = (msgspec.structs.replace(first, rates=RateLimits(requests_per_minute=7)), *others)
    bench.publish(rates=RateLimits(requests_per_minute=5, tokens_per_minute=1_000))
    await bench.settled()

    answer = await ask(bench)

    assert answer.headers["x-ratelimit-limit-requests"] == "5"
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"


async def test_keys_of_one_tenant_share_its_limit_and_others_have_none(bench: Bench) -> None:
    await limit(bench, "tenant", requests_per_minute=1)
    bench.world.keys = (*bench.world.keys[:1], key(OTHER_PROJECT_KEY, "k2"), *bench.world.keys[2:])
    bench.publish()
    await bench.settled()

    statuses = [(await ask(bench)).status, (await ask(bench, key=OTHER_PROJECT_KEY)).status]

    assert statuses == [200, 429]


async def test_no_limit_no_header(bench: Bench) -> None:
    answer = await ask(bench)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.lower().startswith("x-ratelimit")]


async def test_a_lower_limit_holds_at_once_for_what_was_counted(bench: Bench) -> None:
    await limit(bench, "key", requests_per_minute=10)
    for _ in range(3):
        assert (await ask(bench)).status == 200
    await limit(bench, "key", requests_per_minute=3)
    assert (await ask(bench)).status == 429
    await limit(bench, "key", requests_per_minute=4)
    assert (await ask(bench)).status == 200


async def test_one_of_several_gateways_keeps_to_its_share_and_says_so(bench: Bench) -> None:
    bench.world.more = {"gateways": 3, "gateways_here": 3}
    bench.publish(rates=RateLimits(requests_per_minute=7, tokens_per_minute=44))
    await bench.settled()

    passed = [await ask(bench, {**PROMPT, "prompt": "a", "max_tokens": 1}) for _ in range(2)]
    refused = await ask(bench, {**PROMPT, "prompt": "a", "max_tokens": 1})
    large = await ask(bench)

    assert [each.status for each in passed] == [200, 200]
    assert passed[0].headers["x-ratelimit-limit-requests"] == "2"
    assert "may use 7 requests per minute (2 of them here)" in refused.error["message"]
    assert "may use 44 tokens per minute (14 of them here)" in large.error["message"]
    assert large.headers["x-should-retry"] == "false"


async def test_browsers_may_read_the_headers(bench: Bench) -> None:
    headers = {"origin": "https://portal.example", "authorization": f"Bearer {KEY}"}
    async with bench.http.get(f"{bench.url}/v1/models", headers=headers) as response:
        exposed = response.headers["access-control-expose-headers"]
    assert "x-ratelimit-remaining-tokens" in exposed
    assert "x-berth-budget-alert" in exposed
    assert "retry-after-ms" in exposed


async def test_readiness_and_metrics_say_how_limits_are_counted(bench: Bench) -> None:
    async with bench.http.get(f"{bench.url}/readyz") as response:
        assert (await response.json())["limits"] == "local"
    async with bench.http.get(f"{bench.url}/metrics") as response:
        assert "berth_gateway_limits_shared 0.0" in await response.text()
