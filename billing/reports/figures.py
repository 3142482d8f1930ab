"""Sums as the figures that reports show: GPU-hours, rates, shares, money. Division by nothing gives None."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Final

from billing.rating.charges import shown

HOUR_S: Final = 3600
MILLION: Final = 1_000_000
HOURS_PLACES: Final = 6
MONEY_PLACES: Final = 6
RATE_PLACES: Final = 3
SHARE_PLACES: Final = 6


def gpu_hours(seconds: Decimal) -> Decimal:
    """Give hours of whole GPUs from their seconds."""
    return shown(Fraction(seconds) / HOUR_S, HOURS_PLACES)


def money(amount: Decimal) -> Decimal:
    """Give an amount to be looked at; statements round for themselves."""
    return shown(Fraction(amount), MONEY_PLACES)


def per_million(amount: Decimal, tokens: Decimal) -> Decimal | None:
    """Give what a million tokens came to."""
    return shown(Fraction(amount) * MILLION / Fraction(tokens), MONEY_PLACES) if tokens else None


def rate(count: Decimal, seconds: Decimal) -> Decimal | None:
    """Give how many there were a second."""
    return shown(Fraction(count) / Fraction(seconds), RATE_PLACES) if seconds else None


def share(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    """Give which part of ``whole`` something is; 1 is all of it."""
    if part is None or not whole:
        return None
    return shown(Fraction(part) / Fraction(whole), SHARE_PLACES)
