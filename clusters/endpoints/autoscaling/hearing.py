"""What gateways tell, as the decision reads it: numbers of the last minute, and whether all of them were heard."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from clusters.endpoints.autoscaling.deciding import Signals
from clusters.endpoints.signals import FRESH, endpoint_now
from clusters.models import Endpoint, EndpointScaling, EndpointSignal, Gateway
from clusters.planning.residency import residency_allows
from gateway import contract

#: A gateway that was seen before and not for so long may have requests that nobody knows of.
SILENT_AFTER: Final = dt.timedelta(seconds=90)
#: What a process told last before it fell silent counts for so long as requests that may be there still.
MAY_BE_THERE: Final = dt.timedelta(minutes=5)
#: That a request asked for an endpoint counts for so long; who still wants it asks again.
WANTED_FOR: Final = dt.timedelta(seconds=60)


def signals_of(endpoint: Endpoint, scaling: EndpointScaling, *, now: dt.datetime) -> Signals:
    """Read how an endpoint stands. A gateway is silent about one that has no requests: that is heard, too."""
    told = endpoint_now(endpoint)
    ttft = [signal.ttft_ms for signal in told.signals]
    itl = [signal.itl_ms for signal in told.signals]
    slo = endpoint.slo_class
    timed, slow = max(
        _missed(ttft, contract.LATENCY_BOUNDS_MS, slo.ttft_p95_ms),
        _missed(itl, contract.ITL_BOUNDS_MS, slo.itl_p95_ms),
        key=lambda pair: pair[1] / pair[0] if pair[0] else 0,
    )
    return Signals(
        heard=_all_heard(endpoint, now),
        in_flight=told.in_flight,
        oldest_wait_s=told.oldest_wait_s,
        requests=told.requests,
        timed=timed,
        slow=slow,
        shed=told.shed,
        kv_pressure=told.kv_pressure,
        wanted=scaling.wanted_at is not None and now - scaling.wanted_at < WANTED_FOR,
    )


def gateways_of(endpoint: Endpoint) -> list[Gateway]:
    """Give the gateways that its requests may pass."""
    return [
        gateway
        for gateway in Gateway.objects.select_related("region")
        if residency_allows(endpoint.residency, gateway.region.code, frozenset(gateway.region.zones))
    ]


def _all_heard(endpoint: Endpoint, now: dt.datetime) -> bool:
    seen = [gateway.last_seen_at for gateway in gateways_of(endpoint) if gateway.last_seen_at is not None]
    if not seen or any(now - at > SILENT_AFTER for at in seen):
        return False
    # A process of a gateway whose others go on may have fallen silent in the midst of requests.
    lost = EndpointSignal.objects.filter(
        endpoint=endpoint, in_flight__gt=0, heard_at__lte=now - FRESH, heard_at__gt=now - MAY_BE_THERE
    )
    return not lost.exists()


def _missed(
    histograms: Sequence[Sequence[int]], bounds: Sequence[float], target: int | None
) -> tuple[int, int]:
    """Count what was timed, and what took longer than ``target`` for certain: whole buckets above it."""
    if target is None:
        return 0, 0
    timed = sum(sum(histogram) for histogram in histograms)
    lower = (0.0, *bounds)
    slow = sum(
        count
        for histogram in histograms
        for begin, count in zip(lower, histogram, strict=False)
        if begin >= target
    )
    return timed, slow
