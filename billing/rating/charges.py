"""Charges: quantities times prices, exact, with how each was reached.

A price per hour on seconds is a fraction of 3600, which no Decimal holds; exact amounts are
therefore :class:`~fractions.Fraction` until :mod:`billing.rating.rounding` makes lines of them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import Final

from billing.rating.prices import ONE, Price, PriceBook, PriceError, PriceKind, Subject

#: Decimal places in which unrounded amounts are shown and stored.
SHOWN_PLACES: Final = 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One product: quantity x unit price x factor / per. ``start`` and ``end`` where time is charged."""

    price_id: str
    unit: str
    quantity: Decimal
    unit_price: Decimal
    per: int
    factor: Decimal
    start: dt.datetime | None = None
    end: dt.datetime | None = None

    @property
    def exact(self) -> Fraction:
        """The product, exact."""
        return Fraction(self.quantity) * Fraction(self.unit_price) * Fraction(self.factor) / self.per

    def to_document(self) -> dict[str, str | int | None]:
        """Give the step as JSON-ready builtins, numbers as decimal strings."""
        return {
            "price": self.price_id,
            "unit": self.unit,
            "quantity": _plain(self.quantity),
            "unit_price": _plain(self.unit_price),
            "per": self.per,
            "factor": _plain(self.factor),
            "product": _plain(shown(self.exact)),
            "start": self.start.isoformat() if self.start else None,
            "end": self.end.isoformat() if self.end else None,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Charge:
    """What one thing costs in one currency, unrounded, and the steps that make it up."""

    kind: PriceKind
    currency: str
    how: tuple[Step, ...]

    @property
    def exact(self) -> Fraction:
        """The sum of the steps, exact."""
        return sum((step.exact for step in self.how), Fraction(0))

    @property
    def amount(self) -> Decimal:
        """The exact amount as a Decimal of :data:`SHOWN_PLACES` places, to show and to store."""
        return shown(self.exact)

    @property
    def quantity(self) -> Decimal:
        """GPU-seconds or tokens over all steps."""
        return sum((step.quantity for step in self.how), Decimal(0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of requests, each counted once: ``input`` is without what came from a cache."""

    input: int = 0
    output: int = 0
    cached: int = 0

    def __post_init__(self) -> None:
        if min(self.input, self.output, self.cached) < 0:
            raise ValueError("tokens cannot be negative")

    @classmethod
    def reported(cls, *, prompt: int, completion: int, cached: int = 0) -> Tokens:
        """Take counts as OpenAI's usage object gives them, where the prompt includes what was cached.

        Raises:
            ValueError: more was cached than prompted.
        """
        if cached > prompt:
            raise ValueError(f"{cached} cached tokens of a prompt of {prompt}")
        return cls(input=prompt - cached, output=completion, cached=cached)


def allocation_charges(
    *,
    book: PriceBook,
    start: dt.datetime,
    end: dt.datetime,
    gpus: int,
    subject: Subject,
    factor: Decimal = ONE,
) -> tuple[Charge, ...]:
    """Charge ``gpus`` held from ``start`` to ``end``, split where the price per GPU-hour changes.

    One charge for each currency, which is one unless the price changed its currency.

    Raises:
        MissingPrice: no price is in force for a part of the interval.
        PriceError: the interval ends before it starts, or a count or factor is negative.
    """
    if gpus < 0:
        raise PriceError(f"{gpus} GPUs cannot be held")
    kind = PriceKind.GPU_HOUR
    steps = [
        (segment.price, _step(segment.price, gpus * _seconds(segment.end - segment.start), factor,
                              segment.start, segment.end))
        for segment in book.segments_of(kind, start, end, subject)
    ]  # fmt: skip
    return _by_currency(kind, steps) if gpus else ()


def usage_charges(
    *, book: PriceBook, when: dt.datetime, tokens: Tokens, subject: Subject, factor: Decimal = ONE
) -> tuple[Charge, ...]:
    """Charge tokens used at ``when``: one charge each for input, output and cached ones, where there are any.

    A price that names no class is multiplied by the factor of the subject's class and by ``factor``.

    Raises:
        MissingPrice: tokens of a kind that has no price in force.
        PriceError: the factor is negative.
    """
    counts = {
        PriceKind.INPUT_TOKENS: tokens.input,
        PriceKind.OUTPUT_TOKENS: tokens.output,
        PriceKind.CACHED_TOKENS: tokens.cached,
    }
    charges: list[Charge] = []
    for kind, count in counts.items():
        if count:
            price = book.price_of(kind, when, subject)
            of_class = book.factor_of(price, when, subject)
            charges += _by_currency(kind, [(price, _step(price, Decimal(count), factor * of_class))])
    return tuple(charges)


def totals(charges: Iterable[Charge]) -> Mapping[str, Fraction]:
    """Sum charges exactly, each currency apart, in the currencies' alphabetical order."""
    sums: defaultdict[str, Fraction] = defaultdict(Fraction)
    for charge in charges:
        sums[charge.currency] += charge.exact
    return dict(sorted(sums.items()))


def shown(exact: Fraction, places: int = SHOWN_PLACES) -> Decimal:
    """Give an exact amount as a Decimal of ``places`` places, half to even."""
    units, rest = divmod(exact.numerator * 10**places, exact.denominator)
    if 2 * rest > exact.denominator or (2 * rest == exact.denominator and units % 2):
        units += 1
    return scaled(units, places)


def scaled(units: int, places: int) -> Decimal:
    """Give a whole number of units of ``10**-places`` as a Decimal of ``places`` places, exact."""
    return Decimal(units).scaleb(-places) if abs(units) < 10**27 else _long(units, places)


def _long(units: int, places: int) -> Decimal:
    with localcontext(prec=len(str(abs(units))) + places, rounding=ROUND_HALF_EVEN):
        return Decimal(units).scaleb(-places)


def _step(
    price: Price,
    quantity: Decimal,
    factor: Decimal,
    start: dt.datetime | None = None,
    end: dt.datetime | None = None,
) -> Step:
    if not factor.is_finite() or factor < 0:
        raise PriceError(f"{factor} is not a factor of 0 or more")
    return Step(
        price_id=price.id,
        unit=price.kind.unit,
        quantity=quantity,
        unit_price=price.amount,
        per=price.kind.per,
        factor=factor,
        start=start,
        end=end,
    )


def _by_currency(kind: PriceKind, steps: list[tuple[Price, Step]]) -> tuple[Charge, ...]:
    grouped: defaultdict[str, list[Step]] = defaultdict(list)
    for price, step in steps:
        grouped[price.currency].append(step)
    return tuple(
        Charge(kind=kind, currency=currency, how=tuple(of)) for currency, of in sorted(grouped.items())
    )


def _seconds(length: dt.timedelta) -> Decimal:
    return Decimal(length // dt.timedelta(microseconds=1)).scaleb(-6)


def _plain(number: Decimal) -> str:
    return format(number, "f")
