"""What a request may cost at most and what it did cost, in whole smallest units of a budget."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gateway.contract import BudgetUnit, TokenPrices, to_units
from gateway.demand import Demand
from gateway.replies import Usage

_MILLION = 1_000_000


class Tariff(NamedTuple):
    """What one token costs, in 1e-16 of the currency."""

    currency: str
    input: int
    output: int
    cached: int


@lru_cache(maxsize=4096)
def tariff(prices: TokenPrices) -> Tariff:
    """Read prices per million tokens.

    Raises:
        ValueError: one is no number, negative, or finer than 1e-10.
    """
    kinds = (prices.input, prices.output, prices.cached)
    per_million = [to_units(text, BudgetUnit.MONEY) for text in kinds]
    if any(units < 0 or units % _MILLION for units in per_million):
        raise ValueError(f"the prices {', '.join(kinds)} are negative or finer than 1e-10")
    return Tariff(prices.currency, *(units // _MILLION for units in per_million))


def most_money(demand: Demand, rates: Tariff) -> int:
    """Give what ``demand`` may cost at most: every input token at the dearer of its prices."""
    return demand.input_tokens * max(rates.input, rates.cached) + (
        demand.max_tokens * demand.choices * rates.output
    )


def money(usage: Usage, rates: Tariff) -> int:
    """Give what was used at its prices, cached input apart."""
    cached = min(usage.cached_tokens, usage.input_tokens)
    return (
        (usage.input_tokens - cached) * rates.input
        + cached * rates.cached
        + usage.output_tokens * rates.output
    )
