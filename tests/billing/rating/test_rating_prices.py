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


def token_price(id: str, amount: str, **facts) -> Price:
    return price(id, amount, kind=PriceKind.INPUT_TOKENS, **facts)


def class_factor(id: str, amount: str, **facts) -> Price:
    return price(id, amount, kind=PriceKind.CLASS_FACTOR, **facts)


def test_a_class_multiplies_token_prices_that_name_none() -> None:
    book = PriceBook(
        [
            token_price("any", "2"), token_price("own", "3", slo_class="batch"),
            class_factor("batch", "0.5", slo_class="batch"), class_factor("fast", "1.5", slo_class="fast"),
            class_factor("faster", "1.75", slo_class="fast", day=3), price("gpu", "4"),
        ]
    )  # fmt: skip

    def amount(kind: PriceKind, day: int, slo_class: str) -> Decimal:
        return book.amount_of(kind, JANUARY + dt.timedelta(days=day), Subject(slo_class=slo_class))

    assert amount(PriceKind.INPUT_TOKENS, 0, "fast") == Decimal("3")
    assert amount(PriceKind.INPUT_TOKENS, 3, "fast") == Decimal("3.5")
    assert amount(PriceKind.INPUT_TOKENS, 3, "standard") == Decimal("2")
    assert amount(PriceKind.INPUT_TOKENS, 3, "batch") == Decimal("3")
    assert amount(PriceKind.GPU_HOUR, 3, "fast") == Decimal("4")
    assert book.changes({PriceKind.CLASS_FACTOR}) == {JANUARY, JANUARY + dt.timedelta(days=3)}


def test_a_tenants_own_factor_wins_and_is_nobody_elses() -> None:
    prices = [token_price("list", "2"), class_factor("l", "1.5", slo_class="fast")]
    own = [class_factor("o", "0.9", tenant="acme")]
    subject = Subject(slo_class="fast")
    assert PriceBook(own, prices, tenant="acme").amount_of(
        PriceKind.INPUT_TOKENS, JANUARY, subject
    ) == Decimal("1.8")
    assert PriceBook(own, prices, tenant="b").amount_of(PriceKind.INPUT_TOKENS, JANUARY, subject) == 3
    assert PriceBook(prices).amount_of(PriceKind.INPUT_TOKENS, JANUARY, subject) == 3


def test_a_book_that_is_tried_holds_instead_of_the_list_for_what_it_prices() -> None:
    live = [price("all", "4"), price("l4", "1", gpu_type="l4"), price("later", "5", day=9)]
    book = PriceBook([price("tried", "2", day=3)], live)
    answers = {
        day: book.at(PriceKind.GPU_HOUR, JANUARY + dt.timedelta(days=day), gpu_type="h100").id
        for day in (2, 3, 10)
    }
    assert answers == {2: "all", 3: "tried", 10: "tried"}
    assert book.at(PriceKind.GPU_HOUR, JANUARY + dt.timedelta(days=10), gpu_type="l4").id == "l4"


selectors = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from([None, "t", "u"]),
        "gpu_type": st.sampled_from([None, "a", "b"]),
        "region": st.sampled_from([None, "r", "s"]),
    }
)


@given(
    st.lists(st.tuples(selectors, st.integers(0, 6)), max_size=25),
    st.lists(st.tuples(selectors, st.integers(0, 6)), max_size=8),
    selectors,
    st.integers(0, 7),
)
def test_the_price_found_is_the_one_that_a_walk_over_all_finds(listed, tried, subject, day) -> None:
    live = [price(f"l{n:03}", "1", day=of[1], **of[0]) for n, of in enumerate(listed)]
    over = [price(f"o{n:03}", "1", day=of[1], **of[0]) for n, of in enumerate(tried)]
    when, asked = JANUARY + dt.timedelta(days=day), Subject(**subject)
    best = max(
        ((each, layer) for layer, prices in ((0, live), (1, over)) for each in prices
         if each.covers(asked) and each.effective_from <= when),
        key=lambda found: (found[0].specificity, found[1], found[0].effective_from, found[0].id),
        default=None,
    )  # fmt: skip
    book = PriceBook(over, live)
    if best is None:
        with pytest.raises(MissingPrice):
            book.price_of(PriceKind.GPU_HOUR, when, asked)
    else:
        assert book.price_of(PriceKind.GPU_HOUR, when, asked) is best[0]
