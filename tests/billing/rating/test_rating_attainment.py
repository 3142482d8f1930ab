"""When a month misses a target, at the edges."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.attainment import DayKept, Target, judge
from billing.statements.attainment import missed_targets
from billing.statements.inputs import Attained


def day(number=1, **facts) -> DayKept:
    usual = {
        "day": dt.date(2026, 5, number),
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


def test_latency_targets_and_credit_are_those_of_the_last_day():
    days = [day(2, credit_percent=Decimal(25), itl_p95_ms=None, itl_met=20), day(1, failed=9, itl_met=0)]
    found = judge(days)
    assert (found.credit_percent, found.itl, found.missed) == (25, None, (Target.AVAILABILITY,))


@pytest.mark.parametrize("wrong", [{"failed": 1001}, {"ttft_met": 21}, {"itl_met": -1}, {"requests": 0}])
def test_days_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="cannot"):
        judge([day(**wrong)])


@st.composite
def kept_days(draw):
    """Days of one month, each at most once."""
    numbers = draw(st.lists(st.integers(1, 31), unique=True, max_size=31))
    return [draw(_kept_day(number)) for number in numbers]


@st.composite
def _kept_day(draw, number):
    requests, hours = draw(st.sampled_from([(0, 0), (10**6, 24), (7, 3), (1, 1)]))
    return day(
        number, requests=requests, failed=draw(st.integers(0, requests)), hours=hours,
        ttft_met=draw(st.integers(0, hours)), itl_met=draw(st.integers(0, hours)),
        ttft_p95_ms=draw(st.sampled_from([None, 500])), credit_percent=Decimal(draw(st.integers(0, 100))),
        availability=draw(st.sampled_from([Decimal("0.999"), Decimal("0.95")])),
    )  # fmt: skip


@given(kept_days(), st.randoms(use_true_random=False))
def test_days_count_alike_in_any_order(days, shuffler: random.Random):
    shuffled = list(days)
    shuffler.shuffle(shuffled)
    assert judge(days) == judge(shuffled)


@given(kept_days())
def test_without_failures_and_with_every_hour_met_nothing_is_missed(days):
    better = [dataclasses.replace(each, failed=0, ttft_met=each.hours, itl_met=each.hours) for each in days]
    assert judge(better).missed == ()


@given(kept_days())
def test_what_a_statement_credits_is_what_pages_say_was_missed(days):
    used = [each for each in sorted(days, key=lambda each: each.day) if each.requests]
    if not used:
        return
    last = used[-1]
    attained = Attained(
        project_id="p", endpoint_id="e", slo_class="standard", availability=last.availability,
        ttft_p95_ms=last.ttft_p95_ms, itl_p95_ms=last.itl_p95_ms, credit_percent=last.credit_percent,
        requests=sum(each.requests for each in used), failed=sum(each.failed for each in used),
        allowed=sum((each.requests * (1 - each.availability) for each in used), Decimal(0)),
        hours=sum(each.hours for each in used), ttft_met=sum(each.ttft_met for each in used),
        itl_met=sum(each.itl_met for each in used),
    )  # fmt: skip
    found = judge(days)
    assert [text.split()[0].lower() for text in missed_targets(attained)] == [
        str(each) for each in found.missed
    ]
    assert found.credit_percent == (last.credit_percent if found.missed else 0)
