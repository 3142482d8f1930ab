"""The gate's judgement, in plain numbers: what is worse is found, and noise is not taken for it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.endpoints.rollouts.judging import (
    CERTAIN,
    Counts,
    Finding,
    Slot,
    Tolerances,
    highest_p95,
    judge,
    surely_above,
    surplus,
    wilson,
)
from clusters.endpoints.rollouts.room import needed_at
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS

PLACES = len(LATENCY_BOUNDS_MS) + 1
TOLERANCES = Tolerances(
    requests=200, ttft_factor=1.25, itl_factor=1.25, error_points=0.5, cost_factor=1.25,
    ttft_target_ms=2000, itl_target_ms=80,
)  # fmt: skip
SLOT = Slot(price_per_hour=2.0, places=8)
histograms = st.lists(st.integers(0, 400), min_size=PLACES, max_size=PLACES).map(tuple)


def histogram(times, bounds):
    counts = [0] * (len(bounds) + 1)
    for each in times:
        counts[next((i for i, bound in enumerate(bounds) if each <= bound), len(bounds))] += 1
    return tuple(counts)


def served(requests=400, *, failed=0, ttft=90.0, itl=18.0, tokens=50, spread=0.4, seed=1):
    """Requests whose latencies are spread about a median, always the same for a seed."""
    rng = random.Random(seed)
    done = requests - failed
    return Counts(
        completed=done,
        failed=failed,
        input_tokens=100 * done,
        output_tokens=tokens * done,
        ttft_ms=histogram((ttft * rng.lognormvariate(0, spread) for _ in range(done)), LATENCY_BOUNDS_MS),
        itl_ms=histogram((itl * rng.lognormvariate(0, spread / 4) for _ in range(done)), ITL_BOUNDS_MS),
    )


def found(old, new, tolerances=TOLERANCES, old_slot=SLOT, new_slot=SLOT):
    verdict = judge(old, new, tolerances, old_slot=old_slot, new_slot=new_slot)
    return verdict.finding, {each.name: each.finding for each in verdict.criteria}


def test_revisions_that_are_the_same_are_not_told_apart_by_noise():
    old = served(1000)
    looks = [found(old, served(200, seed=2 + n))[0] for n in range(100)]
    assert looks == [Finding.KEPT] * 100


@pytest.mark.parametrize(
    ("slower", "name"), [({"ttft": 300.0}, "ttft_p95_ms"), ({"itl": 40.0}, "itl_p95_ms")]
)
def test_what_is_clearly_slower_is_found_with_two_hundred_requests(slower, name):
    for seed in range(5):
        whole, each = found(served(400, seed=seed), served(200, seed=100 + seed, **slower))
        assert (whole, each[name]) == (Finding.WORSE, Finding.WORSE)


def test_what_breaks_the_classes_target_that_the_old_one_keeps_is_worse():
    old, new = served(600, itl=60.0, spread=0.1), served(300, itl=90.0, spread=0.1)
    loose = Tolerances(requests=200, itl_factor=3.0, itl_target_ms=80)
    assert found(old, new, loose)[0] is Finding.WORSE
    assert found(served(600, itl=95.0), new, loose)[0] is Finding.KEPT


@pytest.mark.parametrize(
    ("old_failed", "new_failed", "finding"),
    [(0, 0, "kept"), (4, 2, "kept"), (6, 4, "kept"), (0, 20, "worse"), (6, 40, "worse")],
)
def test_errors_are_worse_only_beyond_chance(old_failed, new_failed, finding):
    _, each = found(served(600, failed=old_failed), served(200, failed=new_failed))
    assert each["errors_percent"] == finding


def test_one_failure_of_a_few_requests_says_nothing():
    whole, each = found(served(600), served(25, failed=1))
    assert (whole, each["errors_percent"]) == (Finding.TOO_FEW, Finding.KEPT)


def test_a_place_that_costs_twice_as_much_is_worse_unless_the_quote_said_so():
    dear = Slot(price_per_hour=4.0, places=8)
    assert found(served(600), served(400), new_slot=dear)[1]["cost_per_million_tokens"] == "worse"
    planned = [Slot(price_per_hour=p, places=8, planned_answer_ms=1000.0) for p in (2.0, 4.0)]
    _, each = found(served(600), served(400), old_slot=planned[0], new_slot=planned[1])
    assert each["cost_per_million_tokens"] == "kept"


def test_a_time_that_the_quote_said_is_agreed_to():
    slots = [Slot(price_per_hour=2.0, places=8, planned_ttft_p95_ms=ms) for ms in (100.0, 400.0)]
    old, new = served(600), served(400, ttft=300.0)
    assert found(old, new)[1]["ttft_p95_ms"] == "worse"
    assert found(old, new, old_slot=slots[0], new_slot=slots[1])[1]["ttft_p95_ms"] == "kept"


def test_what_is_not_to_be_judged_is_not():
    whole, each = found(served(600), served(200, ttft=3000.0, failed=60), Tolerances(requests=200))
    assert (whole, set(each.values())) == (Finding.KEPT, {Finding.NOT_JUDGED})


def test_the_cost_of_a_million_tokens_by_hand():
    # 8 places at 2.88 an hour: 0.0001 a second each. 75 ms and 49 times 17.5 ms: 0.9325 s for 50 tokens.
    one = Counts(
        completed=100, output_tokens=5000,
        ttft_ms=histogram([70.0] * 100, LATENCY_BOUNDS_MS), itl_ms=histogram([18.0] * 100, ITL_BOUNDS_MS),
    )  # fmt: skip
    slot = Slot(price_per_hour=2.88, places=8)
    verdict = judge(one, one, TOLERANCES, old_slot=slot, new_slot=slot)
    cost = next(each for each in verdict.criteria if each.name == "cost_per_million_tokens")
    assert cost.new == pytest.approx(0.0001 * (0.070 + 49 * 0.0175) / 50 * 1e6)


@given(histograms)
def test_a_revision_is_never_worse_than_itself(times):
    one = Counts(completed=sum(times), output_tokens=50 * sum(times), ttft_ms=times, itl_ms=times)
    assert found(one, one)[0] is not Finding.WORSE


@given(histograms, histograms, st.integers(0, PLACES - 2))
def test_slower_requests_never_make_a_worse_revision_good(old, new, place):
    slower = list(new)
    slower[place + 1] += slower[place]
    slower[place] = 0
    before = judge(
        Counts(completed=sum(old), ttft_ms=old), Counts(completed=sum(new), ttft_ms=new), TOLERANCES,
        old_slot=None, new_slot=None,
    )  # fmt: skip
    after = judge(
        Counts(completed=sum(old), ttft_ms=old), Counts(completed=sum(new), ttft_ms=tuple(slower)), TOLERANCES,
        old_slot=None, new_slot=None,
    )  # fmt: skip
    if before.criteria[0].finding is Finding.WORSE:
        assert after.criteria[0].finding is Finding.WORSE


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_a_score_interval_holds_the_share_it_is_of(hits, of):
    low, high = wilson(min(hits, of), of, CERTAIN)
    share = min(hits, of) / of
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


@given(st.integers(0, 200), st.integers(1, 200), st.integers(0, 200), st.integers(1, 200))
def test_the_least_surplus_is_below_the_difference(hits_a, of_a, hits_b, of_b):
    hits_a, hits_b = min(hits_a, of_a), min(hits_b, of_b)
    assert surplus(hits_a, of_a, hits_b, of_b, CERTAIN) <= hits_a / of_a - hits_b / of_b + 1e-12


@given(histograms)
def test_the_highest_p95_has_at_most_a_twentieth_above_it(times):
    edge = highest_p95(times, LATENCY_BOUNDS_MS)
    if edge is not None:
        assert surely_above(times, edge, LATENCY_BOUNDS_MS) <= sum(times) / 20


@given(st.integers(1, 99), st.integers(1, 64))
def test_a_share_of_the_requests_needs_no_more_than_all_replicas(weight, replicas):
    needed = needed_at(weight, replicas)
    assert 1 <= needed <= replicas
    assert needed >= replicas * weight / 100 or needed == replicas


def test_counts_survive_their_document_and_their_difference():
    now, then = served(400), served(100)
    assert Counts.from_document(now.to_document()) == now
    assert now.since(now) == Counts(ttft_ms=(0,) * PLACES, itl_ms=(0,) * PLACES)
    assert now.since(Counts()) == now
    assert now.since(then).completed == 300
