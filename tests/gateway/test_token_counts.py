"""Prompts are counted as the engine counts them, once the model's tokenizer is at hand."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from clusters.triton.language_model import CATALOG
from clusters.triton.language_model.artifact import ensure_artifact, tokenizer_file
from clusters.triton.language_model.engine.generation import LanguageModel
from clusters.triton.language_model.engine.sampling import SamplingParams
from gateway.contract import RateLimits, SpecialTokens
from gateway.tokens import TokenCounter
from gateway.tokens.prompts import BadTokenizer, PromptTokenizer
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import World

TOKENIZER = tokenizer_file()
DIGEST = hashlib.sha256(TOKENIZER).hexdigest()
# More tokens than the endpoint's context of 64 leaves room for, in the engine's count that the fake knows 50.
LONG = {"model": "docs", "prompt": "word " * 50, "max_tokens": 20}
FIRST = "<|begin|>"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = ensure_artifact(tmp_path_factory.mktemp("model"))
    assert (folder / "tokenizer.json").read_bytes() == TOKENIZER
    return LanguageModel(folder, context_tokens=100_000, max_output_tokens=64)


@pytest.fixture(scope="module")
def with_beginning() -> bytes:
    """A tokenizer whose model wants a token before each text, as Llama's does."""
    tokenizer = Tokenizer.from_buffer(TOKENIZER)
    tokenizer.add_special_tokens([FIRST])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A", special_tokens=[(FIRST, tokenizer.token_to_id(FIRST))]
    )
    return tokenizer.to_str().encode()


@settings(deadline=None)
@given(st.text(max_size=300))
@example("What is an endpoint?\n\n")
@example("<|endoftext|> is text like any other<|endoftext|>")
@example("\u0000 \ufdfa e\u0301 \U0001f469\u200d\U0001f680")
def test_the_shipped_model_counts_the_same(engine: LanguageModel, text: str) -> None:
    counted = PromptTokenizer(TOKENIZER, special=SpecialTokens.NONE).count(text)

    assert counted == engine.start(text, SamplingParams(max_tokens=1)).prompt_tokens
    assert counted <= len(text.encode()) + 3  # what is taken where no tokenizer is at hand


def test_special_tokens_are_counted_as_the_runtime_adds_them(with_beginning: bytes) -> None:
    def count(special: SpecialTokens, text: str) -> int:
        return PromptTokenizer(with_beginning, special=special).count(text)

    plain = count(SpecialTokens.NONE, "What is it?")
    assert count(SpecialTokens.ONCE, "What is it?") == plain + 1
    assert count(SpecialTokens.ONCE, f"{FIRST}What is it?") == plain + 1
    assert count(SpecialTokens.ALWAYS, f"{FIRST}What is it?") == plain + 2
    assert count(SpecialTokens.NONE, f"{FIRST}What is it?") > plain + 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", TOKENIZER[:-40]])
def test_what_is_no_tokenizer(content: bytes) -> None:
    with pytest.raises(BadTokenizer):
        PromptTokenizer(content, special=SpecialTokens.ONCE)


async def test_a_long_prompt_is_counted_beside_the_loop(bench: Bench) -> None:
    tokenizer = PromptTokenizer(TOKENIZER, special=SpecialTokens.NONE)
    counter = TokenCounter(lambda endpoint: tokenizer)
    text = "How does the planner choose a cluster, and what did it refuse? " * 6_400
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    count = await counter.count(World().endpoint("http://nowhere"), text)
    beside.cancel()
    counter.close()

    assert len(text) > 400_000
    assert count == (tokenizer.count(text), True)
    assert turns > 10


def publish(bench: Bench, digest: str = DIGEST, **changes: Any) -> None:
    bench.publish(tokenizer=digest, special_tokens=SpecialTokens.NONE, **changes)


async def code_of(bench: Bench, body: dict[str, Any] = LONG) -> str | None:
    async with bench.post("/v1/completions", body) as response:
        content = await response.read()
        return None if response.status == 200 else json.loads(content)["error"]["code"]


async def counts_exactly(bench: Bench) -> None:
    async with asyncio.timeout(30):
        while await code_of(bench) != "context_length_exceeded":
            await asyncio.sleep(0.02)


def kept(bench: Bench) -> list[Path]:
    return sorted((bench.folder / "tokenizers").glob("*"))


async def test_a_prompt_that_cannot_fit_is_refused_before_an_engine_is_asked(bench: Bench) -> None:
    assert await code_of(bench) is None  # without a tokenizer only the engine knows

    bench.control.tokenizers[DIGEST] = TOKENIZER
    publish(bench)
    await counts_exactly(bench)

    asked = len(bench.triton.calls)
    tokens = PromptTokenizer(TOKENIZER, special=SpecialTokens.NONE).count(str(LONG["prompt"]))
    async with bench.post("/v1/completions", LONG) as response:
        message = (await response.json())["error"]["message"]
    assert message.startswith(
        f"The prompt has {tokens} tokens and 20 were asked for, together more than the 64"
    )
    assert len(bench.triton.calls) == asked
    assert bench.control.fetched == [DIGEST]
    assert [path.name for path in kept(bench)] == [f"{DIGEST}.json"]
    assert len(bench.control.tokens) == 1  # the gateway's own


async def test_tokens_a_minute_are_held_by_the_exact_count(bench: Bench) -> None:
    bench.control.tokenizers[DIGEST] = TOKENIZER
    publish(bench)
    await counts_exactly(bench)
    publish(bench, rates=RateLimits(tokens_per_minute=10_000))
    await bench.settled()
    prompt = "What is an endpoint?"

    async with bench.post("/v1/completions", {**LONG, "prompt": prompt, "max_tokens": 7}) as response:
        left = int(response.headers["x-ratelimit-remaining-tokens"])

    held = PromptTokenizer(TOKENIZER, special=SpecialTokens.NONE).count(prompt) + 7
    assert held < len(prompt)
    assert left == 10_000 - held


async def test_another_file_than_was_named_is_never_used(bench: Bench) -> None:
    bench.control.tokenizers[DIGEST] = TOKENIZER.replace(b"<|endoftext|>", b"<|endoftexT|>")
    publish(bench)
    await eventually(lambda: len(bench.control.fetched) >= 2)

    assert await code_of(bench) is None
    assert kept(bench) == []

    bench.control.tokenizers[DIGEST] = TOKENIZER
    await counts_exactly(bench)


async def test_a_file_that_is_none_is_not_fetched_again(bench: Bench) -> None:
    digest = hashlib.sha256(b"{}").hexdigest()
    bench.control.tokenizers[digest] = b"{}"
    publish(bench, digest)
    await eventually(lambda: bench.control.fetched == [digest])
    bench.control.tokenizers[DIGEST] = TOKENIZER
    publish(bench)
    await counts_exactly(bench)

    assert bench.control.fetched == [digest, DIGEST]


async def test_a_restart_without_the_control_plane_counts_from_disk(bench: Bench) -> None:
    bench.control.tokenizers[DIGEST] = TOKENIZER
    publish(bench)
    await counts_exactly(bench)
    await bench.stop()
    await bench.control.stop()
    try:
        await bench.start()
        assert await code_of(bench) == "context_length_exceeded"
        await bench.stop()

        # What somebody changed on disk is no longer what was named.
        kept(bench)[0].write_bytes(TOKENIZER.replace(b"<|endoftext|>", b"<|endoftexT|>"))
        await bench.start()
        assert await code_of(bench) is None
    finally:
        await bench.control.start()
    await counts_exactly(bench)


async def test_what_no_endpoint_names_any_more_leaves_the_disk(bench: Bench) -> None:
    bench.control.tokenizers[DIGEST] = TOKENIZER
    publish(bench)
    await counts_exactly(bench)
    bench.publish()
    await eventually(lambda: kept(bench) == [])
    assert await code_of(bench) is None


def test_the_catalog_knows_how_many_tokens_the_shipped_model_has() -> None:
    assert Tokenizer.from_buffer(TOKENIZER).get_vocab_size() == CATALOG.vocabulary
