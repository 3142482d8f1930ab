"""What committed GPUs cover: nothing is lost, nothing twice, however the input is cut or ordered."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.commitments import Commitment, CommitmentError, Coverage, Holding, cover
from billing.rating.periods import month_of

MARCH = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
PERIOD = (MARCH, MARCH + dt.timedelta(hours=40))
REGIONS = ("eu-de-1", "us-va-1")
TYPES = ("h100", "l4")


def at(hours: float) -> dt.datetime:
    return MARCH + dt.timedelta(hours=hours)


def holding(
    key: str,
    gpus: int,
    start: float = 0,
    end: float = 10,
    *,
    region: str = REGIONS[0],
    gpu_type: str = "h100",
) -> Holding:
    return Holding(key=key, gpu_type=gpu_type, region=region, gpus=gpus, start=at(start), end=at(end))


def commitment(
    id: str,
    gpus: int,
    start: float = 0,
    end: float = 10,
    *,
    region: str | None = None,
    gpu_type: str = "h100",
) -> Commitment:
    return Commitment(
        id=id, gpu_type=gpu_type, region=region, gpus=gpus, rate=Decimal(2), start=at(start), end=at(end)
    )


def hours(coverage: Coverage) -> tuple[dict, dict, dict]:
    """Sum GPU-hours: covered by key and commitment, overflow by key, unused by commitment."""
    covered: defaultdict = defaultdict(Fraction)
    overflow: defaultdict = defaultdict(Fraction)
    unused: defaultdict = defaultdict(Fraction)
    for each in coverage.covered:
        covered[each.key, each.commitment_id] += each.gpu_seconds / 3600
    for each in coverage.overflow:
        overflow[each.key] += each.gpu_seconds / 3600
    for each in coverage.unused:
        unused[each.commitment_id] += each.gpu_seconds / 3600
    return dict(covered), dict(overflow), dict(unused)


spans = st.tuples(st.integers(-20, 60), st.integers(0, 50)).map(lambda pair: (pair[0], pair[0] + pair[1]))
minutes = st.tuples(spans, st.integers(0, 59), st.integers(0, 59)).map(
    lambda found: (found[0][0] + found[1] / 64, max(found[0][0] + found[1] / 64, found[0][1] + found[2] / 64))
)
holdings = st.lists(
    st.builds(
        lambda key, gpus, span, region, gpu_type: holding(key, gpus, *span, region=region, gpu_type=gpu_type),
        st.sampled_from("abcd"),
        st.integers(0, 9),
        minutes,
        st.sampled_from(REGIONS),
        st.sampled_from(TYPES),
    ),
    max_size=12,
)
commitments = st.lists(
    st.builds(
        lambda gpus, span, region, gpu_type: commitment("", gpus, *span, region=region, gpu_type=gpu_type),
        st.integers(0, 12),
        minutes,
        st.sampled_from([None, *REGIONS]),
        st.sampled_from(TYPES),
    ),
    max_size=5,
).map(lambda found: [dataclasses.replace(each, id=f"c{place}") for place, each in enumerate(found)])


def test_part_of_what_is_held_is_covered_in_proportion_to_gpus() -> None:
    found = cover([holding("a", 6), holding("b", 2)], [commitment("c", 4)], *PERIOD)
    covered, overflow, unused = hours(found)
    assert covered == {("a", "c"): 30, ("b", "c"): 10}
    assert overflow == {"a": 30, "b": 10}
    assert unused == {}


def test_what_nobody_holds_of_a_commitment_is_unused() -> None:
    covered, overflow, unused = hours(cover([holding("a", 1, 2, 4)], [commitment("c", 3, 0, 5)], *PERIOD))
    assert (covered, overflow) == ({("a", "c"): 2}, {})
    assert unused == {"c": 13}


def test_commitment_of_a_region_is_used_before_one_of_any_region() -> None:
    here, everywhere = commitment("z", 2, region=REGIONS[0]), commitment("a", 2, -5)
    covered, overflow, unused = hours(
        cover([holding("de", 3), holding("us", 1, region=REGIONS[1])], [everywhere, here], *PERIOD)
    )
    assert covered == {("de", "z"): 20, ("de", "a"): 10, ("us", "a"): 10}
    assert overflow == {}
    assert unused == {}


def test_of_two_alike_the_one_that_began_first_is_used_first_then_the_lower_id() -> None:
    older, newer, twin = commitment("b", 1, -9), commitment("a", 1, -1), commitment("c", 1, -1)
    covered, _, unused = hours(cover([holding("k", 2)], [twin, newer, older], *PERIOD))
    assert covered == {("k", "b"): 10, ("k", "a"): 10}
    assert unused == {"c": 10}


def test_another_gpu_type_is_never_covered() -> None:
    covered, overflow, unused = hours(cover([holding("a", 1, gpu_type="l4")], [commitment("c", 1)], *PERIOD))
    assert (covered, overflow, unused) == ({}, {"a": 10}, {"c": 10})


def test_a_commitment_over_the_change_of_clocks_is_paid_for_every_hour_there_was() -> None:
    march = month_of(2026, 3, "Europe/Berlin")  # 23 hours on the 29th
    zone = ZoneInfo("Europe/Berlin")
    long = Commitment(
        id="c", gpu_type="h100", region=None, gpus=1, rate=Decimal(2),
        start=dt.datetime(2026, 1, 1, tzinfo=zone), end=dt.datetime(2027, 1, 1, tzinfo=zone),
    )  # fmt: skip
    found = cover([], [long], march.start, march.end)
    assert [(each.start, each.end) for each in found.unused] == [(march.start, march.end)]
    assert hours(found)[2] == {"c": 31 * 24 - 1}


@given(holdings, commitments)
def test_everything_held_is_covered_or_beyond(held: list[Holding], committed: list[Commitment]) -> None:
    covered, overflow, _ = hours(cover(held, committed, *PERIOD))
    expected: defaultdict[str, Fraction] = defaultdict(Fraction)
    for each in held:
        expected[each.key] += each.gpus * _length(each.start, each.end)
    answered: defaultdict[str, Fraction] = defaultdict(Fraction, overflow)
    for (key, _), gpu_hours in covered.items():
        answered[key] += gpu_hours
    assert {key: value for key, value in answered.items() if value} == {
        key: value for key, value in expected.items() if value
    }


@given(holdings, commitments)
def test_everything_committed_is_covering_or_unused(held: list[Holding], committed: list[Commitment]) -> None:
    covered, _, unused = hours(cover(held, committed, *PERIOD))
    for each in committed:
        used = sum((value for (_, id_), value in covered.items() if id_ == each.id), Fraction(0))
        assert used + unused.get(each.id, 0) == each.gpus * _length(each.start, each.end)


@given(holdings, commitments)
def test_nothing_is_negative_and_nothing_unused_while_something_fitting_is_beyond(
    held: list[Holding], committed: list[Commitment]
) -> None:
    held = [dataclasses.replace(each, key=(each.key, each.gpu_type, each.region)) for each in held]
    found = cover(held, committed, *PERIOD)
    pieces = [*found.covered, *found.overflow, *found.unused]
    assert all(each.gpu_seconds > 0 and each.start < each.end for each in pieces)
    by_id = {each.id: each for each in committed}
    for spare in found.unused:
        of = by_id[spare.commitment_id]
        for beyond in found.overflow:
            _, gpu_type, region = beyond.key
            fits = gpu_type == of.gpu_type and of.region in (None, region)
            assert not (fits and spare.start < beyond.end and beyond.start < spare.end)


@given(holdings, commitments, st.randoms(use_true_random=False))
def test_order_of_input_does_not_matter(held: list[Holding], committed: list[Commitment], random) -> None:
    found = cover(held, committed, *PERIOD)
    random.shuffle(held)
    random.shuffle(committed)
    assert cover(held, committed, *PERIOD) == found


@given(holdings, commitments, st.data())
def test_cutting_an_interval_or_gpus_into_parts_changes_nothing(
    held: list[Holding], committed: list[Commitment], data: st.DataObject
) -> None:
    parts: list[Holding] = []
    for each in held:
        gpus = data.draw(st.integers(0, each.gpus))
        middle = each.start + (each.end - each.start) * data.draw(st.integers(0, 8)) / 8
        parts += [
            dataclasses.replace(each, gpus=gpus),
            dataclasses.replace(each, gpus=each.gpus - gpus, end=middle),
            dataclasses.replace(each, gpus=each.gpus - gpus, start=middle),
        ]
    assert cover(parts, committed, *PERIOD) == cover(held, committed, *PERIOD)


@given(holdings, commitments, st.integers(0, 160))
def test_two_parts_of_a_period_sum_to_the_whole(
    held: list[Holding], committed: list[Commitment], quarters: int
) -> None:
    middle = at(quarters / 4)
    first, second = cover(held, committed, PERIOD[0], middle), cover(held, committed, middle, PERIOD[1])
    both = Coverage(
        covered=first.covered + second.covered,
        overflow=first.overflow + second.overflow,
        unused=first.unused + second.unused,
    )
    assert hours(both) == hours(cover(held, committed, *PERIOD))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: holding("a", -1), "fewer than none"),
        (lambda: holding("a", 1, 5, 4), "before"),
        (lambda: dataclasses.replace(commitment("c", 1), rate=Decimal(-1)), "not a rate"),
        (lambda: dataclasses.replace(commitment("c", 1), start=dt.datetime(2026, 3, 1)), "time zone"),
        (lambda: cover([], [commitment("c", 1), commitment("c", 2)], *PERIOD), "have the id c"),
        (lambda: cover([], [], PERIOD[1], PERIOD[0]), "before"),
    ],
)
def test_what_cannot_be_is_refused(make, complaint: str) -> None:
    with pytest.raises(CommitmentError, match=complaint):
        make()


def _length(start: dt.datetime, end: dt.datetime) -> Fraction:
    """Hours of an interval that lie in the period."""
    seconds = (min(end, PERIOD[1]) - max(start, PERIOD[0])) // dt.timedelta(microseconds=1)
    return max(Fraction(0), Fraction(seconds, 3_600_000_000))
