"""Prices on quantities that the database summed: one step of a charge for each."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

from billing.quantities import Held, Used
from billing.rating.charges import Step, Tokens
from billing.rating.prices import ONE, PriceBook, PriceKind, Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rated:
    """A quantity of one kind with its price; ``step`` is None where the list holds no price for it."""

    kind: PriceKind
    subject: Subject
    quantity: Decimal
    step: Step | None

    @property
    def exact(self) -> Fraction:
        """The exact amount, 0 without a price."""
        return self.step.exact if self.step else Fraction(0)

    @property
    def missing(self) -> str:
        """Say which price is missing, empty if none is."""
        if self.step:
            return ""
        # Tokens that have no price have none in any region, as a rule: told once.
        of_gpus = self.kind == PriceKind.GPU_HOUR
        subject = self.subject if of_gpus else dataclasses.replace(self.subject, region=None)
        return f"no {self.kind} price for {subject}"


def rate_held(book: PriceBook, held: Held) -> Rated:
    """Price GPU time within whose interval no price changes, at the factor of its SLO class."""
    subject = Subject(gpu_type=held.gpu_type, region=held.region)
    return _rated(
        book,
        PriceKind.GPU_HOUR,
        subject,
        held.gpu_seconds,
        held.start,
        held.end,
        factor=held.price_factor.normalize(),
    )


def rate_used(book: PriceBook, used: Used) -> Iterator[Rated]:
    """Price the tokens of whole hours: uncached input, output and cached input, where there are any.

    A price that names no class is multiplied by the factor that is in force for the class.
    """
    subject = Subject(model=used.model, slo_class=used.slo_class, region=used.region)
    tokens = Tokens.reported(
        prompt=used.input_tokens, completion=used.output_tokens, cached=used.cached_tokens
    )
    for kind, count in (
        (PriceKind.INPUT_TOKENS, tokens.input),
        (PriceKind.OUTPUT_TOKENS, tokens.output),
        (PriceKind.CACHED_TOKENS, tokens.cached),
    ):
        if count:
            yield _rated(book, kind, subject, Decimal(count), used.start, used.end)


def _rated(
    book: PriceBook,
    kind: PriceKind,
    subject: Subject,
    quantity: Decimal,
    start: dt.datetime,
    end: dt.datetime,
    *,
    factor: Decimal = ONE,
) -> Rated:
    # Tokens are known by the hour: a first price that begins within an hour holds for all of it.
    begins = book.begins(kind, subject)
    if begins is None or begins >= end:
        return Rated(kind=kind, subject=subject, quantity=quantity, step=None)
    moment = max(start, begins)
    price = book.price_of(kind, moment, subject)
    step = Step(
        price_id=price.id,
        unit=kind.unit,
        quantity=quantity,
        unit_price=price.amount,
        per=kind.per,
        factor=factor * book.factor_of(price, moment, subject).normalize(),
        start=start,
        end=end,
    )
    return Rated(kind=kind, subject=subject, quantity=quantity, step=step)
