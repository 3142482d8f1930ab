"""The shipped model by itself: what it learns, how it samples, where it stops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jinja2
import numpy as np
import pytest

from clusters.triton.language_model import CATALOG
from clusters.triton.language_model.artifact import FILES, ensure_artifact
from clusters.triton.language_model.corpus import read_guide, sections
from clusters.triton.language_model.engine.generation import LanguageModel
from clusters.triton.language_model.engine.sampling import InvalidRequest, Sampler, SamplingParams
from clusters.triton.language_model.training import train

QUESTION = "What is a replica?\n\n"


def answer(model: LanguageModel, prompt: str = QUESTION, **params):
    """Give the text, the pieces it came in, the generated tokens and the finish reason."""
    generation = model.start(prompt, SamplingParams(**{"max_tokens": 60, "seed": 1} | params))
    pieces, tokens = [], 0
    while True:
        delta = generation.step()
        pieces.append(delta.text)
        tokens += delta.tokens
        if delta.finish_reason:
            assert tokens == generation.output_tokens
            return "".join(pieces), pieces, tokens, delta.finish_reason


def test_a_page_is_cut_at_its_headings():
    page = "# Title\n\nleft out\n\n## First?\n\none\ntwo\n\nthree\n\n## Second?\n\nfour\n"
    assert sections(page) == ["First?\n\none two\n\nthree", "Second?\n\nfour"]


def test_training_twice_gives_the_same_files(tmp_path):
    """In two processes, as hash seeds and threads differ between them."""
    code = (
        "import sys; from pathlib import Path;"
        "from clusters.triton.language_model.artifact import ensure_artifact;"
        "print(ensure_artifact(Path(sys.argv[1])))"
    )
    folders = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(tmp_path / seed)]
        run = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}, cwd=Path.cwd()
        )
        folders.append(Path(run.stdout.strip()))
    assert folders[0].name == folders[1].name
    for name in FILES:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_artifact_is_trained_once_and_again_when_the_text_changes(tmp_path):
    first = ensure_artifact(tmp_path, texts=["What is one?\n\nOne is one."])
    trained_at = (first / "ngrams.npz").stat().st_mtime_ns
    assert ensure_artifact(tmp_path, texts=["What is one?\n\nOne is one."]) == first
    assert (first / "ngrams.npz").stat().st_mtime_ns == trained_at
    assert ensure_artifact(tmp_path, texts=["What is two?\n\nTwo is two."]) != first
    assert not list(tmp_path.glob(".training-*"))


def test_the_catalog_says_what_the_model_is(language_model):
    assert language_model.ngrams.vocabulary == CATALOG.vocabulary
    assert language_model.ngrams.order == CATALOG.order
    assert language_model.ngrams.parameters == pytest.approx(CATALOG.parameters, rel=0.25)


def test_every_history_gives_a_distribution(language_model):
    random = np.random.default_rng(0)
    for _ in range(200):
        history = random.integers(0, CATALOG.vocabulary, size=random.integers(0, 6)).tolist()
        p = language_model.ngrams.distribution(history)
        assert p.min() > 0
        assert p.sum() == pytest.approx(1, abs=1e-6)


def test_what_was_seen_is_likelier_than_what_was_not(tmp_path):
    """By hand: after "a" came "b" twice and "c" once, so both discounted counts over three and the
    back-off weight 2 D / 3 times the shorter context's probability."""
    train(["ab", "ab", "ac"], vocabulary=257, order=2, folder=tmp_path)
    model = LanguageModel(tmp_path, context_tokens=10, max_output_tokens=10)
    a, b, c = (model._encode(text)[0] for text in "abc")
    p = model.ngrams.distribution([a])
    shorter = model.ngrams.distribution([])
    assert p[b] == pytest.approx((2 - 0.15) / 3 + 0.1 * shorter[b], rel=1e-6)
    assert p[c] == pytest.approx((1 - 0.15) / 3 + 0.1 * shorter[c], rel=1e-6)


def test_a_question_of_the_guide_is_answered_with_the_guide(language_model):
    for text in read_guide():
        if text.startswith("What is a replica?"):
            expected = text.partition("\n\n")[2]
    told, _, _, reason = answer(language_model, temperature=0, max_tokens=200)
    assert told[:150] == expected[:150]
    assert reason == "stop"


def test_the_chat_template_asks_for_an_answer():
    template = jinja2.Template(CATALOG.chat_template)
    messages = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "What is it?"}]
    assert template.render(messages=messages, add_generation_prompt=True) == "Be brief.\n\nWhat is it?\n\n"
    assert template.render(messages=messages, add_generation_prompt=False) == "Be brief.\n\nWhat is it?"


def test_temperature_zero_needs_no_seed(language_model):
    assert answer(language_model, temperature=0, seed=1) == answer(language_model, temperature=0, seed=2)


def test_a_seed_repeats_an_answer_and_another_seed_does_not(language_model):
    settings = {"temperature": 1.5, "min_tokens": 60}
    told = answer(language_model, seed=2**64 - 1, **settings)
    assert told == answer(language_model, seed=2**64 - 1, **settings)
    assert told != answer(language_model, seed=3, **settings)


def test_max_tokens_ends_with_length_and_min_tokens_holds_the_end_off(language_model):
    _, _, tokens, reason = answer(language_model, max_tokens=7)
    assert (tokens, reason) == (7, "length")
    _, _, tokens, reason = answer(language_model, max_tokens=300, min_tokens=300)
    assert (tokens, reason) == (300, "length")


@pytest.mark.parametrize("stop", ["running copy", "g c", "plete", "with the model, on"])
def test_a_stop_text_ends_the_answer_and_is_not_sent(language_model, stop):
    whole, *_ = answer(language_model, temperature=0)
    told, pieces, _, reason = answer(language_model, temperature=0, stop=(stop,))
    assert stop in whole
    assert told == whole[: whole.index(stop)]
    assert reason == "stop"
    assert not any(stop in piece for piece in pieces)


def test_of_two_stop_texts_the_first_in_the_text_counts(language_model):
    whole, *_ = answer(language_model, temperature=0)
    told, *_ = answer(language_model, temperature=0, stop=("engine", "copy", "absent"))
    assert told == whole[: whole.index("copy")]


def test_what_might_have_become_a_stop_text_is_sent_in_the_end(language_model):
    whole, *_ = answer(language_model, temperature=0, max_tokens=5)
    told, _, _, reason = answer(language_model, temperature=0, max_tokens=5, stop=(whole[-3:] + "never",))
    assert (told, reason) == (whole, "length")


def test_no_piece_holds_half_a_character(tmp_path):
    """Every character here is of two to four bytes, and the vocabulary has no room to join them."""
    train(["日本語のテキスト 🙂 ünïcödé " * 3], vocabulary=257, order=5, folder=tmp_path)
    model = LanguageModel(tmp_path, context_tokens=400, max_output_tokens=400)
    told, pieces, *_ = answer(model, "日本", temperature=0, max_tokens=100, min_tokens=100)
    assert "語のテキスト 🙂" in told
    for piece in pieces[:-1]:
        assert "\N{REPLACEMENT CHARACTER}" not in piece


def test_the_end_token_in_a_prompt_is_only_text(language_model):
    generation = language_model.start("a<|endoftext|>b", SamplingParams(max_tokens=1))
    assert generation.prompt_tokens > 5


def test_prompt_and_answer_must_fit_the_context(language_model):
    prompt = "What is a replica? " * 600
    with pytest.raises(InvalidRequest, match=r"^context_length_exceeded: .* 2048 tokens; the prompt has \d"):
        language_model.start(prompt, SamplingParams(max_tokens=10))
    with pytest.raises(InvalidRequest, match=r"^context_length_exceeded: .* has at least "):
        language_model.start(prompt * 1000, SamplingParams(max_tokens=10))
    with pytest.raises(InvalidRequest, match="max_tokens must be at most 1024, got 1025"):
        language_model.start("Hello", SamplingParams(max_tokens=1025))
    assert language_model.start(" a" * 1024, SamplingParams(max_tokens=1024)).prompt_tokens == 1024
    with pytest.raises(InvalidRequest, match="the prompt has 1025 and max_tokens asks for 1024"):
        language_model.start(" a" * 1025, SamplingParams(max_tokens=1024))


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 4, "min_tokens": 5}, "min_tokens"),
        ({"max_tokens": 4, "temperature": -0.1}, "temperature"),
        ({"max_tokens": 4, "temperature": float("nan")}, "temperature"),
        ({"max_tokens": 4, "top_p": 1.1}, "top_p"),
        ({"max_tokens": 4, "top_k": -1}, "top_k"),
        ({"max_tokens": 4, "presence_penalty": 3}, "presence_penalty"),
        ({"max_tokens": 4, "frequency_penalty": -3}, "frequency_penalty"),
        ({"max_tokens": 4, "stop": ("",)}, "stop_words"),
        ({"max_tokens": 4, "stop": tuple("abcdefghijklmnopq")}, "stop_words"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(params, field):
    with pytest.raises(InvalidRequest, match=field):
        SamplingParams(**params)


def draws(weights: list[float], *, banned: int | None = None, count: int = 2000, **params) -> list[float]:
    """Give the share of each token among many draws, each by a new sampler."""
    counts = np.zeros(len(weights))
    for seed in range(count):
        sampler = Sampler(SamplingParams(max_tokens=1, seed=seed, **params))
        counts[sampler.draw(np.array(weights), banned=banned)] += 1
    return (counts / count).tolist()


def test_draws_follow_the_distribution():
    assert draws([0.5, 0.3, 0.2]) == pytest.approx([0.5, 0.3, 0.2], abs=0.04)
    assert draws([0.5, 0.3, 0.2], banned=0) == pytest.approx([0, 0.6, 0.4], abs=0.04)


def test_temperature_sharpens_and_flattens():
    assert draws([0.5, 0.25, 0.25], temperature=0.5) == pytest.approx([2 / 3, 1 / 6, 1 / 6], abs=0.04)
    assert draws([0.5, 0.25, 0.25], temperature=100) == pytest.approx([1 / 3] * 3, abs=0.04)
    assert draws([1e-9, 2e-9, 1e-300], temperature=0.01, count=20) == [0, 1, 0]


def test_top_k_and_top_p_cut_the_tail():
    assert draws([0.1, 0.2, 0.3, 0.4], top_k=2) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.04)
    assert draws([0.1, 0.2, 0.3, 0.4], top_p=0.65) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.04)
    assert draws([0.1, 0.2, 0.3, 0.4], top_k=3, top_p=0.1, count=50) == [0, 0, 0, 1]


def test_penalties_make_repetition_less_likely():
    def repeats(**params) -> int:
        sampler = Sampler(SamplingParams(max_tokens=1, seed=1, **params))
        tokens = [sampler.draw(np.full(50, 0.02)) for _ in range(50)]
        return 50 - len(set(tokens))

    assert repeats(presence_penalty=2.0) < repeats() < repeats(presence_penalty=-2.0)
    assert repeats(frequency_penalty=2.0) < repeats()
