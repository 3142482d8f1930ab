"""Rounded lines sum to the rounded total, whatever their order."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating.rounding import places_of, round_amount, round_lines, share_out

AMOUNTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.fractions(-10_000, 10_000, max_denominator=10**9),
    max_size=12,
)


def test_three_thirds_make_one() -> None:
    lines = round_lines(dict.fromkeys(("a", "b", "c"), Fraction(1, 3)), 2)
    assert lines == {"a": Decimal("0.34"), "b": Decimal("0.33"), "c": Decimal("0.33")}


def test_largest_remainder_goes_up_first() -> None:
    lines = round_lines({"a": Decimal("0.014"), "b": Decimal("0.016"), "c": Decimal("0.011")}, 2)
    assert lines == {"a": Decimal("0.01"), "b": Decimal("0.02"), "c": Decimal("0.01")}


def test_halves_go_away_from_zero() -> None:
    assert round_amount(Decimal("0.005"), 2) == Decimal("0.01")
    assert round_amount(Decimal("-0.005"), 2) == Decimal("-0.01")
    assert str(round_amount(Decimal(2), 2)) == "2.00"


def test_currencies_have_their_own_places() -> None:
    assert [places_of(code) for code in ("USD", "EUR", "JPY", "KWD")] == [2, 2, 0, 3]
    with pytest.raises(ValueError, match="three capital letters"):
        places_of("usd")


def test_more_places_than_a_currency_has_keep_token_lines_visible() -> None:
    assert round_lines({"tokens": Decimal("0.0000028")}, 6) == {"tokens": Decimal("0.000003")}


def test_no_lines_are_no_lines() -> None:
    assert round_lines({}, 2) == {}


@settings(deadline=None)
@given(amounts=AMOUNTS, places=st.integers(0, 6))
def test_lines_sum_to_the_rounded_total(amounts: dict[str, Fraction], places: int) -> None:
    lines = round_lines(amounts, places)
    assert sum(lines.values()) == round_amount(sum(amounts.values(), Fraction(0)), places)
    for key, exact in amounts.items():
        assert abs(Fraction(lines[key]) - exact) < Fraction(1, 10**places)
        assert exact < 0 or lines[key] >= 0
        if (exact * 10**places).denominator == 1:
            assert Fraction(lines[key]) == exact


@settings(deadline=None)
@given(amounts=AMOUNTS, seed=st.integers())
def test_order_of_lines_does_not_matter(amounts: dict[str, Fraction], seed: int) -> None:
    items = list(amounts.items())
    random.Random(seed).shuffle(items)
    assert round_lines(dict(items), 2) == round_lines(amounts, 2)


@settings(deadline=None)
@given(
    amount=st.fractions(0, 10**9, max_denominator=10**6),
    weights=st.dictionaries(st.text("abc", max_size=3), st.integers(0, 10**12), min_size=1, max_size=8),
    places=st.integers(0, 6),
)
def test_an_amount_shared_out_is_its_exact_parts_rounded(
    amount: Fraction, weights: dict[str, int], places: int
) -> None:
    whole = sum(weights.values())
    if whole:
        parts = {key: amount * weight / whole for key, weight in weights.items()}
        assert share_out(amount, weights, places) == round_lines(parts, places)
