"""Filter, draw, score, pick: residency fails closed, weights are kept, the least loaded replica is taken."""

from __future__ import annotations

import collections
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import Endpoint, Replica, Route
from gateway.routing import draw, draw_revision, eligible, narrowed, options, pick, resides, scores, stick
from gateway.routing.score import AFFINITY
from tests.gateway.world import World, replica

places = st.sampled_from(["eu-de-1", "us-1", "EU", "US", "EEA", "", "e", "EU "])
residencies = st.one_of(
    st.text(max_size=8),
    st.just("global"),
    st.builds("{}:{}".format, st.sampled_from(["region", "zone", "Zone", "country", ""]), places),
)
replicas = st.builds(
    replica,
    st.just("http://engine"),
    replica_id=st.sampled_from("abcdef"),
    region=places,
    zones=st.lists(places, max_size=3).map(tuple),
)
RNG = random.Random(7)


def endpoint(*routes: Route, residency: str = "global") -> Endpoint:
    return msgspec.structs.replace(World().endpoint(""), routes=routes, residency=residency)


def route(revision_id: str, weight: int, *members: Replica) -> Route:
    return Route(revision_id=revision_id, weight=weight, replicas=members)


def named(*names: str) -> list[Replica]:
    return [replica("http://engine", replica_id=name) for name in names]


def satisfied(member: Replica, residency: str) -> bool:
    """Say the rule in other words than the code does."""
    if residency == "global":
        return True
    allowed = {f"region:{member.region}"} | {f"zone:{zone}" for zone in member.zones}
    return residency in allowed - {"region:", "zone:"}


@given(members=st.lists(replicas, max_size=6), own=residencies, other=st.one_of(st.none(), residencies))
def test_whatever_may_serve_satisfies_both_residencies(
    members: list[Replica], own: str, other: str | None
) -> None:
    found = options(endpoint(route("r", 1, *members), residency=own), residency=other)

    kept = [member for option in found for member in option.replicas]
    demands = [own] if other is None else [own, other]
    assert kept == [member for member in members if all(satisfied(member, demand) for demand in demands)]


@given(residency=residencies.filter(lambda text: text != "global"))
def test_a_replica_of_nowhere_serves_no_demand(residency: str) -> None:
    assert not resides(replica("http://engine", region="", zones=()), residency)


@given(members=st.lists(replicas, max_size=6), excluded=st.sets(st.sampled_from("abcdef")))
def test_excluded_replicas_are_never_taken(members: list[Replica], excluded: set[str]) -> None:
    kept = eligible(members, residencies=("global",), excluded=excluded)

    assert {member.replica_id for member in kept}.isdisjoint(excluded)


def test_without_any_residency_nothing_is_eligible() -> None:
    assert eligible(named("a"), residencies=()) == ()


def test_draining_replicas_and_routes_without_weight_take_no_part() -> None:
    a, b, c = named("a", "b", "c")
    leaving = msgspec.structs.replace(b, draining=True)

    found = options(endpoint(route("old", 1, a, leaving), route("off", 0, c), route("gone", 5, leaving)))

    assert [(option.revision_id, option.replicas) for option in found] == [("old", (a,))]
    assert narrowed(found, lambda member: member.replica_id != "a") == ()


def test_only_replicas_that_know_what_a_request_needs_take_part() -> None:
    a, b = named("a", "b")
    able = msgspec.structs.replace(b, features=("tools", "chat"))

    found = options(endpoint(route("old", 1, a), route("new", 1, a, able)), needs={"tools"})

    assert [(option.revision_id, option.replicas) for option in found] == [("new", (able,))]


@given(
    outstanding=st.dictionaries(st.sampled_from("abc"), st.integers(-3, 10**7)),
    own=st.integers(0, 10**6),
    matched=st.dictionaries(st.sampled_from("abc"), st.floats(0, 1)),
    warmth=st.dictionaries(st.sampled_from("abc"), st.floats(0.01, 1)),
)
def test_scores_lie_between_0_and_1(
    outstanding: dict[str, int], own: int, matched: dict[str, float], warmth: dict[str, float]
) -> None:
    found = scores(named("a", "b", "c"), tokens=outstanding, own=own, matched=matched, warmth=warmth)

    assert all(0 < score <= 1 for score in found)


def best(tokens: dict[str, int], *, own: int = 100, **more: dict[str, float]) -> set[str]:
    """Give the replicas that are picked of three."""
    members = named("a", "b", "c")
    values = scores(members, tokens=tokens, own=own, **{"matched": {}, "warmth": {}, **more})
    return {pick(members, values, rng=RNG).replica_id for _ in range(60)}


def test_the_fewest_outstanding_tokens_win_and_ties_fall_by_lot() -> None:
    assert best({"a": 3}) == {"b", "c"}
    # One long request weighs more than many short ones.
    assert best({"a": 4_000, "b": 6 * 100, "c": 700}) == {"b"}


def test_a_replica_that_knows_the_prompt_wins_until_it_is_much_more_loaded() -> None:
    edge = round(100 * AFFINITY / (1 - AFFINITY))

    assert best({"a": edge - 5}, matched={"a": 1.0}) == {"a"}
    assert best({"a": edge + 5}, matched={"a": 1.0}) == {"b", "c"}
    assert best({"a": 100}, matched={"a": 0.5}) == {"b", "c"}
    assert best({"a": 40}, matched={"a": 0.5}) == {"a"}
    assert best({"a": 9_000, "b": 9_000, "c": 9_100}, matched={"c": 1.0}) == {"c"}


def test_a_cold_replica_gets_its_part_of_the_load_only() -> None:
    cold = {"a": 0.25}

    assert best({}, warmth=cold) == {"b", "c"}
    assert best({"a": 0, "b": 250, "c": 250}, warmth=cold) == {"b", "c"}
    assert best({"a": 0, "b": 350, "c": 350}, warmth=cold) == {"a"}
    # All cold is as good as all warm.
    assert best({"a": 1}, warmth={"a": 0.1, "b": 0.1, "c": 0.1}) == {"b", "c"}


def test_revisions_get_their_weight_and_the_weight_of_those_that_cannot_serve() -> None:
    a, b, c = named("a", "b", "c")
    canary = options(endpoint(route("old", 90, a), route("new", 10, b), route("off", 0, c)))

    def drawn(choices: object) -> collections.Counter[str]:
        rng = random.Random(3)
        return collections.Counter(
            draw_revision(choices, session="", rng=rng).revision_id  # type: ignore[arg-type]
            for _ in range(2_000)
        )

    both = drawn(canary)
    assert set(both) == {"old", "new"}
    assert 150 < both["new"] < 250
    assert drawn(narrowed(canary, lambda member: member.replica_id != "a")) == {"new": 2_000}


@given(weights=st.lists(st.integers(0, 9), min_size=2, max_size=4).filter(lambda it: sum(it) > 0))
def test_sessions_are_spread_by_weight(weights: list[int]) -> None:
    names = [f"rev{i}" for i in range(len(weights))]

    drawn = collections.Counter(draw(names, weights, session=f"s{i}", rng=RNG) for i in range(1_500))

    for index, weight in enumerate(weights):
        # Five standard deviations of a share of 1,500 are at most 0.065.
        assert drawn[index] / 1_500 == pytest.approx(weight / sum(weights), abs=0.066)
        assert weight or not drawn[index]


@given(session=st.text(min_size=1, max_size=20), names=st.sets(st.text(max_size=5), min_size=2, max_size=6))
def test_a_session_moves_only_when_what_it_had_is_gone(session: str, names: set[str]) -> None:
    members = named(*sorted(names))

    mine = stick(members, session=session, rng=RNG)

    assert all(stick(members, session=session, rng=RNG) is mine for _ in range(3))
    for gone in members:
        if gone is not mine:
            left = [member for member in members if member is not gone]
            assert stick(left, session=session, rng=RNG) is mine


def test_more_weight_moves_no_session_away() -> None:
    before = {i for i in range(500) if draw(["old", "new"], [90, 10], session=f"s{i}", rng=RNG) == 1}
    after = {i for i in range(500) if draw(["old", "new"], [60, 40], session=f"s{i}", rng=RNG) == 1}

    assert before < after


def test_nothing_to_draw_from_is_said() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(["a"], [0], session="", rng=RNG)
