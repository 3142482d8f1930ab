"""When a month misses a target, at the edges."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.attainment import DayKept, Target, judge


def day(**facts) -> DayKept:
    usual = {
        "availability": Decimal("0.999"), "ttft_p95_ms": 500, "itl_p95_ms": 40, "credit_percent": Decimal(10),
        "requests": 1000, "failed": 0, "hours": 20, "ttft_met": 20, "itl_met": 20,
    }  # fmt: skip
    return DayKept(**usual | facts)


def test_a_month_without_requests_is_neither_kept_nor_missed():
    found = judge([day(requests=0, hours=0, ttft_met=0, itl_met=0)])
    assert found == judge([])
    assert (found.kept, found.missed, found.credit_percent) == (None, (), 0)
    assert found.availability is found.ttft is found.itl is found.availability_target is None


def test_availability_at_its_target_is_kept_and_one_failure_more_is_not():
    assert judge([day(failed=1)]).missed == ()
    found = judge([day(failed=2)])
    assert found.missed == (Target.AVAILABILITY,)
    assert (found.availability, found.credit_percent, found.kept) == (Fraction(998, 1000), 10, False)


def test_a_bad_day_is_made_up_for_by_the_rest_of_the_month():
    assert judge([day(failed=20), *[day()] * 18]).missed == (Target.AVAILABILITY,)
    assert judge([day(failed=20), *[day()] * 19]).missed == ()


def test_a_latency_is_kept_when_95_percent_of_the_hours_met_it():
    assert judge([day(ttft_met=19)]).missed == ()
    found = judge([day(ttft_met=18, itl_met=18)])
    assert found.missed == (Target.TTFT, Target.ITL)
    assert found.ttft == Fraction(9, 10)


def test_what_has_no_target_cannot_be_missed():
    found = judge([day(ttft_p95_ms=None, itl_p95_ms=None)])
    assert (found.ttft, found.itl, found.kept) == (None, None, True)


def test_a_target_that_changed_holds_for_the_days_it_held():
    strict, loose = day(availability=Decimal("0.999"), failed=0), day(availability=Decimal("0.99"), failed=10)
    found = judge([strict, loose])
    assert found.kept
    assert found.availability_target == Fraction(9945, 10000)
    assert judge([strict, day(availability=Decimal("0.99"), failed=12)]).missed == (Target.AVAILABILITY,)


def test_the_highest_credit_of_the_month_counts():
    assert judge([day(failed=9), day(credit_percent=Decimal(25))]).credit_percent == 25


@pytest.mark.parametrize("wrong", [{"failed": 1001}, {"ttft_met": 21}, {"itl_met": -1}])
def test_days_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="cannot"):
        judge([day(**wrong)])


@st.composite
def kept_days(draw):
    requests, hours = draw(st.integers(0, 10**6)), draw(st.integers(0, 24))
    return day(
        requests=requests, failed=draw(st.integers(0, requests)), hours=hours,
        ttft_met=draw(st.integers(0, hours)), itl_met=draw(st.integers(0, hours)),
    )  # fmt: skip


@given(st.lists(kept_days(), max_size=31), st.randoms(use_true_random=False))
def test_days_count_alike_in_any_order(days, shuffler: random.Random):
    shuffled = list(days)
    shuffler.shuffle(shuffled)
    assert judge(days) == judge(shuffled)


@given(st.lists(kept_days(), min_size=1, max_size=31))
def test_fewer_failures_never_miss_more(days):
    better = [
        day(requests=each.requests, hours=each.hours, ttft_met=each.hours, itl_met=each.hours)
        for each in days
    ]
    assert judge(better).missed == ()
