"""Rates that change from minute to minute, and the work that busy minutes leave over."""

from __future__ import annotations

import math
from typing import Final

#: The expected largest of 60 standard normal numbers: how far the busiest minute of an hour lies from the mean.
BUSIEST_OF_60: Final = 2.319

#: Where the p95s are judged: standard deviations of the rate above its mean, which one minute in six exceeds.
BUSY_MINUTE: Final = 1.0

_MINUTE_MS: Final = 60_000.0


def rate_spread(rate: float, burstiness: float) -> float:
    """Coefficient of variation of the rate from minute to minute, of a mean ``rate`` per second.

    Minutes' counts of a Poisson stream already differ, by the root of their mean; what the busiest minute
    of an hour exceeds beyond that is taken as a normal spread of the rate itself.
    """
    if rate <= 0:
        return 0.0
    return math.sqrt(max(0.0, ((burstiness - 1) / BUSIEST_OF_60) ** 2 - 1 / (60 * rate)))


def busy_rate(rate: float, burstiness: float) -> float:
    """Requests per second that one minute in six exceeds, of a mean ``rate`` whose busiest minute is known."""
    return rate * (1 + BUSY_MINUTE * rate_spread(rate, burstiness))


def left_over(utilisation: float, spread: float) -> tuple[float, float]:
    """The chance that a minute begins with work left over from earlier ones, and the mean wait for it.

    Work left over is the largest value of a random walk whose steps, a minute's work over what the minute
    carries, are taken as normal (Lindley). Its mean is Spitzer's sum over k of E[S_k+] / k, its chance to be 0
    exp(-sum of P(S_k > 0) / k); near saturation by the series of Janssen and van Leeuwaarden (Annals of Applied
    Probability 17, 2007).
    """
    deviation = utilisation * spread
    drift = (1 - utilisation) / deviation if deviation else math.inf
    if drift > 6:
        return 0.0, 0.0
    if drift < 1:
        mean = 1 / (2 * drift) - 0.58260 + drift / 4 - 0.041468 * drift**2 + 0.000424 * drift**4
        none = math.sqrt(2) * drift * math.exp(-0.58260 * drift + 0.013823 * drift**3)
    else:
        mean, crossings = 0.0, 0.0
        for steps in range(1, 13):
            away = drift * math.sqrt(steps)
            beyond = math.erfc(away / math.sqrt(2)) / 2
            density = math.exp(-(away**2) / 2) / math.sqrt(2 * math.pi)
            mean += density / math.sqrt(steps) - drift * beyond
            crossings += beyond / steps
        none = math.exp(-crossings)
    return 1 - none, mean * deviation * _MINUTE_MS
