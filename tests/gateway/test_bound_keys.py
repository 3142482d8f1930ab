"""A key that is bound to one revision is answered by that one alone, whatever traffic it gets."""

from __future__ import annotations

import msgspec
import pytest

from gateway.contract import Key, OnOverload, RevisionTerms, Route
from gateway.routing import options
from tests.gateway.conftest import Bench
from tests.gateway.world import EXPIRED_KEY, KEY, OTHER_PROJECT_KEY, World, key, replica

BODY = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


def routes(url: str, *, weight: int) -> tuple[Route, ...]:
    return (
        Route(revision_id="old", weight=100, replicas=(replica(url, replica_id="r-old"),)),
        Route(revision_id="new", weight=weight, replicas=(replica(url, replica_id="r-new"),)),
    )


async def served_by(bench: Bench, text: str, count: int = 6) -> set[str]:
    """Ask some times; give the revisions that answered."""
    found = set()
    for _ in range(count):
        async with bench.post("/v1/chat/completions", BODY, key=text) as response:
            assert response.status == 200
            found.add((await response.json())["system_fingerprint"])
    return found


async def test_a_bound_key_reaches_a_revision_without_traffic_and_no_other(bench: Bench) -> None:
    bench.world.keys = (key(KEY, "k1"), key(OTHER_PROJECT_KEY, "k5", revision_id="new"))
    bench.publish(routes=routes(bench.triton.url, weight=0))
    await bench.settled()
    assert await served_by(bench, OTHER_PROJECT_KEY) == {"new"}
    assert await served_by(bench, KEY) == {"old"}
    assert bench.totals()["completed"]["requests"] == 12


async def test_a_bound_key_is_not_answered_by_others_when_its_revision_is_gone(bench: Bench) -> None:
    bench.world.others = (
        bench.world.endpoint(bench.triton.url, endpoint_id="e7", name="spare", slo_class="standard"),
    )
    bench.world.more["classes"] = bench.world.classes(on_overload=OnOverload.FALLBACK)
    bench.world.keys = (key(KEY, "k1"), key(OTHER_PROJECT_KEY, "k5", revision_id="gone"))
    bench.publish(routes=routes(bench.triton.url, weight=1), fallbacks=("e7",))
    await bench.settled()
    async with bench.post("/v1/chat/completions", BODY, key=OTHER_PROJECT_KEY) as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "endpoint_not_ready"
    assert bench.triton.calls == []


TERMS = RevisionTerms(
    context_tokens=640,
    max_output_tokens=320,
    default_max_tokens=160,
    chat_template="new: {{ messages[0].content }}",
)


async def test_a_bound_key_is_held_to_what_its_revision_takes(bench: Bench) -> None:
    old, new = routes(bench.triton.url, weight=0)
    bench.world.keys = (
        key(KEY, "k1"),
        key(OTHER_PROJECT_KEY, "k5", revision_id="new"),
        key(EXPIRED_KEY, "k6", revision_id="old"),
    )
    bench.publish(routes=(old, msgspec.structs.replace(new, terms=TERMS)))
    await bench.settled()
    asked = {**BODY, "max_tokens": 300}  # the endpoint's clients may have 32
    for text, status, context in ((KEY, 400, 64), (EXPIRED_KEY, 400, 64), (OTHER_PROJECT_KEY, 200, 640)):
        async with bench.post("/v1/chat/completions", asked, key=text) as response:
            assert response.status == status
        async with bench.http.get(
            f"{bench.url}/v1/models", headers={"authorization": f"Bearer {text}"}
        ) as response:
            (told,) = (await response.json())["data"]
        assert told["max_model_len"] == context
    (call,) = bench.triton.calls
    assert (call.payload["text_input"], call.payload["max_tokens"]) == ("new: hello there", 300)


@pytest.mark.parametrize("weight", [0, 1, 100])
def test_what_may_serve_a_bound_key_is_its_revision_with_a_weight_to_draw_by(weight: int) -> None:
    endpoint = World().endpoint("", routes=routes("http://engine", weight=weight))
    (option,) = options(endpoint, revision_id="new")
    assert option.revision_id == "new"
    assert option.weight > 0
    assert [each.replica_id for each in option.replicas] == ["r-new"]
    assert options(endpoint, residency="region:us-1", revision_id="new") == ()
    draining = msgspec.structs.replace(replica("http://engine"), draining=True)
    emptied = World().endpoint("", routes=(Route(revision_id="new", weight=9, replicas=(draining,)),))
    assert options(emptied, revision_id="new") == ()


def test_only_a_bound_key_says_so_in_the_snapshot() -> None:
    assert b"revision_id" not in msgspec.json.encode(key(KEY, "k1"))
    bound = key(KEY, "k1", revision_id="new")
    assert msgspec.json.decode(msgspec.json.encode(bound), type=Key) == bound


def test_only_a_revision_with_terms_of_its_own_says_so_in_the_snapshot() -> None:
    route, _ = routes("http://engine", weight=1)
    assert b"terms" not in msgspec.json.encode(route)
    other = msgspec.structs.replace(route, terms=TERMS)
    assert msgspec.json.decode(msgspec.json.encode(other), type=Route) == other
