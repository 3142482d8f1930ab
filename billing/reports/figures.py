"""Sums as the figures that reports show: GPU-hours, rates, shares, money. Division by nothing gives None.

Each is rounded once, half to even, from a quotient of 60 digits: sums have at most 40.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

#: Sums of the rows fit into it without rounding.
EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_HOUR_S: Final = Decimal(3600)
_MILLION: Final = Decimal(1_000_000)
_SIX: Final = Decimal("0.000001")
_THREE: Final = Decimal("0.001")


def gpu_hours(seconds: Decimal) -> Decimal:
    """Give hours of whole GPUs from their seconds."""
    return EXACT.quantize(EXACT.divide(seconds, _HOUR_S), _SIX)


def money(amount: Decimal) -> Decimal:
    """Give an amount to be looked at; statements round for themselves."""
    return EXACT.quantize(amount, _SIX)


def per_million(amount: Decimal, tokens: Decimal) -> Decimal | None:
    """Give what a million tokens came to."""
    if not tokens:
        return None
    return EXACT.quantize(EXACT.divide(EXACT.multiply(amount, _MILLION), tokens), _SIX)


def rate(count: Decimal, seconds: Decimal) -> Decimal | None:
    """Give how many there were a second."""
    return EXACT.quantize(EXACT.divide(count, seconds), _THREE) if seconds else None


def share(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    """Give which part of ``whole`` something is; 1 is all of it."""
    if part is None or not whole:
        return None
    return EXACT.quantize(EXACT.divide(part, whole), _SIX)
