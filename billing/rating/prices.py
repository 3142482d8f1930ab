"""Effective-dated prices and the book that finds the one in force.

A price is superseded by a later one, never edited. Amounts are per GPU-hour or per million tokens; a class
factor is no amount of money but what token prices that name no class are multiplied by.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from typing import Final


class PriceKind(enum.StrEnum):
    """What a price is for."""

    GPU_HOUR = "gpu_hour"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CACHED_TOKENS = "cached_tokens"
    CLASS_FACTOR = "class_factor"

    @property
    def unit(self) -> str:
        """The unit in which quantities of this kind are counted; a factor counts nothing."""
        return _UNITS.get(self, "token")

    @property
    def per(self) -> int:
        """How many units one amount pays for: an hour's seconds, or a million tokens."""
        return _PER.get(self, 1_000_000)


_UNITS: Final = {PriceKind.GPU_HOUR: "gpu_second", PriceKind.CLASS_FACTOR: ""}
_PER: Final = {PriceKind.GPU_HOUR: 3600, PriceKind.CLASS_FACTOR: 1}
#: What multiplies a price where no factor is in force.
ONE: Final = Decimal(1)


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Line:
    """All prices of one list for exactly the same things, in the order in which they supersede each other."""

    specificity: tuple[bool, int, tuple[bool, ...]]
    prices: tuple[Price, ...]
    begins: tuple[dt.datetime, ...]

    def at(self, when: dt.datetime) -> Price | None:
        place = bisect.bisect_right(self.begins, when)
        return self.prices[place - 1] if place else None


class PriceList:
    """Prices found by what they are for, without a walk over all of them. Made once, shared by many books.

    Raises:
        PriceError: two prices have one id.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        # By kind, then by which selectors are named, then by what they name.
        grouped: dict[PriceKind, defaultdict[_Shape, defaultdict[_Named, list[Price]]]] = {}
        self._changes: defaultdict[PriceKind, set[dt.datetime]] = defaultdict(set)
        self._covering: dict[tuple[PriceKind, Subject], tuple[_Line, ...]] = {}
        found = list(prices)
        ids: set[str] = set()
        for price in found:
            if price.id in ids:
                raise PriceError(f"two prices have the id {price.id}")
            ids.add(price.id)
            values = tuple(getattr(price, name) for name in SELECTORS)
            shape = tuple(place for place, value in enumerate(values) if value is not None)
            shapes = grouped.setdefault(price.kind, defaultdict(lambda: defaultdict(list)))
            shapes[shape][tuple(values[place] for place in shape)].append(price)
            self._changes[price.kind].add(price.effective_from)
        self.prices = tuple(found)
        self._lines = {
            kind: {
                shape: {named: _line(alike) for named, alike in by_name.items()}
                for shape, by_name in shapes.items()
            }
            for kind, shapes in grouped.items()
        }

    def covering(self, kind: PriceKind, subject: Subject) -> tuple[_Line, ...]:
        """Give the lines whose selectors are open or name the subject's own values."""
        key = (kind, subject)
        if key not in self._covering:
            values = tuple(getattr(subject, name) for name in SELECTORS)
            named = (
                lines.get(tuple(values[place] for place in shape))
                for shape, lines in self._lines.get(kind, {}).items()
            )
            self._covering[key] = tuple(line for line in named if line is not None)
        return self._covering[key]

    def changes(self, kind: PriceKind) -> Collection[dt.datetime]:
        """Give the moments at which a price of ``kind`` begins."""
        return self._changes.get(kind, ())


class PriceBook:
    """Finds the price in force. Two books of the same prices answer alike, however they were ordered.

    Of several ``layers`` the first that prices exactly the same thing wins from the moment its price
    begins: a book to try over the list, for instance. ``tenant`` is whose book it is: subjects that name
    no tenant are this one's.

    Raises:
        PriceError: two prices of one layer have one id.
    """

    def __init__(self, *layers: PriceList | Iterable[Price], tenant: str | None = None) -> None:
        self._layers = tuple(layer if isinstance(layer, PriceList) else PriceList(layer) for layer in layers)
        self._tenant = tenant
        self._lines: dict[tuple[PriceKind, Subject], tuple[_Line, ...]] = {}

    @property
    def prices(self) -> Iterator[Price]:
        """All prices of the book, layer by layer."""
        return (price for layer in self._layers for price in layer.prices)

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
        found = self._in_force(kind, when, subject)
        if found is None:
            raise MissingPrice(_missing_message(kind, when, subject, self.begins(kind, subject)))
        return found

    def factor_of(self, price: Price, when: dt.datetime, subject: Subject) -> Decimal:
        """Give what ``price`` is multiplied by at ``when``: the factor in force for the subject's class.

        It is 1 for GPU time, for prices that name a class themselves, and where no factor is in force.
        """
        _require_aware(when)
        if price.kind is PriceKind.GPU_HOUR or price.slo_class is not None:
            return ONE
        factor = self._in_force(PriceKind.CLASS_FACTOR, when, subject)
        return factor.amount if factor else ONE

    def amount_of(self, kind: PriceKind | str, when: dt.datetime, subject: Subject) -> Decimal:
        """Give what a unit costs ``subject`` at ``when``: the price in force times its factor.

        Raises:
            MissingPrice: none is in force.
        """
        price = self.price_of(PriceKind(kind), when, subject)
        return price.amount * self.factor_of(price, when, subject)

    def begins(self, kind: PriceKind, subject: Subject) -> dt.datetime | None:
        """Give the moment from which ``subject`` always has a price, None if it never has one."""
        return min((line.begins[0] for line in self._covering(kind, subject)), default=None)

    def changes(self, kinds: Collection[PriceKind]) -> set[dt.datetime]:
        """Give the moments at which a price of one of ``kinds`` begins."""
        return {moment for layer in self._layers for kind in kinds for moment in layer.changes(kind)}

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
            moment for line in self._covering(kind, subject) for moment in line.begins if start < moment < end
        }
        since, price = start, self.price_of(kind, start, subject)
        for change in sorted(changes):
            following = self.price_of(kind, change, subject)
            if following.id != price.id:
                yield Segment(start=since, end=change, price=price)
                since, price = change, following
        yield Segment(start=since, end=end, price=price)

    def _in_force(self, kind: PriceKind, when: dt.datetime, subject: Subject) -> Price | None:
        return next(
            (price for line in self._covering(kind, subject) if (price := line.at(when)) is not None), None
        )

    def _covering(self, kind: PriceKind, subject: Subject) -> tuple[_Line, ...]:
        """Give the lines for a subject, the most specific first, of equals that of the first layer."""
        key = (kind, subject)
        if key not in self._lines:
            whose = subject if subject.tenant else dataclasses.replace(subject, tenant=self._tenant)
            found = [line for layer in self._layers for line in layer.covering(kind, whose)]
            self._lines[key] = tuple(sorted(found, key=lambda line: line.specificity, reverse=True))
        return self._lines[key]


_Shape = tuple[int, ...]
_Named = tuple[str, ...]


def _line(prices: Iterable[Price]) -> _Line:
    ordered = sorted(prices, key=lambda price: (price.effective_from, price.id))
    return _Line(
        specificity=ordered[0].specificity,
        prices=tuple(ordered),
        begins=tuple(price.effective_from for price in ordered),
    )


def _require_aware(when: dt.datetime) -> None:
    if when.tzinfo is None:
        raise PriceError(f"{when.isoformat()} needs a time zone")


def _missing_message(kind: PriceKind, when: dt.datetime, subject: Subject, begins: dt.datetime | None) -> str:
    message = f"no {kind} price for {subject} is in force at {when.isoformat()}"
    if begins:
        return f"{message}; the first starts at {begins.isoformat()}: add one that starts earlier"
    return f"{message}: add a {kind} price for it, or one without selectors"
