"""Embeddings: asked of engines that know them, counted as input alone, through the same seam."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import openai
import pytest

from gateway.contract import Timeouts
from tests.fakes.trtllm_serve import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.engines import serving

BODY: dict[str, Any] = {"model": "docs", "input": ["one two", "three"]}
QUICK = Timeouts(connect_s=0.5, first_token_s=0.3, between_tokens_s=0.3, total_s=5.0, attempts=2)


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_vectors_in_the_order_of_their_texts(bench: Bench, encoding: Any) -> None:
    async with serving(bench) as engine:
        answer = await bench.openai().embeddings.create(**BODY, encoding_format=encoding, user="u")

    vectors = [row.embedding for row in answer.data]
    if encoding == "float":
        assert vectors == [[7.0, 7.0, 7.0], [5.0, 5.0, 5.0]]
    else:
        assert vectors == ["AADgQAAA4EAAAOBA", "AACgQAAAoEAAAKBA"]
    assert [row.index for row in answer.data] == [0, 1]
    assert (answer.model, answer.object) == ("docs", "list")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)
    (call,) = engine.calls
    assert call.path == "/v1/embeddings"
    assert call.payload == {"model": "llama", "input": ["one two", "three"], "encoding_format": encoding}
    assert bench.totals() == {
        "completed": {"requests": 1, "input_tokens": 3, "output_tokens": 0, "cached_tokens": 0}
    }


async def test_the_official_client_unpacks_what_it_asks_for(bench: Bench) -> None:
    async with serving(bench) as engine:
        answer = await bench.openai().embeddings.create(model="docs", input="abc", dimensions=2)

    assert answer.data[0].embedding == [3.0, 3.0]
    assert engine.calls[0].payload["dimensions"] == 2
    assert engine.calls[0].payload["encoding_format"] == "base64"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"input": []}, "input", None),
        ({"input": ["a"] * 2049}, "input", None),
        ({"input": [1, 2, 3]}, "input", "unsupported_value"),
        ({"input": [[1, 2], [3]]}, "input[0]", "invalid_type"),
        ({"input": ["a", ""]}, "input", None),
        ({"input": ""}, "input", None),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_type"),
        ({"dimensions": 0}, "dimensions", None),
        ({"add_special_tokens": True}, "add_special_tokens", "unknown_parameter"),
        ({"model": ""}, "model", None),
    ],
)
async def test_bodies_that_are_wrong(
    bench: Bench, change: dict[str, Any], param: str, code: str | None
) -> None:
    async with serving(bench) as engine, bench.post("/v1/embeddings", {**BODY, **change}) as response:
        error = (await response.json())["error"]

    assert (response.status, error["param"], error["code"]) == (400, param, code)
    assert engine.calls == []
    assert bench.totals()["refused"]["requests"] == 1


async def test_a_model_that_embeds_nothing(bench: Bench) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await bench.openai().embeddings.create(**BODY)

    assert caught.value.code == "unsupported_parameter"
    assert "Triton (generate)" in str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "status", "code", "attempts"),
    [
        (Behaviour(status=500, error="secret"), 502, "engine_error", 2),
        (Behaviour(status=400, error="secret"), 400, "engine_refused_request", 1),
        (Behaviour(status=400, error="longer than max_seq_len"), 400, "context_length_exceeded", 1),
        (Behaviour(end_after=0), 502, "engine_error", 2),
        (Behaviour(hang_after=0), 504, "engine_timeout", 2),
    ],
)
async def test_engines_that_fail(
    bench: Bench, behaviour: Behaviour, status: int, code: str, attempts: int
) -> None:
    async with serving(bench, timeouts=QUICK) as engine:
        engine.behaviour = behaviour
        async with bench.post("/v1/embeddings", BODY) as response:
            error = (await response.json())["error"]

    assert (response.status, error["code"]) == (status, code)
    assert "secret" not in error["message"]
    assert len(engine.calls) == attempts


async def test_leaving_lets_the_engine_go(bench: Bench) -> None:
    async with serving(bench) as engine:
        engine.behaviour = Behaviour(hang_after=0)
        task = asyncio.create_task(bench.http_status("/v1/embeddings", BODY))
        await eventually(lambda: bool(engine.calls))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

        await eventually(lambda: engine.calls[0].left_at is not None)
        await eventually(lambda: bench.totals().get("cancelled", {}).get("requests") == 1)
