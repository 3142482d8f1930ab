"""What an engine knows is passed on to it, what it does not is refused by its name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest

from gateway.contract import SloClass
from tests.fakes.triton import FakeTriton
from tests.fakes.trtllm_serve import Behaviour, FakeTrtllmServe
from tests.gateway.conftest import Bench
from tests.gateway.engines import ALL, route, serve_replica, serving
from tests.gateway.world import OTHER_TENANT_KEY, replica

USER = {"role": "user", "content": "hello there"}
CHAT: dict[str, Any] = {"model": "docs", "messages": [USER]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
PARTS: list[dict[str, Any]] = [
    {"index": 0, "id": "call-a", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "type": "function", "function": {"arguments": '{"city":'}},
    {"index": 0, "type": "function", "function": {"arguments": '"Bonn"}'}},
]


@pytest.fixture
async def engine(bench: Bench) -> AsyncIterator[FakeTrtllmServe]:
    async with serving(bench) as engine:
        yield engine


async def post(
    bench: Bench, path: str = "/v1/chat/completions", **body: object
) -> tuple[int, dict[str, Any]]:
    async with bench.post(path, body) as response:
        return response.status, await response.json()


async def test_tools_go_to_the_engines_own_chat(bench: Bench, engine: FakeTrtllmServe) -> None:
    engine.behaviour = Behaviour(tokens=3, tool_calls=PARTS, finish_reason="tool_calls", cached=1)

    answer = await bench.openai().chat.completions.create(
        **CHAT, tools=[TOOL], temperature=0.5, seed=3, stop=["END"], max_tokens=9, parallel_tool_calls=False
    )

    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert (call.id, call.type, call.function.name) == ("call-a", "function", "weather")  # type: ignore[union-attr]
    assert call.function.arguments == '{"city":"Bonn"}'  # type: ignore[union-attr]
    (received,) = engine.calls
    assert received.path == "/v1/chat/completions"
    assert received.payload["cache_salt"]
    del received.payload["cache_salt"]
    assert received.payload == {
        "model": "llama", "messages": [USER], "tools": [TOOL], "tool_choice": "auto",
        "parallel_tool_calls": False, "max_tokens": 9, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "temperature": 0.5, "seed": 3, "stop": ["END"], "priority": 1.0,
    }  # fmt: skip
    assert bench.totals()["completed"] == {
        "requests": 1, "input_tokens": 3, "output_tokens": 3, "cached_tokens": 1,
    }  # fmt: skip


async def test_streamed_tool_calls_have_one_name_and_an_id_each(
    bench: Bench, engine: FakeTrtllmServe
) -> None:
    # As the engine streams a call that was asked for by name: no id, and the name with every part.
    function = [{"name": "weather", "arguments": piece} for piece in ('{"city"', ':"Bonn"', "}")]
    engine.behaviour = Behaviour(tokens=3, tool_calls=[{"index": 0, "function": part} for part in function])

    stream = await bench.openai().chat.completions.create(
        **CHAT,  # type: ignore[call-overload]
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    parts = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert [part.function.name for part in parts] == ["weather", None, None]
    assert "".join(part.function.arguments for part in parts) == '{"city":"Bonn"}'
    assert parts[0].id.startswith("call_")
    assert [part.id for part in parts[1:]] == [None, None]
    assert chunks[-1].usage.completion_tokens == 3
    assert engine.calls[0].payload["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


async def test_a_conversation_with_tools_is_rendered_by_the_engine(
    bench: Bench, engine: FakeTrtllmServe
) -> None:
    call = {"id": "call-a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call-a", "content": "rain"},
    ]

    status, document = await post(bench, model="docs", messages=messages)

    assert status == 200, document
    assert engine.calls[0].payload["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "call-a"},
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "user", "content": "x", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]},
         "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
         "messages[1].tool_calls[0].function.arguments"),
        ({"role": "tool", "tool_call_id": "1"}, "messages[1].content"),
    ],
)  # fmt: skip
async def test_messages_of_tools_that_are_incomplete(
    bench: Bench, engine: FakeTrtllmServe, message: dict[str, Any], param: str
) -> None:
    status, document = await post(bench, model="docs", messages=[USER, message])

    assert (status, document["error"]["param"]) == (400, param)
    assert engine.calls == []


async def test_no_tools_for_a_model_that_may_call_none(bench: Bench, engine: FakeTrtllmServe) -> None:
    status, _ = await post(bench, **CHAT, tools=[TOOL], tool_choice="none")

    assert status == 200
    assert engine.calls[0].path == "/v1/completions"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
         {"type": "json", "schema": SCHEMA}),
    ],
)  # fmt: skip
async def test_formats_are_held_by_the_engine_to_a_prompt_rendered_here(
    bench: Bench, engine: FakeTrtllmServe, asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    status, _ = await post(bench, **CHAT, response_format=asked)

    assert status == 200
    assert engine.calls[0].path == "/v1/completions"
    assert engine.calls[0].payload["prompt"] == "<user> hello there\n<assistant>"
    assert engine.calls[0].payload["response_format"] == sent


@pytest.mark.parametrize("stream", [False, True])
async def test_probabilities_of_a_chat(bench: Bench, engine: FakeTrtllmServe, stream: bool) -> None:
    async with bench.post(
        "/v1/chat/completions",
        {**CHAT, "logprobs": True, "top_logprobs": 2, "max_tokens": 2, "stream": stream},
    ) as response:
        body = (await response.read()).decode()

    if stream:
        events = [json.loads(line[6:]) for line in body.split("\n\n") if line.startswith("data: {")]
        logprobs = [
            token
            for event in events
            for c in event["choices"]
            for token in (c["logprobs"] or {}).get("content", ())
        ]
    else:
        logprobs = json.loads(body)["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in logprobs] == ["w0 ", "w1 "]
    assert logprobs[0]["top_logprobs"][0]["logprob"] == -0.5
    assert engine.calls[0].path == "/v1/chat/completions"
    assert (engine.calls[0].payload["logprobs"], engine.calls[0].payload["top_logprobs"]) == (True, 2)


async def test_probabilities_of_a_completion(bench: Bench, engine: FakeTrtllmServe) -> None:
    answer = await bench.openai().completions.create(
        model="docs", prompt="a b", logprobs=0, max_tokens=2, logit_bias={"17": -100}
    )

    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == ["w0 ", "w1 "]
    assert answer.choices[0].logprobs.token_logprobs == [-0.5, -0.5]
    assert engine.calls[0].path == "/v1/completions"
    assert engine.calls[0].payload["logprobs"] == 1
    assert engine.calls[0].payload["logit_bias"] == {"17": -100.0}


@pytest.mark.parametrize(
    ("lacking", "path", "body", "param"),
    [
        ("tools", "/v1/chat/completions", {**CHAT, "tools": [TOOL]}, "tools"),
        ("chat", "/v1/chat/completions", {**CHAT, "tools": [TOOL]}, "tools"),
        ("parallel_tool_calls", "/v1/chat/completions", {**CHAT, "tools": [TOOL], "parallel_tool_calls": False},
         "parallel_tool_calls"),
        ("response_format", "/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}},
         "response_format"),
        ("logprobs", "/v1/chat/completions", {**CHAT, "logprobs": True}, "logprobs"),
        ("chat", "/v1/chat/completions", {**CHAT, "logprobs": True}, "logprobs"),
        ("logprobs", "/v1/completions", {"model": "docs", "prompt": "a", "logprobs": 2}, "logprobs"),
        ("logit_bias", "/v1/completions", {"model": "docs", "prompt": "a", "logit_bias": {"1": 2}}, "logit_bias"),
        ("embeddings", "/v1/embeddings", {"model": "docs", "input": "a"}, "model"),
        ("dimensions", "/v1/embeddings", {"model": "docs", "input": "a", "dimensions": 2}, "dimensions"),
    ],
)  # fmt: skip
async def test_what_the_engine_does_not_know_is_refused_by_its_name(
    bench: Bench, lacking: str, path: str, body: dict[str, Any], param: str
) -> None:
    async with serving(bench, features=tuple(word for word in ALL if word != lacking)) as engine:
        status, document = await post(bench, path, **body)

    error = document["error"]
    assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert error["message"] == (
        f"{param} is not supported by trtllm-serve (OpenAI HTTP), the engine of endpoint docs; leave it out."
    )
    assert engine.calls == []
    assert bench.totals()["refused"]["requests"] == 1


async def test_only_replicas_that_know_it_are_asked(bench: Bench) -> None:
    async with FakeTrtllmServe() as old, FakeTrtllmServe() as new, FakeTriton() as triton:
        bench.publish(
            routes=route(
                serve_replica(old.url, features=("chat",), replica_id="old"),
                serve_replica(new.url, replica_id="new"),
                replica(triton.url, replica_id="triton"),
            )
        )
        await bench.settled()

        statuses = [(await post(bench, **CHAT, tools=[TOOL]))[0] for _ in range(8)]

    assert statuses == [200] * 8
    assert (len(old.calls), len(new.calls), len(triton.calls)) == (0, 8, 0)


async def test_what_only_the_engine_can_judge_is_the_clients_error(
    bench: Bench, engine: FakeTrtllmServe
) -> None:
    engine.behaviour = Behaviour(status=400, error="secret schema text")

    with pytest.raises(openai.BadRequestError) as caught:
        await bench.openai().chat.completions.create(**CHAT, tools=[TOOL])

    assert caught.value.code == "engine_refused_request"
    assert "secret" not in str(caught.value)
    assert len(engine.calls) == 1
    assert bench.totals()["refused"]["requests"] == 1


async def test_salt_and_priority_come_from_the_key(bench: Bench) -> None:
    async with FakeTrtllmServe() as engine:
        theirs = bench.world.endpoint(
            engine.url, endpoint_id="e2", tenant_id="t2", project_id="p9", name="theirs", slo_class="standard",
            routes=route(serve_replica(engine.url)),
        )  # fmt: skip
        mine = bench.world.endpoint(engine.url, routes=route(serve_replica(engine.url)))
        snapshot = bench.world.snapshot(engine.url)
        bench.control.publish(
            type(snapshot).build(
                gateway="gw-1", region="eu-de-1", zones=("EU",), keys=snapshot.keys, endpoints=(mine, theirs),
                classes=(*(c for c in snapshot.classes if c.name != "standard"), SloClass(name="standard", priority=2)),
            )
        )  # fmt: skip
        await bench.settled()
        spoof = {"x-tenant-id": "t9", "x-priority": "0", "x-berth-tenant": "t9", "cache_salt": "mine"}
        for _ in range(2):
            await bench.openai().chat.completions.create(**CHAT, tools=[TOOL], user="t9", extra_headers=spoof)
        await bench.openai(OTHER_TENANT_KEY).chat.completions.create(
            **{**CHAT, "model": "theirs"}, tools=[TOOL]
        )
        await bench.openai().chat.completions.create(**CHAT)

    first, second, other, plain = engine.calls
    salts = [call.payload["cache_salt"] for call in (first, second, other)]
    assert salts[0] == salts[1] != salts[2]
    assert all(len(salt) == 32 and "t1" not in salt for salt in salts)
    assert [call.payload["priority"] for call in (first, second, other)] == [1.0, 1.0, 0.5]
    # The engine's completions know no salt.
    assert "cache_salt" not in plain.payload
    for call in engine.calls:
        assert set(call.headers) == {"Host", "Content-Type", "Accept", "Content-Length"}
        assert "user" not in call.payload
        assert "t9" not in json.dumps(call.payload)


async def test_a_triton_that_knows_salts_gets_one(bench: Bench) -> None:
    knowing = msgspec.structs.replace(replica(bench.triton.url), features=("cache_salt",))
    bench.publish(routes=route(knowing))
    await bench.settled()

    await bench.openai().chat.completions.create(**CHAT)

    assert len(bench.triton.calls[0].payload["cache_salt"]) == 32
