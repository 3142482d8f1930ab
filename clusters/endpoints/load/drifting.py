"""When measured hours lie outside an order, and for how long: plain functions over what was metered."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Final

from billing.usage import LoadPoint
from clusters.endpoints.load.learning import LOAD_FIELDS, hour_load
from clusters.planning.problem import LoadProfile
from clusters.planning.profiles import LESS, Part, drift

HOUR: Final = dt.timedelta(hours=1)

#: Hours in a row that must lie outside the order before it drifts, and within it before it does no more. Shorter is
#: a rush, which the busiest minute's allowance is for; longer costs money or latency meanwhile.
DRIFT_HOURS: Final = 6

#: A rate that fell is judged by the busiest hour of a whole day, as every night is quiet.
QUIET: Final = dt.timedelta(hours=24)

#: Requests from which on the mean lengths of an hour are worth judging.
LEAST_OF_AN_HOUR: Final = 30

#: A rate that fell to :data:`LESS` must come back this far before it counts as back.
BACK: Final = 1.2 * LESS

#: In what an hour of less is no drift: quiet hours are usual, and what is steadier or more alike is only easier.
EASIER: Final = ("requests_per_second", "burstiness", "input_cv", "output_cv")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """Since when a load lies outside what is taken for right, and in which of its numbers.

    ``fallen`` says that the last day's busiest hour is the reason.
    """

    since: dt.datetime
    names: frozenset[str]
    fallen: bool = False


def find_drift(
    accepted: Sequence[LoadProfile],
    hours: Sequence[LoadPoint],
    *,
    until: dt.datetime,
    served_since: dt.datetime,
    before: Drift | None,
) -> Drift | None:
    """Judge the hours up to ``until`` by the ``accepted`` loads: what is near one of them is no drift.

    A drift begins once each of the last hours lies outside in the same number, and ends once none of them lies
    outside in any. ``served_since`` is when the endpoint began to serve as it is; ``before`` what was found last.
    """
    by_hour = {hour.bucket: outside_all(accepted, hour) for hour in hours}
    last = [by_hour.get(until - number * HOUR, frozenset()) for number in range(1, DRIFT_HOURS + 1)]
    lasting = frozenset.intersection(*last)
    if lasting:
        since = until - DRIFT_HOURS * HOUR
        while by_hour.get(since - HOUR, frozenset()) & lasting:
            since -= HOUR
        return Drift(since=since, names=_plain(lasting))
    fallen = before if before and before.fallen else None
    if _fell(accepted, hours, until=until, served_since=served_since, already=fallen is not None):
        since = fallen.since if fallen else until - QUIET
        return Drift(since=since, names=frozenset({"requests_per_second"}), fallen=True)
    if before is not None and not before.fallen and any(last):
        return before
    return None


def outside_all(accepted: Sequence[LoadProfile], hour: LoadPoint) -> frozenset[str]:
    """Give in which numbers, and which way, an hour lies outside each of the accepted loads."""
    if hour.completed < LEAST_OF_AN_HOUR:
        return frozenset()
    seen = hour_load(hour)
    return frozenset.intersection(*(_outside(load, seen) for load in accepted))


def _outside(load: LoadProfile, hour: LoadProfile) -> frozenset[str]:
    found = set()
    for name in LOAD_FIELDS:
        seen = getattr(hour, name)
        if name in EASIER:
            seen = max(seen, getattr(load, name))
        alone = dataclasses.replace(load, **{name: seen})
        if name == "burstiness":  # how busy a minute is by chance goes by the rate
            alone = dataclasses.replace(alone, requests_per_second=hour.requests_per_second)
        for apart in drift(load, alone):
            if name != "burstiness" or apart.part is Part.BURSTINESS:
                found.add(f"{name} {'heavier' if apart.heavier else 'lighter'}")
    return frozenset(found)


def _fell(
    accepted: Sequence[LoadProfile],
    hours: Sequence[LoadPoint],
    *,
    until: dt.datetime,
    served_since: dt.datetime,
    already: bool,
) -> bool:
    if until - served_since < QUIET:
        return False
    busiest = max((hour.completed for hour in hours if hour.bucket >= until - QUIET), default=0)
    rate, limit = busiest / HOUR.total_seconds(), BACK if already else LESS
    return all(rate < limit * load.requests_per_second for load in accepted)


def _plain(found: frozenset[str]) -> frozenset[str]:
    return frozenset(each.partition(" ")[0] for each in found)
