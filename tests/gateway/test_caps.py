"""Context caps: the smallest of endpoint, key and class counts, and a refusal says whose it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import caps, errors
from gateway.requests import Call, read_completion
from gateway.tokens import Count
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench
from tests.gateway.farm import farm
from tests.gateway.world import KEY, World, key

WORLD = World()
ENDPOINT = WORLD.endpoint("")  # 64 tokens, answers of 32, 16 if nothing is said
INTERACTIVE = WORLD.classes()[0]


def call(max_tokens: int | None = None) -> Call:
    return read_completion(msgspec.json.encode({"model": "docs", "prompt": "x", "max_tokens": max_tokens}))


@pytest.mark.parametrize(
    ("of_key", "of_class", "tokens", "whose"),
    [
        (None, None, 64, "endpoint docs"),
        (100, 100, 64, "endpoint docs"),
        (40, None, 40, "the API key 'key k1'"),
        (40, 50, 40, "the API key 'key k1'"),
        (40, 30, 30, "the class interactive"),
    ],
)
def test_the_smallest_counts(of_key: int | None, of_class: int | None, tokens: int, whose: str) -> None:
    slo_class = msgspec.structs.replace(INTERACTIVE, context_tokens=of_class)

    assert caps.context_cap(ENDPOINT, key(KEY, "k1", context_tokens=of_key), slo_class) == (tokens, whose)


def answer_tokens(max_tokens: int | None, count: Count, cap: int = 64) -> int:
    return caps.answer_tokens(
        call(max_tokens), endpoint=ENDPOINT, cap=caps.Cap(cap, "the class interactive"), count=count
    )


@given(
    prompt=st.integers(0, 100),
    wanted=st.one_of(st.none(), st.integers(1, 32)),
    cap=st.integers(1, 64),
    exact=st.booleans(),
)
def test_an_answer_is_never_longer_than_fits(prompt: int, wanted: int | None, cap: int, exact: bool) -> None:
    count = Count(prompt, exact=exact)
    if exact and prompt + (wanted or 1) > cap:
        with pytest.raises(errors.ApiError, match=f"{cap} that the class interactive allows") as refused:
            answer_tokens(wanted, count, cap)
        assert refused.value.code == "context_length_exceeded"
        return

    tokens = answer_tokens(wanted, count, cap)

    assert 1 <= tokens <= (wanted or 32)
    if exact:
        assert prompt + tokens <= cap
        assert wanted is None or tokens == wanted
    else:
        assert tokens <= max(1, cap - 1)


def test_without_a_wish_the_answer_is_cut_to_fit() -> None:
    assert answer_tokens(None, Count(60, exact=True)) == 4
    assert answer_tokens(None, Count(10, exact=True)) == 32


async def test_the_engine_judges_what_was_not_counted(bench: Bench) -> None:
    async with farm(bench, "a") as engines:
        await engines.publish(routes=(engines.route("rev1", "a"),), max_output_tokens=64)

        assert (await engines.ask("far more than sixty-four bytes " * 4, max_tokens=64)).status == 200

        assert engines.engines["a"].calls[0].payload["max_tokens"] == 63


async def test_a_keys_cap_holds_for_its_answers(idle: Bench) -> None:
    idle.world.keys = (key(KEY, "k1", context_tokens=12),)
    idle.publish()
    await idle.ready()
    idle.triton.behaviour = Behaviour(tokens=60)
    async with farm(idle) as engines:
        answer = await engines.ask("hi", max_tokens=30)

    assert answer.document["usage"]["completion_tokens"] == 11
    assert answer.document["choices"][0]["finish_reason"] == "length"
