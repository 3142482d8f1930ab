"""Metered hours of an endpoint for tests, as the rollups would hold them."""

from __future__ import annotations

import datetime as dt
import uuid

from billing.models import UsageHour, UsageMinutes
from clusters.models import Endpoint
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, Outcome
from tenants import scope

HOUR = dt.timedelta(hours=1)


def add_hours(
    endpoint: Endpoint,
    *,
    until: dt.datetime,
    hours: int,
    rate: float,
    input_tokens: int = 100,
    output_tokens: int = 50,
    cached_tokens: int = 0,
    ttft_ms: float | None = None,
    itl_ms: float | None = None,
) -> None:
    """Add ``hours`` whole hours before ``until``, with ``rate`` requests per second of one length each.

    They end in equal numbers in all minutes. Latencies are the same for all requests, where given.
    """
    a_minute = round(rate * 60)
    requests = 60 * a_minute
    with scope.tenant(endpoint.tenant_id):
        for number in range(1, hours + 1):
            facts = {
                "tenant_id": endpoint.tenant_id,
                "endpoint_id": endpoint.id,
                "bucket": until - number * HOUR,
                "outcome": Outcome.COMPLETED,
            }
            UsageMinutes.objects.create(**facts, requests=[a_minute] * 60)
            UsageHour.objects.create(
                **facts,
                project_id=endpoint.project_id,
                key_id=uuid.UUID(int=1),
                model="guide",
                slo_class="standard",
                region="de-1",
                requests=requests,
                input_tokens=requests * input_tokens,
                output_tokens=requests * output_tokens,
                cached_tokens=requests * cached_tokens,
                input_tokens_squared=requests * input_tokens**2,
                output_tokens_squared=requests * output_tokens**2,
                ttft_ms=_histogram(requests, ttft_ms, LATENCY_BOUNDS_MS),
                itl_ms=_histogram(requests, itl_ms, ITL_BOUNDS_MS),
            )


def _histogram(requests: int, time: float | None, bounds: tuple[float, ...]) -> list[int]:
    if time is None:
        return []
    place = sum(bound < time for bound in bounds)
    return [requests if at == place else 0 for at in range(len(bounds) + 1)]
