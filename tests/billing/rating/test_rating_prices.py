"""Which price is in force, and what a book without one says."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating.prices import MissingPrice, Price, PriceBook, PriceError, PriceKind, Subject

JANUARY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def price(
    id: str, amount: str, *, day: int = 0, kind: PriceKind = PriceKind.GPU_HOUR, **selectors: str
) -> Price:
    return Price(
        id=id,
        kind=kind,
        amount=Decimal(amount),
        currency="EUR",
        effective_from=JANUARY + dt.timedelta(days=day),
        **selectors,
    )


def test_more_specific_price_wins_over_a_later_general_one() -> None:
    book = PriceBook([price("general", "1", day=5), price("h100", "3", gpu_type="h100_sxm")])
    found = book.at(PriceKind.GPU_HOUR, JANUARY + dt.timedelta(days=9), gpu_type="h100_sxm")
    assert found.id == "h100"


def test_tenants_own_price_wins_over_any_list_price() -> None:
    list_price = price("list", "3", gpu_type="l4", region="eu-de-1", slo_class="batch")
    book = PriceBook([list_price, price("own", "2", tenant="acme")])
    subject = Subject(tenant="acme", gpu_type="l4", region="eu-de-1", slo_class="batch")
    assert book.price_of(PriceKind.GPU_HOUR, JANUARY, subject).id == "own"
    other = Subject(tenant="other", gpu_type="l4", region="eu-de-1", slo_class="batch")
    assert book.price_of(PriceKind.GPU_HOUR, JANUARY, other).id == "list"


def test_later_price_supersedes_from_its_instant_on() -> None:
    book = PriceBook([price("old", "1"), price("new", "2", day=3)])
    change = JANUARY + dt.timedelta(days=3)
    assert book.at(PriceKind.GPU_HOUR, change - dt.timedelta(microseconds=1)).id == "old"
    assert book.at(PriceKind.GPU_HOUR, change).id == "new"


def test_equals_are_resolved_the_same_way_in_any_order() -> None:
    equals = [price("a", "1", region="r"), price("c", "3", region="r"), price("b", "2", region="r")]
    for order in itertools.permutations(equals):
        assert PriceBook(order).at(PriceKind.GPU_HOUR, JANUARY, region="r").id == "c"


def test_missing_price_names_what_is_missing_and_what_to_add() -> None:
    book = PriceBook([price("l4", "1", gpu_type="l4", day=10)])
    with pytest.raises(MissingPrice, match=r"gpu_hour price for gpu_type a30.*: add a gpu_hour price"):
        book.at(PriceKind.GPU_HOUR, JANUARY, gpu_type="a30")
    with pytest.raises(MissingPrice, match=r"the first starts at 2026-01-11.*starts earlier"):
        book.at(PriceKind.GPU_HOUR, JANUARY, gpu_type="l4")


def test_segments_cut_where_the_price_in_force_changes_and_only_there() -> None:
    book = PriceBook(
        [
            price("general", "1"),
            price("special", "2", day=2, region="r"),
            price("general-later", "5", day=4),
            price("elsewhere", "9", day=3, region="x"),
        ]
    )
    end = JANUARY + dt.timedelta(days=6)
    parts = list(book.segments(PriceKind.GPU_HOUR, JANUARY, end, region="r"))
    assert [(part.price.id, (part.end - part.start).days) for part in parts] == [
        ("general", 2),
        ("special", 4),
    ]
    assert list(book.segments(PriceKind.GPU_HOUR, end, end)) == []


def test_segments_over_a_time_without_price_raise() -> None:
    book = PriceBook([price("late", "1", day=1)])
    with pytest.raises(MissingPrice):
        list(book.segments(PriceKind.GPU_HOUR, JANUARY, JANUARY + dt.timedelta(days=2)))


def test_bad_prices_are_refused() -> None:
    with pytest.raises(PriceError, match="0 or more"):
        price("a", "-1")
    with pytest.raises(PriceError, match="0 or more"):
        price("a", "NaN")
    with pytest.raises(PriceError, match="two prices"):
        PriceBook([price("a", "1"), price("a", "2")])
    with pytest.raises(PriceError, match="time zone"):
        Price(
            id="a",
            kind=PriceKind.GPU_HOUR,
            amount=Decimal(1),
            currency="EUR",
            effective_from=dt.datetime(2026, 1, 1),
        )
    with pytest.raises(PriceError, match="cannot end"):
        list(PriceBook([]).segments(PriceKind.GPU_HOUR, JANUARY, JANUARY - dt.timedelta(days=1)))


@settings(deadline=None)
@given(
    days=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    regions=st.lists(st.sampled_from([None, "r"]), min_size=6, max_size=6),
    seed=st.randoms(use_true_random=False),
)
def test_segments_tile_the_interval_and_agree_with_the_book(
    days: list[int], regions: list[str | None], seed: object
) -> None:
    prices = [price("base", "1")]
    for index, day in enumerate(days):
        region = regions[index]
        prices.append(price(f"p{index}", "2", day=day, **({"region": region} if region else {})))
    seed.shuffle(prices)  # type: ignore[attr-defined]
    book, subject = PriceBook(prices), Subject(region="r")
    start, end = JANUARY + dt.timedelta(hours=5), JANUARY + dt.timedelta(days=25)
    parts = list(book.segments_of(PriceKind.GPU_HOUR, start, end, subject))
    assert (parts[0].start, parts[-1].end) == (start, end)
    assert all(one.end == two.start and one.price != two.price for one, two in itertools.pairwise(parts))
    for part in parts:
        assert book.price_of(PriceKind.GPU_HOUR, part.start, subject) == part.price
        assert (
            book.price_of(PriceKind.GPU_HOUR, part.end - dt.timedelta(microseconds=1), subject) == part.price
        )
