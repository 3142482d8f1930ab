"""The generating doors and the model list, through raw HTTP and the official client."""

from __future__ import annotations

import json

import openai
import pytest

from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench
from tests.gateway.world import OTHER_TENANT_KEY, World, replica

CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


async def test_models_are_those_of_the_keys_own_project(bench: Bench) -> None:
    mine = await bench.openai().models.list()
    theirs = await bench.openai(OTHER_TENANT_KEY).models.list()

    assert [model.id for model in mine.data] == ["docs"]
    assert [model.id for model in theirs.data] == ["theirs"]
    assert (await bench.openai().models.retrieve("docs")).created == 1767323045


async def test_another_tenants_model_reads_like_a_missing_one(bench: Bench) -> None:
    messages = []
    for name in ("theirs", "absent"):
        with pytest.raises(openai.NotFoundError) as caught:
            await bench.openai().models.retrieve(name)
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError) as caught:
            await bench.openai().chat.completions.create(
                model=name, messages=[{"role": "user", "content": "x"}]
            )
        messages.append(caught.value.body["message"].replace(name, "NAME"))  # type: ignore[index]

    assert messages[0] == messages[1]


async def test_chat_whole(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(tokens=3, cached=2)

    answer = await bench.openai().chat.completions.create(
        model="docs",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        temperature=0.5,
        top_p=0.9,
        seed=-1,
        stop=["END", "FIN"],
        max_completion_tokens=7,
        frequency_penalty=0.25,
        user="u",
        metadata={"a": "b"},
        store=False,
    )

    assert answer.choices[0].message.content == "w0 w1 w2 "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.model == "docs"
    assert answer.id.startswith("chatcmpl-")
    call = bench.triton.calls[0]
    assert call.model == "front"
    assert call.payload == {
        "text_input": "<system> be brief\n<user> a\nb\n<assistant>",
        "max_tokens": 7,
        "stream": True,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 2**64 - 1,
        "frequency_penalty": 0.25,
        "stop_words": ["END", "FIN"],
    }


async def test_chat_streamed(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(tokens=40)

    stream = await bench.openai().chat.completions.create(
        **CHAT,  # type: ignore[call-overload]
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=4,
    )
    chunks = [chunk async for chunk in stream]

    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "w0 w1 w2 w3 "
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (4, 4)
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_is_not_sent_unless_asked_for_and_done_ends_the_stream(bench: Bench) -> None:
    async with bench.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
        body = (await response.read()).decode()

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"]
    events = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert all("usage" not in json.loads(event) for event in events[:-1])


async def test_completion_both_ways(bench: Bench) -> None:
    client = bench.openai()

    whole = await client.completions.create(model="docs", prompt=["one two"], max_tokens=2)
    stream = await client.completions.create(model="docs", prompt="one two", stream=True)
    text = "".join([chunk.choices[0].text async for chunk in stream])

    assert whole.choices[0].text == "w0 w1 "
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 4
    assert text == "w0 w1 w2 w3 w4 "
    assert bench.triton.calls[1].payload["max_tokens"] == 32  # the endpoint's output cap


async def test_single_element_lists_and_absent_counts_are_understood(bench: Bench) -> None:
    bench.triton.next_behaviours = [
        Behaviour(tokens=3, lists=True),
        Behaviour(tokens=3, counts=False, finish_reason=None),
    ]
    client = bench.openai()

    listed = await client.completions.create(model="docs", prompt="a b c")
    uncounted = await client.completions.create(model="docs", prompt="a", max_tokens=3)

    assert listed.choices[0].text == "w0 w1 w2 "
    assert listed.usage is not None
    assert (listed.usage.prompt_tokens, listed.usage.completion_tokens) == (3, 3)
    assert uncounted.usage is not None
    assert uncounted.usage.completion_tokens == 3
    assert uncounted.choices[0].finish_reason == "length"


async def test_weights_decide_between_revisions(bench: Bench) -> None:
    world = World()
    routes = world.endpoint(bench.triton.url).routes
    idle = type(routes[0])(revision_id="rev2", weight=0, replicas=(replica("http://127.0.0.1:1"),))
    bench.publish(routes=(*routes, idle))
    await bench.settled()

    answers = [await bench.openai().completions.create(model="docs", prompt="a") for _ in range(5)]

    assert {answer.system_fingerprint for answer in answers} == {"rev1"}


async def test_origins_of_the_snapshot_may_call_from_a_browser(bench: Bench) -> None:
    good = {"origin": "https://portal.example", "access-control-request-headers": "authorization"}
    allowed = await bench.http.options(f"{bench.url}/v1/chat/completions", headers=good)
    refused = await bench.http.options(
        f"{bench.url}/v1/chat/completions", headers={"origin": "https://evil.example"}
    )
    streamed = await bench.http.post(
        f"{bench.url}/v1/chat/completions",
        json={**CHAT, "stream": True},
        headers={"origin": "https://portal.example", "authorization": f"Bearer {OTHER_TENANT_KEY}"},
    )

    assert allowed.status == 204
    assert allowed.headers["access-control-allow-origin"] == "https://portal.example"
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers
    assert streamed.status == 404
    assert streamed.headers["access-control-allow-origin"] == "https://portal.example"


async def test_health_readiness_and_metrics(bench: Bench) -> None:
    await bench.openai().completions.create(model="docs", prompt="a")

    ready = await (await bench.http.get(f"{bench.url}/readyz")).json()
    metrics = await (await bench.http.get(f"{bench.url}/metrics")).text()

    assert (await bench.http.get(f"{bench.url}/healthz")).status == 200
    assert ready["status"] == "ready"
    assert ready["control_plane_contact_age_s"] < 60
    assert (
        'berth_gateway_requests_total{endpoint="e1",outcome="completed",slo_class="interactive"} 1.0'
        in metrics
    )
    assert 'berth_gateway_ttft_seconds_count{endpoint="e1",slo_class="interactive"} 1.0' in metrics
    assert "berth_gateway_in_flight 0.0" in metrics
    assert "berth_gateway_spool_segments" in metrics
