"""Prefixes: a conversation's next turn is known by what it has in common with the turn before."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import PrefixIndex, cuts
from gateway.routing.affinity import PLACES

TEXT = "".join(f"sentence {i} of a long talk. " for i in range(20_000))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def matched(index: PrefixIndex, prompt: str, *replica_ids: str, salt: str = "t1") -> dict[str, float]:
    return index.matched(cuts(prompt, salt=salt), len(prompt), set(replica_ids))


def remember(index: PrefixIndex, prompt: str, replica_id: str, *, salt: str = "t1") -> None:
    index.remember(cuts(prompt, salt=salt), replica_id)


@given(first=st.integers(0, 6_000), more=st.integers(0, 6_000))
def test_a_longer_prompt_begins_with_the_cuts_of_the_shorter(first: int, more: int) -> None:
    short, long = cuts(TEXT[:first], salt="t"), cuts(TEXT[: first + more], salt="t")

    assert long[: len(short)] == short


@given(at=st.integers(0, 4_999), length=st.integers(128, 5_000))
def test_no_cut_after_a_difference_is_the_same(at: int, length: int) -> None:
    prompt = TEXT[:length]
    at %= length
    other = prompt[:at] + "#" + prompt[at + 1 :]

    same = [a == b for a, b in zip(cuts(prompt, salt="t"), cuts(other, salt="t"), strict=True)]

    assert same == [end <= at for end in itertools.takewhile(lambda end: end <= length, PLACES)]


def test_the_next_turn_finds_the_replica_of_the_last() -> None:
    index = PrefixIndex(clock=Clock())
    remember(index, TEXT[:2_000], "a")

    next_turn = matched(index, TEXT[:2_300], "a", "b")

    assert set(next_turn) == {"a"}
    assert 0.7 < next_turn["a"] <= 2_000 / 2_300
    assert matched(index, TEXT[:2_300], "b") == {}


def test_the_longest_match_of_each_replica_counts() -> None:
    index = PrefixIndex(clock=Clock())
    remember(index, TEXT[:4_000], "a")
    remember(index, TEXT[:1_000] + "something else" * 300, "b")

    found = matched(index, TEXT[:4_000], "a", "b")

    assert found["a"] > 0.85
    assert 0.2 < found["b"] <= 0.25


def test_two_tenants_never_meet() -> None:
    index = PrefixIndex(clock=Clock())
    remember(index, TEXT[:2_000], "a", salt="t1")

    assert matched(index, TEXT[:2_000], "a", salt="t2") == {}


def test_what_is_long_ago_is_forgotten_and_what_goes_on_is_not() -> None:
    clock = Clock()
    index = PrefixIndex(clock=clock, ttl_s=600)
    remember(index, TEXT[:1_000], "a")
    remember(index, TEXT[1_000:2_000], "b")

    for _ in range(8):
        clock.now += 200
        remember(index, TEXT[:1_000], "a")

    assert matched(index, TEXT[:1_000], "a")
    assert matched(index, TEXT[1_000:2_000], "b") == {}
    clock.now += 601
    assert matched(index, TEXT[:1_000], "a") == {}


def test_its_size_is_bounded_and_the_newest_stays() -> None:
    index = PrefixIndex(clock=Clock(), most_cuts=2_000)

    for i in range(1_000):
        remember(index, f"conversation {i}: " + TEXT[:2_000], "a")

    assert len(index) <= 2_000
    assert matched(index, "conversation 999: " + TEXT[:2_000], "a")
    assert matched(index, "conversation 0: " + TEXT[:2_000], "a") == {}


def test_few_replicas_are_remembered_for_what_all_have_seen() -> None:
    index = PrefixIndex(clock=Clock())
    names = [f"r{i}" for i in range(20)]

    for name in names:
        remember(index, TEXT[:500], name)

    assert set(matched(index, TEXT[:500], *names)) == {"r16", "r17", "r18", "r19"}


def test_prompts_of_any_length_are_cut_a_bounded_number_of_times() -> None:
    assert cuts("short", salt="t") == []
    assert 50 < len(cuts(TEXT[:400_000], salt="t")) < len(cuts(TEXT * 3, salt="t")) == len(PLACES) == 64
