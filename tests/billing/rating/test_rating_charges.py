"""What allocations and tokens cost, exactly, and how it was reached."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating.charges import Charge, Tokens, allocation_charges, totals, usage_charges
from billing.rating.prices import MissingPrice, Price, PriceBook, PriceError, PriceKind, Subject

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def hourly(id: str, amount: str, *, hours: int = 0, currency: str = "USD") -> Price:
    return Price(
        id=id,
        kind=PriceKind.GPU_HOUR,
        amount=Decimal(amount),
        currency=currency,
        effective_from=START + dt.timedelta(hours=hours),
    )


def token_prices() -> PriceBook:
    amounts = {
        PriceKind.INPUT_TOKENS: "0.20",
        PriceKind.OUTPUT_TOKENS: "0.80",
        PriceKind.CACHED_TOKENS: "0.05",
    }
    return PriceBook(
        Price(id=kind, kind=kind, amount=Decimal(amount), currency="USD", effective_from=START)
        for kind, amount in amounts.items()
    )


def test_allocation_is_gpu_hours_times_price_split_where_it_changes() -> None:
    book = PriceBook([hourly("old", "2.50"), hourly("new", "3.10", hours=2)])
    (charge,) = allocation_charges(
        book=book, start=START, end=START + dt.timedelta(hours=3), gpus=4, subject=Subject()
    )
    assert charge.exact == 4 * (2 * Fraction("2.5") + Fraction("3.1"))
    assert [(step.price_id, step.quantity) for step in charge.how] == [("old", 28800), ("new", 14400)]
    assert charge.amount == Decimal("32.4")


def test_a_third_of_an_hour_is_not_rounded() -> None:
    (charge,) = allocation_charges(
        book=PriceBook([hourly("p", "1")]), start=START, end=START + dt.timedelta(minutes=20), gpus=1,
        subject=Subject(),
    )  # fmt: skip
    assert charge.exact == Fraction(1, 3)
    assert charge.amount == Decimal("0.333333333333333")


def test_tokens_of_each_kind_are_charged_apart_with_the_class_factor() -> None:
    charges = usage_charges(
        book=token_prices(),
        when=START,
        tokens=Tokens.reported(prompt=1_000_000, completion=500_000, cached=400_000),
        subject=Subject(model="m"),
        factor=Decimal("1.5"),
    )
    assert {charge.kind: charge.amount for charge in charges} == {
        PriceKind.INPUT_TOKENS: Decimal("0.18"),
        PriceKind.OUTPUT_TOKENS: Decimal("0.60"),
        PriceKind.CACHED_TOKENS: Decimal("0.03"),
    }
    assert totals(charges) == {"USD": Fraction("0.81")}


def test_how_is_json_and_leads_to_the_amount() -> None:
    (charge,) = usage_charges(
        book=token_prices(), when=START, tokens=Tokens(output=7), subject=Subject(), factor=Decimal("0.5")
    )
    (step,) = json.loads(json.dumps([step.to_document() for step in charge.how]))
    assert step == {
        "price": "output_tokens",
        "unit": "token",
        "quantity": "7",
        "unit_price": "0.80",
        "per": 1_000_000,
        "factor": "0.5",
        "product": "0.000002800000000",
        "start": None,
        "end": None,
    }


def test_nothing_used_needs_no_price_and_something_used_does() -> None:
    empty = PriceBook([])
    assert usage_charges(book=empty, when=START, tokens=Tokens(), subject=Subject()) == ()
    with pytest.raises(MissingPrice, match="cached_tokens price for model m"):
        usage_charges(book=empty, when=START, tokens=Tokens(cached=1), subject=Subject(model="m"))


def test_a_price_that_changes_currency_gives_a_charge_in_each() -> None:
    book = PriceBook([hourly("usd", "2"), hourly("eur", "1", hours=1, currency="EUR")])
    charges = allocation_charges(
        book=book, start=START, end=START + dt.timedelta(hours=2), gpus=1, subject=Subject()
    )
    assert totals(charges) == {"EUR": 1, "USD": 2}


def test_bad_quantities_are_refused() -> None:
    with pytest.raises(ValueError, match="cached tokens"):
        Tokens.reported(prompt=1, completion=1, cached=2)
    with pytest.raises(ValueError, match="negative"):
        Tokens(output=-1)
    with pytest.raises(PriceError, match="factor"):
        usage_charges(
            book=token_prices(), when=START, tokens=Tokens(input=1), subject=Subject(), factor=Decimal(-1)
        )
    with pytest.raises(PriceError, match="GPUs"):
        allocation_charges(book=PriceBook([]), start=START, end=START, gpus=-1, subject=Subject())


def exact(charges: tuple[Charge, ...]) -> Fraction:
    return totals(charges).get("USD", Fraction(0))


@settings(deadline=None)
@given(
    cuts=st.lists(st.integers(0, 10**11), max_size=8),
    gpus=st.integers(0, 64),
    amounts=st.lists(st.decimals(0, 100, places=7), min_size=1, max_size=4),
    factor=st.decimals(0, 3, places=3),
)
def test_any_split_of_an_interval_costs_what_the_whole_costs(
    cuts: list[int], gpus: int, amounts: list[Decimal], factor: Decimal
) -> None:
    book = PriceBook(
        hourly(f"p{index}", str(amount), hours=7 * index) for index, amount in enumerate(amounts)
    )
    marks = sorted({0, 10**11, *cuts})
    instants = [START + dt.timedelta(microseconds=mark) for mark in marks]

    def cost(start: dt.datetime, end: dt.datetime) -> Fraction:
        return exact(
            allocation_charges(book=book, start=start, end=end, gpus=gpus, subject=Subject(), factor=factor)
        )

    parts = [cost(start, end) for start, end in itertools.pairwise(instants)]
    assert sum(parts) == cost(instants[0], instants[-1])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12)), max_size=6)
)
def test_tokens_cost_the_same_together_and_apart_in_any_order(counts: list[tuple[int, int, int]]) -> None:
    book = token_prices()

    def cost(tokens: Tokens) -> Fraction:
        return exact(usage_charges(book=book, when=START, tokens=tokens, subject=Subject()))

    apart = [cost(Tokens(input=one, output=two, cached=three)) for one, two, three in counts]
    together = Tokens(
        input=sum(count[0] for count in counts),
        output=sum(count[1] for count in counts),
        cached=sum(count[2] for count in counts),
    )
    assert sum(reversed(apart)) == sum(apart) == cost(together)
