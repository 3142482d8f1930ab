"""An endpoint's load by hour: exact counts, spread, busiest minute and latencies, of its tenant alone."""

from __future__ import annotations

import datetime as dt
import statistics
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.metering.ingest import ingest
from billing.usage import LoadPoint, endpoint_load
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS
from tenants import scope
from tests.billing.usage import NOW, add_usage, batch, roll_up_until, segment
from tests.factories import default_project, make_tenant

ENDPOINT = uuid.UUID(int=3)
HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def tenant(committed_db):
    return make_tenant()


def load(tenant, *, endpoint_id: uuid.UUID = ENDPOINT) -> list[LoadPoint]:
    with scope.tenant(tenant.id):
        return endpoint_load(endpoint_id=endpoint_id, start=NOW - 24 * HOUR, end=NOW + 24 * HOUR)


def filled(bounds: tuple[float, ...], **counts: int) -> tuple[int, ...]:
    """Give a histogram over ``bounds`` of what is counted in ``place_N``."""
    return tuple(counts.get(f"place_{place}", 0) for place in range(len(bounds) + 1))


def test_an_hour_sums_what_was_completed_over_keys_and_revisions(tenant):
    sent = [
        segment(tenant, 1, ttft_ms=(0, 3), itl_ms=(0, 0, 3), input_tokens_squared=4_000),
        segment(tenant, 2, at=NOW + MINUTE, key_id=str(uuid.UUID(int=9)), ttft_ms=(0, 0, 1), itl_ms=()),
        segment(tenant, 3, at=NOW + MINUTE, revision_id=str(uuid.UUID(int=5)), ttft_ms=(), itl_ms=(0, 1)),
        segment(tenant, 4, at=NOW + MINUTE, outcome="cancelled"),
        segment(tenant, 5, at=NOW + MINUTE, outcome="refused"),
        segment(tenant, 6, at=NOW + MINUTE, endpoint_id=str(uuid.UUID(int=8))),
        segment(tenant, 7, at=NOW + HOUR),
    ]
    ingest(batch=batch(*sent), now=NOW)
    ingest(batch=batch(*reversed(sent)), now=NOW)
    roll_up_until(tenant, 21)

    first, second = load(tenant)

    assert first == LoadPoint(
        bucket=NOW.replace(minute=0),
        completed=9,
        input_tokens=300,
        output_tokens=150,
        cached_tokens=30,
        input_tokens_squared=4_000 + 2 * 3_334,
        output_tokens_squared=3 * 834,
        busiest_minute=6,
        ttft_ms=filled(LATENCY_BOUNDS_MS, place_1=3, place_2=1),
        itl_ms=filled(ITL_BOUNDS_MS, place_1=1, place_2=3),
    )
    assert (second.bucket, second.completed, second.busiest_minute) == (first.bucket + HOUR, 3, 3)


def test_the_spread_of_lengths_follows(tenant):
    lengths = [[5, 5, 5], [1, 2, 12]]
    ingest(
        batch=batch(
            *[
                segment(
                    tenant,
                    number,
                    at=NOW + number * MINUTE,
                    output_tokens=sum(each),
                    output_tokens_squared=sum(tokens**2 for tokens in each),
                )
                for number, each in enumerate(lengths)
            ]
        ),
        now=NOW,
    )
    roll_up_until(tenant, 6)

    (point,) = load(tenant)

    every = [tokens for each in lengths for tokens in each]
    mean = point.output_tokens / point.completed
    variance = point.output_tokens_squared / point.completed - mean**2
    assert variance == pytest.approx(statistics.pvariance(every))


def test_hours_and_endpoints_without_completed_requests_have_no_point(tenant):
    ingest(batch=batch(segment(tenant, 1, outcome="failed")), now=NOW)
    roll_up_until(tenant, 3)
    assert load(tenant) == []
    assert load(tenant, endpoint_id=uuid.UUID(int=77)) == []


@pytest.mark.django_db
def test_an_hour_belongs_where_it_begins():
    tenant = make_tenant()
    hour = NOW.replace(minute=0)
    for at in (hour - MINUTE, hour, hour + HOUR):
        add_usage(default_project(tenant), at=at, endpoint_id=ENDPOINT)
    with scope.tenant(tenant.id):
        (point,) = endpoint_load(endpoint_id=ENDPOINT, start=hour, end=hour + HOUR)
    assert point.bucket == hour


@pytest.mark.django_db
def test_another_tenants_load_is_not_seen():
    ours, theirs = make_tenant(), make_tenant()
    add_usage(default_project(theirs), at=NOW, endpoint_id=ENDPOINT)
    add_usage(default_project(ours), at=NOW, endpoint_id=ENDPOINT, requests=2)
    assert [point.completed for point in load(ours)] == [2]
    assert [point.completed for point in load(theirs)] == [1]
    with pytest.raises(scope.ScopeError):
        endpoint_load(endpoint_id=ENDPOINT, start=NOW, end=NOW)


@pytest.mark.django_db
def test_two_queries_however_many_hours():
    tenant = make_tenant()
    for hours in range(20):
        add_usage(default_project(tenant), at=NOW - hours * HOUR, endpoint_id=ENDPOINT)
    with scope.tenant(tenant.id), CaptureQueriesContext(connection) as queries:
        assert len(endpoint_load(endpoint_id=ENDPOINT, start=NOW - 24 * HOUR, end=NOW)) == 20
    assert len(queries) == 2
