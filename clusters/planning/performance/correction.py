"""Live measurements correct a performance model, endpoint by endpoint: bounded, fading, and told in words.

A factor is the weighted geometric mean of measured over predicted times. Evidence counts by its requests, half at
the age of :data:`HALF_LIFE_H`, against a prior of :data:`PRIOR_REQUESTS` requests that met the prediction; and no
factor leaves :data:`LEAST_FACTOR` to :data:`MOST_FACTOR`. Predictions are those of the model as it was before any
correction, at the load that was measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Final

from clusters.planning.performance.model import Confidence, Number, PerformanceModel, Shape

#: Age at which a measurement counts half.
HALF_LIFE_H: Final = 24.0

#: Requests that weigh as much as the model's own word.
PRIOR_REQUESTS: Final = 1000.0

LEAST_FACTOR: Final = 0.5
MOST_FACTOR: Final = 2.0

#: How far off a prediction may be that was corrected by endless measurements: they come in buckets of a histogram.
LIVE_ERROR: Final = 0.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts per bucket between ``bounds_ms``: one more bucket than bounds, for what is above the last.

    Raises:
        ValueError: the counts are not of that number, or less than 0; the bounds do not rise.
    """

    bounds_ms: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds_ms) + 1 or min(self.counts) < 0:
            raise ValueError("a histogram counts 0 or more in one more bucket than it has bounds")
        if any(high <= low for low, high in zip((0.0, *self.bounds_ms), self.bounds_ms, strict=False)):
            raise ValueError("the bounds of a histogram rise from above 0")

    @property
    def requests(self) -> int:
        """All that was counted."""
        return sum(self.counts)

    @property
    def mean_ms(self) -> float | None:
        """The mean, as if all in a bucket lay in its middle and all beyond at the last bound; None of nothing."""
        if not self.requests:
            return None
        lows = (0.0, *self.bounds_ms)
        highs = (*self.bounds_ms, self.bounds_ms[-1])
        middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
        return sum(count * middle for count, middle in zip(self.counts, middles, strict=True)) / self.requests


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A mean time over some hours of one endpoint's traffic, beside what the model predicted for their load.

    ``age_h`` is how long ago those hours ended.
    """

    measured_ms: float
    predicted_ms: float
    requests: int
    hours: float
    age_h: float = 0.0

    def __post_init__(self) -> None:
        if min(self.measured_ms, self.predicted_ms) <= 0 or not math.isfinite(self.predicted_ms):
            raise ValueError("measured and predicted times are above 0 and finite")
        if min(self.requests, self.hours, self.age_h) < 0:
            raise ValueError("requests, hours and ages are 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factor:
    """What one kind of time is multiplied by. ``weight``, 0 to 1, is what measurements counted for.

    ``measured_ms`` and ``predicted_ms`` are means over the requests that have not faded.
    """

    value: float = 1.0
    weight: float = 0.0
    measured_ms: float = 0.0
    predicted_ms: float = 0.0
    requests: int = 0
    hours: float = 0.0
    bounded: bool = False

    def explanation(self, what: str) -> str:
        """Say how it came about; ``what`` is the kind of time, "between tokens" or "to the first token"."""
        if not self.requests:
            return f"nothing measured {what} yet: as predicted"
        long = f"{self.hours:.3g} h" if self.hours >= 1 else f"{60 * self.hours:.3g} min"
        told = (
            f"measured {self.measured_ms:.3g} ms {what} over {long} and {self.requests:,} requests "
            f"where {self.predicted_ms:.3g} ms were predicted: x{self.value:.2f}"
        )
        return f"{told}, as far as a correction goes" if self.bounded else told


def factor(measurements: Iterable[Measured]) -> Factor:
    """Weigh measurements into one factor."""
    seen: Sequence[Measured] = [one for one in measurements if one.requests]
    shares = [one.requests * math.pow(0.5, one.age_h / HALF_LIFE_H) for one in seen]
    evidence = sum(shares)
    if not evidence:
        return Factor()

    def mean_log(field: str) -> float:
        total = sum(share * math.log(getattr(one, field)) for one, share in zip(seen, shares, strict=True))
        return total / evidence

    weight = evidence / (evidence + PRIOR_REQUESTS)
    measured, predicted = mean_log("measured_ms"), mean_log("predicted_ms")
    value = math.exp(weight * (measured - predicted))
    return Factor(
        value=min(max(value, LEAST_FACTOR), MOST_FACTOR),
        weight=weight,
        measured_ms=math.exp(measured),
        predicted_ms=math.exp(predicted),
        requests=sum(one.requests for one in seen),
        hours=sum(one.hours for one in seen),
        bounded=not LEAST_FACTOR <= value <= MOST_FACTOR,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correction:
    """Both factors of one endpoint."""

    itl: Factor = Factor()
    ttft: Factor = Factor()

    @property
    def explanation(self) -> tuple[str, str]:
        """How both came about, in words."""
        return self.itl.explanation("between tokens"), self.ttft.explanation("to the first token")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corrected:
    """A performance model times an endpoint's factors.

    Steps take the factor of the time between tokens, and with them the waits that queueing makes of steps; the
    first token of a prompt alone takes its own.
    """

    model: PerformanceModel
    correction: Correction

    def step_ms(self, shape: Shape, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        """Milliseconds of one step."""
        steps = self.model.step_ms(shape, decoding=decoding, context=context, prompt_tokens=prompt_tokens)
        return self.correction.itl.value * steps

    def itl_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: Number, output_tokens: Number
    ) -> Number:
        """Mean milliseconds between tokens."""
        gap = self.model.itl_ms(
            shape, concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
        )
        return self.correction.itl.value * gap

    def first_token_ms(self, shape: Shape, *, input_tokens: Number) -> Number:
        """Milliseconds to the first token of a request alone."""
        return self.correction.ttft.value * self.model.first_token_ms(shape, input_tokens=input_tokens)

    def confidence(self, shape: Shape) -> Confidence:
        """The model's, narrowed by as much as measurements count."""
        before, itl, ttft = self.model.confidence(shape), self.correction.itl, self.correction.ttft
        if not (itl.requests or ttft.requests):
            return before
        return Confidence(
            source=f"{before.source}, corrected live",
            itl_error=_narrowed(before.itl_error, itl),
            ttft_error=_narrowed(before.ttft_error, ttft),
        )


def _narrowed(error: float, by: Factor) -> float:
    """A factor that met its bound tells that the model is further off than it may be corrected."""
    return error if by.bounded else min(error, error + by.weight * (LIVE_ERROR - error))
