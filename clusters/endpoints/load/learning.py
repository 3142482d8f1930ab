"""Loads as the planner takes them, learnt from metered hours."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Final

from billing.usage import LoadPoint
from clusters.planning.problem import LoadProfile
from clusters.planning.profiles import burstiness_of

#: Requests from which on a load is worth learning.
LEAST_TO_LEARN: Final = 100

#: An order's rate is that of a busy hour: this share of the hours with requests is no busier.
BUSY_HOUR: Final = 0.9

HOUR_S: Final = 3600
MINUTES: Final = 60

#: The numbers of a load, as orders, observations and the planner all name them.
LOAD_FIELDS: Final = tuple(field.name for field in dataclasses.fields(LoadProfile))

#: What an order can hold at most.
MOST_CV: Final = 10.0
MOST_BURSTINESS: Final = 1e4
MOST_SHARE: Final = 0.99


def hour_load(hour: LoadPoint) -> LoadProfile:
    """Give one hour's load."""
    return _load([hour])


def learn_load(hours: Sequence[LoadPoint], *, idle: LoadProfile | None = None) -> LoadProfile | None:
    """Learn the load of a busy hour, and the lengths of all requests.

    None where there are too few requests; ``idle``, at the rate that there was, where it is given.
    """
    if sum(hour.completed for hour in hours) < LEAST_TO_LEARN:
        busiest = max((hour.completed for hour in hours), default=0)
        return idle and dataclasses.replace(idle, requests_per_second=busiest / HOUR_S, burstiness=1.0)
    return _load(hours)


def _load(hours: Sequence[LoadPoint]) -> LoadProfile:
    requests = sum(hour.completed for hour in hours)
    tokens_in, tokens_out = sum(h.input_tokens for h in hours), sum(h.output_tokens for h in hours)
    ranked = sorted(hour.completed for hour in hours)
    busy = ranked[math.ceil(BUSY_HOUR * len(ranked)) - 1]
    bursts = [_burstiness(hour) for hour in hours if hour.completed >= busy / 2]
    return LoadProfile(
        requests_per_second=busy / HOUR_S,
        input_tokens=max(1, round(tokens_in / requests)),
        output_tokens=max(1, round(tokens_out / requests)),
        burstiness=min(MOST_BURSTINESS, statistics.median(bursts)),
        input_cv=_cv(requests, tokens_in, sum(hour.input_tokens_squared for hour in hours)),
        output_cv=_cv(requests, tokens_out, sum(hour.output_tokens_squared for hour in hours)),
        prefix_share=min(MOST_SHARE, sum(h.cached_tokens for h in hours) / tokens_in) if tokens_in else 0.0,
    )


def _burstiness(hour: LoadPoint) -> float:
    return burstiness_of(
        busiest_minute=hour.busiest_minute, mean_minute=hour.completed / MINUTES, minutes=MINUTES
    )


def _cv(requests: int, tokens: int, squares: int) -> float:
    if not tokens:
        return 0.0
    mean = tokens / requests
    return min(MOST_CV, math.sqrt(max(0.0, squares / requests - mean**2)) / mean)
