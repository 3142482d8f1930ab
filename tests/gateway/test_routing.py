"""Filter, score, pick: residency fails closed, weights are kept, the least busy replica is taken."""

from __future__ import annotations

import collections
import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import Endpoint, Replica, Route
from gateway.replicas import ReplicaBook
from gateway.routing import choose, eligible, least_outstanding, pick, resides
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


def endpoint(*routes: Route, residency: str = "global") -> Endpoint:
    return msgspec.structs.replace(World().endpoint(""), routes=routes, residency=residency)


def route(revision_id: str, weight: int, *members: Replica) -> Route:
    return Route(revision_id=revision_id, weight=weight, replicas=members)


@given(candidates=st.lists(replicas, max_size=6), residency=residencies)
def test_residency_fails_closed(candidates: list[Replica], residency: str) -> None:
    target = choose(
        endpoint(route("r", 1, *candidates), residency=residency),
        excluded=(),
        outstanding={},
        rng=random.Random(1),
    )

    if target is None:
        assert not any(resides(candidate, residency) for candidate in candidates)
        return
    kind, _, place = residency.partition(":")
    assert kind in ("global", "region", "zone")
    if kind == "region":
        assert place
        assert target.replica.region == place
    elif kind == "zone":
        assert place
        assert place in target.replica.zones
    else:
        assert residency == "global"


@given(residency=residencies.filter(lambda text: text != "global"))
def test_a_replica_of_nowhere_serves_no_demand(residency: str) -> None:
    assert not resides(replica("http://engine", region="", zones=()), residency)


@given(candidates=st.lists(replicas, max_size=6), excluded=st.sets(st.sampled_from("abcdef")))
def test_excluded_replicas_are_never_taken(candidates: list[Replica], excluded: set[str]) -> None:
    kept = eligible(candidates, residency="global", excluded=excluded)

    assert {member.replica_id for member in kept}.isdisjoint(excluded)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(-3, 10**6)))
def test_scores_lie_between_0_and_1(outstanding: dict[str, int]) -> None:
    assert 0 < least_outstanding(replica("http://engine", replica_id="a"), outstanding) <= 1


def test_the_least_busy_replica_is_picked_and_ties_fall_by_lot() -> None:
    members = [replica("http://engine", replica_id=name) for name in "abc"]
    rng = random.Random(5)
    busy = {"a": 3}

    picked = collections.Counter(
        pick(members, score=lambda member: least_outstanding(member, busy), rng=rng).replica_id
        for _ in range(400)
    )

    assert set(picked) == {"b", "c"}
    assert min(picked.values()) > 120


def test_revisions_get_their_weight_and_the_weight_of_those_that_cannot_serve() -> None:
    rng = random.Random(3)
    canary = endpoint(
        route("old", 90, replica("http://engine", replica_id="a")),
        route("new", 10, replica("http://engine", replica_id="b")),
        route("none", 1000),
        route("off", 0, replica("http://engine", replica_id="c")),
    )

    def draw(excluded: set[str]) -> collections.Counter[str]:
        targets = [choose(canary, excluded=excluded, outstanding={}, rng=rng) for _ in range(1000)]
        return collections.Counter(target.revision_id for target in targets if target)

    both = draw(set())
    assert set(both) == {"old", "new"}
    assert 50 < both["new"] < 160
    assert draw({"a"}) == {"new": 1000}
    assert draw({"a", "b"}) == {}


def test_a_failing_replica_is_avoided_longer_each_time_and_forgiven_at_once() -> None:
    now = [100.0]
    book = ReplicaBook(clock=lambda: now[0])

    book.failed("a")
    assert book.tripped() == {"a"}
    now[0] += 0.6
    assert book.tripped() == set()
    book.failed("a")
    now[0] += 0.6
    assert book.tripped() == {"a"}
    book.answered("a")
    assert book.tripped() == ()
    book.failed("a")
    book.keep({"b"})
    assert book.tripped() == ()


def test_requests_in_flight_are_counted_and_forgotten() -> None:
    book = ReplicaBook()

    book.begin("a")
    book.begin("a")
    book.end("a")
    assert book.outstanding == {"a": 1}
    book.end("a")
    assert book.outstanding == {}
