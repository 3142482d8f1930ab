"""The one rounding: exact amounts become lines whose sum is the rounded total."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

from billing.rating.charges import scaled

#: Currencies whose minor unit is not a hundredth (ISO 4217).
CURRENCY_PLACES: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV",
         "XAF", "XOF", "XPF"),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip


def places_of(currency: str) -> int:
    """Decimal places of a currency's minor unit: USD and EUR 2, JPY 0.

    Raises:
        ValueError: not a three-letter code.
    """
    if len(currency) != 3 or not currency.isascii() or not currency.isalpha() or not currency.isupper():
        raise ValueError(f"{currency!r} is not a currency code of three capital letters")
    return CURRENCY_PLACES.get(currency, 2)


def round_amount(exact: Fraction | Decimal, places: int) -> Decimal:
    """Round one amount to ``places``, halves away from zero."""
    units = Fraction(exact) * 10**places
    away = math.floor(abs(units) + Fraction(1, 2))
    return scaled(away if units >= 0 else -away, places)


def round_lines(amounts: Mapping[str, Fraction | Decimal], places: int) -> dict[str, Decimal]:
    """Round lines of one currency by largest remainder, so that they sum to the rounded total.

    Each line is its exact amount rounded down or up to ``places``; those with the largest remainders
    go up, of equal ones the lower key. The result does not depend on the order of ``amounts`` and
    an amount that needs no rounding stays.
    """
    exact = {key: Fraction(amount) for key, amount in amounts.items()}
    common = math.lcm(*(amount.denominator for amount in exact.values()))
    scale = 10**places
    return _by_remainder(
        {key: amount.numerator * (common // amount.denominator) * scale for key, amount in exact.items()},
        common,
        places,
    )


def share_out(amount: Fraction, weights: Mapping[str, int], places: int) -> dict[str, Decimal]:
    """Split an amount in proportion to whole weights, rounded as :func:`round_lines` rounds the exact parts.

    Raises:
        ZeroDivisionError: the weights sum to nothing.
    """
    whole = amount * 10**places
    return _by_remainder(
        {key: whole.numerator * weight for key, weight in weights.items()},
        whole.denominator * sum(weights.values()),
        places,
    )


def _by_remainder(numerators: Mapping[str, int], denominator: int, places: int) -> dict[str, Decimal]:
    """Round fractions of one denominator, in units of the last place: whole numbers are all it takes."""
    lines: dict[str, int] = {}
    rests: dict[str, int] = {}
    for key, numerator in numerators.items():
        lines[key], rests[key] = divmod(numerator, denominator)
    total = sum(numerators.values())
    away = (2 * abs(total) + denominator) // (2 * denominator)
    ups = (away if total >= 0 else -away) - sum(lines.values())
    for key in sorted(rests, key=lambda key: (-rests[key], key))[:ups]:
        lines[key] += 1
    return {key: scaled(line, places) for key, line in lines.items()}
