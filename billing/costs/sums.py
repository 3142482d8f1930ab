"""Sums of priced quantities, exact until they are shown."""

from __future__ import annotations

import bisect
import dataclasses
import datetime as dt
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from billing import quantities
from billing.charging import rate_held, rate_used
from billing.prices import PriceBook
from billing.quantities import HOUR, Held, Used
from billing.rating.prices import PriceKind

PLACES = 6
MILLION = 1_000_000

#: The scales of whole numbers: prices to 16 places, per million tokens and per hour's seconds.
_TOKEN: Final = 10**22
_SECOND: Final = 3600 * 10**16
_ATTO: Final = 10**18
#: What the usual context holds to the last digit.
_DIGITS: Final = 10**28
_ZERO: Final = Decimal(0).scaleb(-PLACES)

GPU_PRICES = frozenset({PriceKind.GPU_HOUR})
TOKEN_PRICES = frozenset(PriceKind) - GPU_PRICES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Quantities and what they cost, before commitments and credits; ``input_tokens`` include ``cached_tokens``.

    ``allocation`` is GPU time held at the price of the GPU, ``idle`` the part of it in hours without a request;
    ``usage`` is tokens at the price book; ``charged`` is what of both is charged: the GPU time of dedicated endpoints
    and the tokens of shared ones.
    """

    gpu_hours: Decimal
    allocation: Decimal
    usage: Decimal
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    idle_gpu_hours: Decimal = Decimal(0)
    idle: Decimal = Decimal(0)
    charged: Decimal = Decimal(0)

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    @property
    def allocation_per_million_tokens(self) -> Decimal | None:
        """What a million tokens came to on the allocation basis; None without tokens."""
        return _per(self.allocation * MILLION, self.tokens)

    @property
    def usage_per_million_tokens(self) -> Decimal | None:
        """What a million tokens came to at the price book; None without tokens."""
        return _per(self.usage * MILLION, self.tokens)

    @property
    def allocation_per_request(self) -> Decimal | None:
        """What a request came to on the allocation basis; None without requests."""
        return _per(self.allocation, self.requests)

    @property
    def usage_per_request(self) -> Decimal | None:
        """What a request came to at the price book; None without requests."""
        return _per(self.usage, self.requests)

    @property
    def idle_share(self) -> Decimal | None:
        """The part of the GPU time that was idle, 0..1; None where no GPUs were held."""
        return round(self.idle_gpu_hours / self.gpu_hours, 4) if self.gpu_hours else None


class _TokenRates(NamedTuple):
    """What a token costs, in 1 / :data:`_TOKEN` of the currency, and which prices are missing."""

    input: int
    output: int
    cached: int
    missing: tuple[str, str, str]


class Rates:
    """Prices as whole numbers, found once for everything that one price holds for."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._token_changes = sorted(book.changes(TOKEN_PRICES))
        self._gpu_changes = sorted(book.changes(GPU_PRICES))
        self._tokens: dict[tuple, _TokenRates] = {}
        self._gpus: dict[tuple, tuple[int, str]] = {}

    def tokens(self, used: Used) -> _TokenRates:
        """Give what a token costs where and when ``used`` was."""
        when = _between(self._token_changes, used.start, used.end)
        key = (*when, used.model, used.slo_class, getattr(used, "region", ""))
        found = self._tokens.get(key)
        if found is None:
            none = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0}
            probes = ({"input_tokens": 1}, {"output_tokens": 1}, {"input_tokens": 1, "cached_tokens": 1})
            rated = [next(iter(rate_used(self._book, replace(used, **none | probe)))) for probe in probes]
            found = self._tokens[key] = _TokenRates(
                *(_whole(each.exact * _TOKEN) for each in rated), tuple(each.missing for each in rated)
            )
        return found

    def gpus(self, held: Held) -> tuple[int, str]:
        """Give what a second of a GPU costs, in 1 / :data:`_SECOND`, and which price is missing."""
        key = (
            *_between(self._gpu_changes, held.start, held.end),
            held.gpu_type,
            held.region,
            held.price_factor,
        )
        found = self._gpus.get(key)
        if found is None:
            rated = rate_held(self._book, replace(held, gpu_seconds=Decimal(1)))
            found = self._gpus[key] = _whole(rated.exact * _SECOND), rated.missing
        return found


def _between(changes: list[dt.datetime], start: dt.datetime, end: dt.datetime) -> tuple[int, int]:
    # Intervals that lie alike among the changes of prices have the same prices.
    return bisect.bisect_right(changes, start), bisect.bisect_left(changes, end)


_RATES: WeakKeyDictionary[PriceBook, Rates] = WeakKeyDictionary()


def rates_of(book: PriceBook) -> Rates:
    """Give the rates of a book, made once for it."""
    found = _RATES.get(book)
    if found is None:
        found = _RATES[book] = Rates(book)
    return found


def attoseconds(seconds: Decimal | Fraction) -> int:
    """Give a time as whole attoseconds, what is below them left out."""
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * _ATTO // denominator


class Sums:
    """Exact sums of priced quantities, as whole numbers, and what lacked a price.

    Time is in attoseconds; money for time in 1 / (:data:`_SECOND` x :data:`_ATTO`), for tokens in 1 / :data:`_TOKEN`.
    """

    __slots__ = (
        "charged_time",
        "charged_tokens",
        "counts",
        "held",
        "idle",
        "time",
        "tokens",
        "unheld",
        "unpriced",
    )

    def __init__(self) -> None:
        self.held = self.idle = 0
        self.time = self.unheld = self.charged_time = 0
        self.tokens = self.charged_tokens = 0
        self.counts = (0, 0, 0, 0)
        self.unpriced: set[str] = set()

    @property
    def gpu_seconds(self) -> Fraction:
        """GPU time, exactly."""
        return Fraction(self.held, _ATTO)

    def add_held(
        self, book: PriceBook, held: Held, *, time: int | None = None, idle: int = 0, charged: bool = False
    ) -> None:
        """Add GPU time at its price; ``time`` is the part of it that counts, ``idle`` what of that had no request."""
        rate, missing = rates_of(book).gpus(held)
        time = attoseconds(held.gpu_seconds) if time is None else time
        self.held += time
        self.idle += idle
        self.time += time * rate
        self.unheld += idle * rate
        if charged:
            self.charged_time += time * rate
        if missing:
            self.unpriced.add(missing)

    def add_used(self, book: PriceBook, used: Used, *, charged: bool = False) -> None:
        """Add usage at the price book."""
        rates = rates_of(book).tokens(used)
        input_tokens, output_tokens, cached_tokens = used.input_tokens, used.output_tokens, used.cached_tokens
        kinds = (input_tokens - cached_tokens, output_tokens, cached_tokens)
        amount = kinds[0] * rates.input + kinds[1] * rates.output + kinds[2] * rates.cached
        self.tokens += amount
        if charged:
            self.charged_tokens += amount
        if any(rates.missing):
            self.unpriced.update(
                text for text, count in zip(rates.missing, kinds, strict=True) if text and count
            )
        old = self.counts
        self.counts = (
            old[0] + used.requests, old[1] + input_tokens, old[2] + output_tokens, old[3] + cached_tokens,
        )  # fmt: skip

    def add(self, other: Sums) -> None:
        for name in ("held", "idle", "time", "unheld", "charged_time", "tokens", "charged_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))  # type: ignore[assignment]
        self.unpriced |= other.unpriced

    def allocation(self) -> Decimal:
        """What the GPU time costs."""
        return _shown(self.time, _SECOND * _ATTO)

    def usage(self) -> Decimal:
        """What the tokens cost."""
        return _shown(self.tokens, _TOKEN)

    def charged(self) -> Decimal:
        """What of both is charged."""
        return _shown(
            self.charged_time * _TOKEN + self.charged_tokens * _SECOND * _ATTO, _SECOND * _ATTO * _TOKEN
        )

    def cost(self) -> Cost:
        requests, input_tokens, output_tokens, cached_tokens = self.counts
        return Cost(
            gpu_hours=_shown(self.held, 3600 * _ATTO),
            idle_gpu_hours=_shown(self.idle, 3600 * _ATTO),
            allocation=self.allocation(),
            idle=_shown(self.unheld, _SECOND * _ATTO),
            usage=self.usage(),
            charged=self.charged(),
            requests=requests,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached_tokens,
        )


def _whole(number: Fraction) -> int:
    # Prices have 10 places and factors at most 6; a million tokens and an hour's seconds divide them.
    if number.denominator != 1:
        raise ValueError(f"a price has more than 16 decimal places: {number}")
    return number.numerator


def _shown(number: int, of: int) -> Decimal:
    """Write ``number / of`` with :data:`PLACES` places, half to even."""
    if not number:
        return _ZERO
    units, rest = divmod(number * 10**PLACES, of)
    twice = 2 * rest
    if twice > of or (twice == of and units % 2):
        units += 1
    if abs(units) < _DIGITS:
        return Decimal(units).scaleb(-PLACES)
    with localcontext(prec=60):
        return Decimal(units).scaleb(-PLACES)


def token_cuts(book: PriceBook) -> set[dt.datetime]:
    """Give the whole hours around each change of a token price: usage is known by the hour."""
    changes = book.changes(TOKEN_PRICES)
    return {quantities.round_down(moment, HOUR) for moment in changes} | {
        quantities.round_up(moment, HOUR) for moment in changes
    }


def _per(amount: Decimal, count: int) -> Decimal | None:
    return amount / count if count else None
