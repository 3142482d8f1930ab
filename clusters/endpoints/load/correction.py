"""How far the performance model is off for one endpoint, as its own latencies have shown."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any, Final

from billing.usage import LoadPoint
from clusters.endpoints.blueprint import SpecUnusable
from clusters.endpoints.load.drifting import HOUR
from clusters.endpoints.load.learning import hour_load
from clusters.endpoints.load.running import Running
from clusters.models import Endpoint, LoadObservation, Revision
from clusters.planning.performance.best import default_model
from clusters.planning.performance.correction import (
    Corrected,
    Correction,
    Factor,
    Histogram,
    Measured,
    factor,
)
from clusters.planning.performance.model import PerformanceModel
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS

#: Hours of the present revision that are compared with what was predicted for them: older ones hardly count.
LAST_HOURS: Final = 48


def performance_of(endpoint: Endpoint) -> PerformanceModel | None:
    """Give the performance model as the endpoint's measured latencies correct it; None where they do not."""
    observation = LoadObservation.objects.filter(endpoint=endpoint).only("correction").first()
    return observation and corrected_by(observation)


def corrected_by(observation: LoadObservation) -> PerformanceModel | None:
    """Give the performance model as an observation corrects it; None where it does not."""
    kept = observation.correction
    if not kept:
        return None
    return Corrected(
        model=default_model(), correction=Correction(itl=Factor(**kept["itl"]), ttft=Factor(**kept["ttft"]))
    )


def correction_of(
    endpoint: Endpoint, revision: Revision, hours: Sequence[LoadPoint], *, until: dt.datetime
) -> Correction:
    """Compare the latencies of the present revision's last hours with what was predicted for these hours."""
    recent = [hour for hour in hours if hour.bucket >= revision.created_at][-LAST_HOURS:]
    try:
        running = Running.of_revision(revision, endpoint.model)
    except SpecUnusable:
        return Correction()
    itl, ttft = [], []
    for hour in recent:
        expected = running.under(hour_load(hour))
        if not expected.stable:
            continue  # queues grew: how long they took tells of the load alone
        age = max(0.0, (until - hour.bucket) / HOUR - 1)
        itl += _measured(ITL_BOUNDS_MS, hour.itl_ms, expected.itl_mean_ms, age)
        ttft += _measured(LATENCY_BOUNDS_MS, hour.ttft_ms, expected.ttft_mean_ms, age)
    return Correction(itl=factor(itl), ttft=factor(ttft))


def correction_document(correction: Correction) -> dict[str, Any]:
    """Write a correction as it is kept: both factors and how they came about; nothing where nothing was measured."""
    if not (correction.itl.requests or correction.ttft.requests):
        return {}
    return {
        "itl": dataclasses.asdict(correction.itl),
        "ttft": dataclasses.asdict(correction.ttft),
        "reasons": list(correction.explanation),
    }


def _measured(
    bounds: tuple[float, ...], counts: tuple[int, ...], predicted_ms: float, age_h: float
) -> Iterator[Measured]:
    histogram = Histogram(bounds_ms=bounds, counts=counts)
    mean = histogram.mean_ms
    if mean is not None:
        yield Measured(
            measured_ms=mean, predicted_ms=predicted_ms, requests=histogram.requests, hours=1, age_h=age_h
        )
