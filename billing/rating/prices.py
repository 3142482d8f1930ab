"""Effective-dated prices and the book that finds the one in force.

A price is superseded by a later one, never edited. Amounts are per GPU-hour or per million tokens.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final


class PriceKind(enum.StrEnum):
    """What a price is for."""

    GPU_HOUR = "gpu_hour"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CACHED_TOKENS = "cached_tokens"

    @property
    def unit(self) -> str:
        """The unit in which quantities of this kind are counted."""
        return "gpu_second" if self is PriceKind.GPU_HOUR else "token"

    @property
    def per(self) -> int:
        """How many units one amount pays for: an hour's seconds, or a million tokens."""
        return 3600 if self is PriceKind.GPU_HOUR else 1_000_000


class PriceError(ValueError):
    """A price or a book that cannot be right."""


class MissingPrice(LookupError):
    """No price is in force for what is to be charged; the message says which to add."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is charged, as far as prices may tell it apart."""

    tenant: str | None = None
    model: str | None = None
    gpu_type: str | None = None
    region: str | None = None
    slo_class: str | None = None

    def __str__(self) -> str:
        named = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return ", ".join(f"{name} {value}" for name, value in named if value is not None) or "anything"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Price:
    """One price. A selector that is None holds for every value; ``effective_from`` is aware.

    Raises:
        PriceError: a naive time, a negative or infinite amount.
    """

    id: str
    kind: PriceKind
    amount: Decimal
    currency: str
    effective_from: dt.datetime
    tenant: str | None = None
    model: str | None = None
    gpu_type: str | None = None
    region: str | None = None
    slo_class: str | None = None

    def __post_init__(self) -> None:
        if self.effective_from.tzinfo is None:
            raise PriceError(f"price {self.id}: effective_from needs a time zone")
        if not self.amount.is_finite() or self.amount < 0:
            raise PriceError(f"price {self.id}: {self.amount} is not an amount of 0 or more")

    def covers(self, subject: Subject) -> bool:
        """Say whether every selector is open or names the subject's own value."""
        return all(getattr(self, name) in (None, getattr(subject, name)) for name in SELECTORS)

    @property
    def specificity(self) -> tuple[bool, int, tuple[bool, ...]]:
        """A tenant's own price before a list price, then more selectors, then those named first."""
        selected = tuple(getattr(self, name) is not None for name in SELECTORS)
        return selected[0], sum(selected), selected


SELECTORS: Final = tuple(field.name for field in dataclasses.fields(Subject))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A half-open interval in which one price is in force."""

    start: dt.datetime
    end: dt.datetime
    price: Price


class PriceBook:
    """Finds the price in force. Two books of the same prices answer alike, however they were ordered.

    Raises:
        PriceError: two prices have one id.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices: dict[PriceKind, list[Price]] = {kind: [] for kind in PriceKind}
        ids: set[str] = set()
        for price in prices:
            if price.id in ids:
                raise PriceError(f"two prices have the id {price.id}")
            ids.add(price.id)
            self._prices[price.kind].append(price)

    def at(
        self,
        kind: PriceKind | str,
        when: dt.datetime,
        *,
        tenant: str | None = None,
        model: str | None = None,
        gpu_type: str | None = None,
        region: str | None = None,
        slo_class: str | None = None,
    ) -> Price:
        """Give the most specific price in force at ``when``, of those the one effective last.

        Of equals the highest id wins; ids that grow with time make that the one entered last.

        Raises:
            MissingPrice: none is in force.
        """
        subject = Subject(tenant=tenant, model=model, gpu_type=gpu_type, region=region, slo_class=slo_class)
        return self.price_of(PriceKind(kind), when, subject)

    def price_of(self, kind: PriceKind, when: dt.datetime, subject: Subject) -> Price:
        """Give what :meth:`at` gives, for a subject.

        Raises:
            MissingPrice: none is in force.
        """
        _require_aware(when)
        covering = [price for price in self._prices[kind] if price.covers(subject)]
        in_force = [price for price in covering if price.effective_from <= when]
        if not in_force:
            raise MissingPrice(_missing_message(kind, when, subject, covering))
        return max(in_force, key=lambda price: (price.specificity, price.effective_from, price.id))

    def segments(
        self,
        kind: PriceKind | str,
        start: dt.datetime,
        end: dt.datetime,
        *,
        tenant: str | None = None,
        model: str | None = None,
        gpu_type: str | None = None,
        region: str | None = None,
        slo_class: str | None = None,
    ) -> Iterator[Segment]:
        """Cut ``start`` to ``end`` where the price in force changes; nothing for an empty interval.

        Raises:
            MissingPrice: no price is in force for a part of it.
            PriceError: ``end`` is before ``start``.
        """
        subject = Subject(tenant=tenant, model=model, gpu_type=gpu_type, region=region, slo_class=slo_class)
        return self.segments_of(PriceKind(kind), start, end, subject)

    def segments_of(
        self, kind: PriceKind, start: dt.datetime, end: dt.datetime, subject: Subject
    ) -> Iterator[Segment]:
        """Give what :meth:`segments` gives, for a subject.

        Raises:
            MissingPrice: no price is in force for a part of it.
            PriceError: ``end`` is before ``start``.
        """
        _require_aware(start)
        _require_aware(end)
        if end < start:
            raise PriceError(f"an interval from {start.isoformat()} cannot end at {end.isoformat()}")
        if start == end:
            return
        changes = {
            price.effective_from
            for price in self._prices[kind]
            if start < price.effective_from < end and price.covers(subject)
        }
        since, price = start, self.price_of(kind, start, subject)
        for change in sorted(changes):
            following = self.price_of(kind, change, subject)
            if following.id != price.id:
                yield Segment(start=since, end=change, price=price)
                since, price = change, following
        yield Segment(start=since, end=end, price=price)


def _require_aware(when: dt.datetime) -> None:
    if when.tzinfo is None:
        raise PriceError(f"{when.isoformat()} needs a time zone")


def _missing_message(kind: PriceKind, when: dt.datetime, subject: Subject, covering: list[Price]) -> str:
    message = f"no {kind} price for {subject} is in force at {when.isoformat()}"
    if covering:
        first = min(price.effective_from for price in covering)
        return f"{message}; the first starts at {first.isoformat()}: add one that starts earlier"
    return f"{message}: add a {kind} price for it, or one without selectors"
