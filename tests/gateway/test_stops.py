"""Stop texts end an answer exactly, wherever pieces begin and end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engines.base import Delta
from gateway.engines.stops import StopCut
from tests.fakes.trtllm_serve import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.engines import serving


class Pieces:
    """An engine's stream of texts, one token each; ``reason`` comes with the last."""

    def __init__(self, texts: Sequence[str], reason: str | None) -> None:
        self._deltas = [Delta(text, 1, 3, 0, None) for text in texts]
        if self._deltas and reason is not None:
            self._deltas[-1] = self._deltas[-1]._replace(finish_reason=reason)
        self.closed = False

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if not self._deltas:
            raise StopAsyncIteration
        return [self._deltas.pop(0)]

    def close(self) -> None:
        self.closed = True


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Say where the stop text begins that is the first to be complete."""
    for end in range(len(text) + 1):
        begun = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begun:
            return min(begun)
    return None


@given(
    texts=st.lists(st.text(alphabet="ab ", max_size=4), min_size=1, max_size=12),
    stops=st.lists(st.text(alphabet="ab ", min_size=1, max_size=4), min_size=1, max_size=4),
    reason=st.sampled_from([None, "stop", "length"]),
)
@settings(max_examples=300, deadline=None)
def test_the_text_ends_before_the_first_stop(texts: list[str], stops: list[str], reason: str | None) -> None:
    whole = "".join(texts)
    stream = Pieces(texts, reason)

    async def read() -> list[Delta]:
        return [delta async for deltas in StopCut(stream, stops, choices=1) for delta in deltas]

    deltas = asyncio.run(read())

    at = first_stop(whole, stops)
    assert "".join(delta.text for delta in deltas) == whole[:at]
    if at is None:
        assert sum(delta.output_tokens for delta in deltas) == len(texts)
    else:
        assert deltas[-1].finish_reason == "stop"
        assert stream.closed


async def post(bench: Bench, **body: Any) -> tuple[str, str]:
    async with bench.post("/v1/completions", {"model": "docs", "prompt": "a b", **body}) as response:
        choice = (await response.json())["choices"][0]
        return choice["text"], choice["finish_reason"]


async def test_an_engine_that_runs_past_a_stop_is_cut_and_let_go(bench: Bench) -> None:
    async with serving(bench) as engine:
        engine.behaviour = Behaviour(words=["one ", "tE", "N", "D two", " three", " four"], delay_s=0.02)

        assert await post(bench, stop=["END", "five"]) == ("one t", "stop")

        await eventually(lambda: engine.calls[0].left_at is not None or engine.calls[0].finished)
        assert bench.totals()["completed"]["output_tokens"] >= 4
        assert bench.totals()["completed"]["output_tokens"] <= engine.calls[0].sent


async def test_what_only_began_like_a_stop_is_given_out(bench: Bench) -> None:
    async with serving(bench) as engine:
        engine.behaviour = Behaviour(words=["one ", "E", "N", "C ", "EN"])

        assert await post(bench, stop="END") == ("one ENC EN", "stop")


async def test_each_of_several_choices_is_cut(bench: Bench) -> None:
    async with serving(bench) as engine:
        engine.behaviour = Behaviour(words=["one ", "END", " two"])

        async with bench.post(
            "/v1/completions", {"model": "docs", "prompt": "a b", "n": 2, "stop": "END"}
        ) as response:
            document = await response.json()

    assert [choice["text"] for choice in document["choices"]] == ["one ", "one "]
    assert [choice["finish_reason"] for choice in document["choices"]] == ["stop", "stop"]


async def test_leaving_while_text_is_held_back_counts_its_tokens(bench: Bench) -> None:
    async with serving(bench) as engine:
        engine.behaviour = Behaviour(words=["one ", "E", "N", "x"], hang_after=3)
        task = asyncio.create_task(
            bench.http_status(
                "/v1/completions", {"model": "docs", "prompt": "a b", "stop": "END", "stream": True}
            )
        )
        await eventually(lambda: bool(engine.calls) and engine.calls[0].sent == 3)
        await asyncio.sleep(0.1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await eventually(lambda: "cancelled" in bench.totals())

    assert bench.totals()["cancelled"]["output_tokens"] == 3
