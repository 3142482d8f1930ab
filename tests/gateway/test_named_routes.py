"""Named routes: one model name, several endpoints, by class, prompt length, key or header."""

from __future__ import annotations

import collections
import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import NamedRoute, OnOverload, RouteRule, RouteTarget
from gateway.directory import BadSnapshot, read_snapshot
from gateway.routing.named import draw_target, match
from gateway.usage_log import summarize
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench
from tests.gateway.farm import Farm, farm
from tests.gateway.world import CREATED, KEY, OTHER_PROJECT_KEY, World, key

LARGE = RouteTarget(endpoint_id="large")
SMALL = RouteTarget(endpoint_id="small")


def named_route(*rules: RouteRule, **changes: Any) -> NamedRoute:
    route = NamedRoute(
        route_id="nr1", tenant_id="t1", project_id="p1", name="assistant", created_at=CREATED, rules=rules
    )
    return msgspec.structs.replace(route, **changes)


def matched(rule: RouteRule, **request: Any) -> bool:
    asked = {"slo_class": "interactive", "input_tokens": 50, "key_ids": ("k1",), "headers": {}, **request}
    return match(named_route(rule), **asked) is rule


@pytest.mark.parametrize(
    ("rule", "request_", "matches"),
    [
        ({}, {}, True),
        ({"slo_class": "batch"}, {}, False),
        ({"slo_class": "interactive"}, {}, True),
        ({"min_input_tokens": 50}, {}, True),
        ({"min_input_tokens": 51}, {}, False),
        ({"max_input_tokens": 50}, {}, True),
        ({"max_input_tokens": 49}, {}, False),
        ({"max_input_tokens": 0}, {"input_tokens": 0}, True),
        ({"key_ids": ("k1", "k2")}, {}, True),
        ({"key_ids": ("k2",)}, {}, False),
        ({"header": "x-tier", "header_value": "gold"}, {"headers": {"x-tier": "gold"}}, True),
        ({"header": "x-tier", "header_value": "gold"}, {"headers": {"x-tier": "Gold"}}, False),
        ({"header": "x-tier", "header_value": "gold"}, {}, False),
        ({"header": "x-tier", "header_value": ""}, {}, False),
        ({"slo_class": "interactive", "key_ids": ("k2",)}, {}, False),
    ],
)
def test_a_rule_matches_when_all_that_it_says_does(
    rule: dict[str, Any], request_: dict[str, Any], matches: bool
) -> None:
    assert matched(RouteRule(targets=(LARGE,), **rule), **request_) is matches


@given(
    lengths=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5), tokens=st.integers(0, 20)
)
def test_the_first_rule_that_matches_wins(lengths: list[tuple[int, int]], tokens: int) -> None:
    rules = [
        RouteRule(targets=(LARGE,), min_input_tokens=low, max_input_tokens=high) for low, high in lengths
    ]

    found = match(
        named_route(*rules), slo_class="interactive", input_tokens=tokens, key_ids=["k1"], headers={}
    )

    fitting = [i for i, (low, high) in enumerate(lengths) if low <= tokens <= high]
    assert found is (rules[fitting[0]] if fitting else None)


def test_targets_are_drawn_by_weight_and_sessions_keep_theirs() -> None:
    targets = (RouteTarget(endpoint_id="large", weight=1), RouteTarget(endpoint_id="small", weight=3))
    rng = random.Random(5)

    drawn = collections.Counter(
        target.endpoint_id for _ in range(1_000) if (target := draw_target(targets, session="", rng=rng))
    )

    assert 180 < drawn["large"] < 320
    assert len({draw_target(targets, session="s", rng=rng) for _ in range(20)}) == 1
    assert draw_target((RouteTarget(endpoint_id="off", weight=0),), session="", rng=rng) is None


async def lay(engines: Farm, *rules: RouteRule, large: dict[str, Any] | None = None, **small: Any) -> None:
    """Publish endpoints large and small with the named route of ``rules``."""
    world = engines.bench.world
    world.others = (
        engines.endpoint("large", engines.replica("l"), **(large or {})),
        engines.endpoint("small", engines.replica("s"), **small),
    )
    world.more["named_routes"] = (named_route(*rules),)
    await engines.publish()


LONG = "word " * 8  # 40 bytes
SHORT = "word"


@pytest.mark.parametrize(
    ("rules", "prompt", "headers", "served"),
    [
        ((RouteRule(targets=(SMALL,)),), LONG, {}, "small"),
        (
            (RouteRule(targets=(LARGE,), min_input_tokens=20), RouteRule(targets=(SMALL,))), LONG, {}, "large",
        ),
        (
            (RouteRule(targets=(LARGE,), min_input_tokens=20), RouteRule(targets=(SMALL,))), SHORT, {}, "small",
        ),
        (
            (RouteRule(targets=(SMALL,), max_input_tokens=20), RouteRule(targets=(LARGE,))), LONG, {}, "large",
        ),
        ((RouteRule(targets=(LARGE,), key_ids=("k1",)), RouteRule(targets=(SMALL,))), SHORT, {}, "large"),
        ((RouteRule(targets=(LARGE,), key_ids=("k2",)), RouteRule(targets=(SMALL,))), SHORT, {}, "small"),
        (
            (
                RouteRule(targets=(LARGE,), header="x-tier", header_value="gold"),
                RouteRule(targets=(SMALL,)),
            ),
            SHORT, {"X-Tier": "gold"}, "large",
        ),
        (
            (
                RouteRule(targets=(LARGE,), header="x-tier", header_value="gold"),
                RouteRule(targets=(SMALL,)),
            ),
            SHORT, {"X-Tier": "tin"}, "small",
        ),
        ((RouteRule(targets=(LARGE,), slo_class="interactive"), RouteRule(targets=(SMALL,))), SHORT, {}, "large"),
        ((RouteRule(targets=(LARGE,), slo_class="batch"), RouteRule(targets=(SMALL,))), SHORT, {}, "small"),
    ],
)  # fmt: skip
async def test_each_kind_of_rule(
    bench: Bench, rules: tuple[RouteRule, ...], prompt: str, headers: dict[str, str], served: str
) -> None:
    async with farm(bench, "l", "s") as engines:
        await lay(engines, *rules)

        answer = await engines.ask(prompt, model="assistant", headers=headers)

        assert answer.status == 200
        assert answer.document["model"] == "assistant"
        assert answer.headers["x-berth-endpoint"] == served
        assert engines.calls() == {"l": served == "large", "s": served == "small"}


async def test_a_class_of_the_key_is_the_class_that_rules_see(idle: Bench) -> None:
    idle.world.keys = (key(KEY, "k1", slo_class="batch"),)
    await idle.ready()
    async with farm(idle, "l", "s") as engines:
        await lay(engines, RouteRule(targets=(SMALL,), slo_class="batch"), RouteRule(targets=(LARGE,)))

        assert (await engines.ask(SHORT, model="assistant")).headers["x-berth-endpoint"] == "small"


async def test_streams_name_the_route_and_records_both(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        await lay(engines, RouteRule(targets=(SMALL,)))

        chat = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with bench.post("/v1/chat/completions", chat) as response:
            body = await response.text()
            assert response.headers["x-berth-endpoint"] == "small"

        assert json.loads(body.split("\n\n")[0].removeprefix("data: "))["model"] == "assistant"
        lines = [
            json.loads(line)
            for file in (bench.folder / "log").glob("*.jsonl")
            for line in file.read_text().splitlines()
        ]
        assert [(line["route_id"], line["endpoint_id"]) for line in lines] == [("nr1", "small")]
        assert summarize(bench.folder)["by_outcome"]["completed"]["requests"] == 1


async def test_sessions_stay_with_their_target(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        await lay(engines, RouteRule(targets=(LARGE, SMALL)))

        for session in ("a", "b", "c", "d", "e", "f"):
            headers = {"x-berth-session": session}
            answers = [await engines.ask(SHORT, model="assistant", headers=headers) for _ in range(3)]
            assert len({answer.headers["x-berth-endpoint"] for answer in answers}) == 1
        assert all(engines.calls().values())


async def test_each_target_keeps_its_own_residency(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        await lay(
            engines,
            RouteRule(targets=(LARGE,), min_input_tokens=20),
            RouteRule(targets=(SMALL,)),
            large={"residency": "zone:US"},
        )

        refused = await engines.ask(LONG, model="assistant")

        assert (refused.status, refused.code) == (503, "endpoint_not_ready")
        assert "served here" in refused.message
        assert (await engines.ask(SHORT, model="assistant")).status == 200
        assert engines.calls() == {"l": 0, "s": 1}


async def test_a_request_that_no_rule_takes_is_told_so(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        await lay(engines, RouteRule(targets=(LARGE,), min_input_tokens=1_000))

        answer = await engines.ask(SHORT, model="assistant")

        assert (answer.status, answer.code) == (400, "no_matching_rule")
        assert "assistant" in answer.message


async def test_targets_that_the_key_may_not_call_are_left_out(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        await lay(
            engines,
            RouteRule(targets=(LARGE, SMALL), min_input_tokens=20),
            RouteRule(targets=(LARGE, RouteTarget(endpoint_id="in another region"))),
            large={"project_id": "p2"},
        )

        for _ in range(6):
            assert (await engines.ask(LONG, model="assistant")).headers["x-berth-endpoint"] == "small"
        refused = await engines.ask(SHORT, model="assistant")

        assert (refused.status, refused.code) == (503, "endpoint_not_ready")
        assert engines.calls()["l"] == 0


async def test_shared_endpoints_are_called_by_everyone_and_may_be_targets(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        shared = {"tenant_id": "t9", "project_id": "p99", "shared": True}
        await lay(engines, RouteRule(targets=(LARGE,)), large=shared)

        answers = [await engines.ask(SHORT, model=name) for name in ("assistant", "large")]

        assert [answer.status for answer in answers] == [200, 200]
        async with bench.post(
            "/v1/completions", {"model": "large", "prompt": "x"}, key=OTHER_PROJECT_KEY
        ) as it:
            assert it.status == 200


async def test_models_lists_named_routes_of_the_keys_project(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        await lay(engines, RouteRule(targets=(SMALL, LARGE)), large={"context_tokens": 4_096})
        headers = {"authorization": f"Bearer {KEY}"}
        other = {"authorization": f"Bearer {OTHER_PROJECT_KEY}"}

        async with bench.http.get(f"{bench.url}/v1/models", headers=headers) as response:
            models = {model["id"]: model for model in (await response.json())["data"]}
        async with bench.http.get(f"{bench.url}/v1/models/assistant", headers=headers) as response:
            one = await response.json()
        async with bench.http.get(f"{bench.url}/v1/models/assistant", headers=other) as response:
            assert response.status == 404

        assert set(models) == {"docs", "large", "small", "assistant"}
        assert models["assistant"] == one
        assert one["max_model_len"] == 4_096


async def test_a_target_without_room_falls_back_within_the_targets_residency(bench: Bench) -> None:
    async with farm(bench, "l", "s") as engines:
        bench.world.more["classes"] = bench.world.classes(on_overload=OnOverload.FALLBACK)
        await lay(engines, RouteRule(targets=(LARGE,)), large={"fallbacks": ("small",)})
        engines.engines["l"].behaviour = Behaviour(status=503, error="full")

        answer = await engines.ask(SHORT, model="assistant")

        assert answer.status == 200
        assert answer.document["model"] == "assistant"
        assert answer.headers["x-berth-fallback"] == "small"


def other_tenants() -> World:
    return World(more={"named_routes": (named_route(RouteRule(targets=(RouteTarget(endpoint_id="e2"),))),)})


def namesake() -> World:
    return World(more={"named_routes": (named_route(RouteRule(targets=()), name="docs"),)})


def negative() -> World:
    target = RouteTarget(endpoint_id="e1", weight=-1)
    return World(more={"named_routes": (named_route(RouteRule(targets=(target,))),)})


@pytest.mark.parametrize(
    ("world", "reason"),
    [(other_tenants, "another tenant"), (namesake, "two things named 'docs'"), (negative, "negative weight")],
)
def test_a_snapshot_that_contradicts_itself_is_refused(world: Any, reason: str) -> None:
    content = msgspec.json.encode(world().snapshot("http://engine"))

    with pytest.raises(BadSnapshot, match=reason):
        read_snapshot(content, gateway="gw-1", region="eu-de-1")
