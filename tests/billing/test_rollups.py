"""Rollups count every segment exactly once, whenever its transaction ends."""

from __future__ import annotations

import datetime as dt
import threading
import uuid

import psycopg
import pytest
from django.db import connection, transaction

from billing.metering import rollups
from billing.metering.ingest import ingest
from billing.metering.partitions import ensure_partitions
from billing.metering.rollups import MarkAhead, roll_up, ttft_quantile
from billing.metering.tasks import roll_up as roll_up_task
from billing.models import RollupMark, UsageDay, UsageHour
from gateway.contract import LATENCY_BOUNDS_MS
from tenants import locks, scope
from tests.billing.usage import NOW, batch, requests_counted, roll_up_until, segment
from tests.factories import make_tenant

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def tenant(committed_db):
    return make_tenant()


def rows(tenant, model):
    with scope.tenant(tenant.id):
        return list(model.objects.order_by("bucket", "key_id"))


def test_segments_become_sums_by_hour_and_day(tenant):
    ingest(
        batch=batch(
            segment(tenant, 1, at=NOW, ttft_ms=(1, 2)),
            segment(tenant, 2, at=NOW + HOUR / 4, ttft_ms=()),
            segment(tenant, 3, at=NOW + HOUR / 3, ttft_ms=(0, 0, 3)),
            segment(tenant, 4, at=NOW + HOUR),
            segment(tenant, 5, at=NOW - 15 * HOUR),
        ),
        now=NOW,
    )
    roll_up_until(tenant, 15)
    hours = [(f"{row.bucket:%d %H}", row.requests, row.input_tokens) for row in rows(tenant, UsageHour)]
    assert hours == [("19 23", 3, 100), ("20 14", 9, 300), ("20 15", 3, 100)]
    assert rows(tenant, UsageHour)[1].ttft_ms[:4] == [1, 2, 3, 0]
    days = rows(tenant, UsageDay)
    assert [(row.bucket.day, row.requests, row.output_tokens, row.cached_tokens) for row in days] == [
        (19, 3, 50, 10),
        (20, 12, 200, 40),
    ]
    assert len(days[1].ttft_ms) == len(LATENCY_BOUNDS_MS) + 1
    assert sum(days[1].ttft_ms) == 9


def test_later_segments_are_added_to_the_same_rows(tenant):
    ingest(batch=batch(segment(tenant, 1, ttft_ms=())), now=NOW)
    roll_up_until(tenant, 3)
    assert rows(tenant, UsageHour)[0].ttft_ms == []
    ingest(batch=batch(segment(tenant, 2, ttft_ms=(4, 5))), now=NOW)
    roll_up_until(tenant, 6)
    (row,) = rows(tenant, UsageHour)
    assert (row.requests, row.ttft_ms[:3]) == (6, [4, 5, 0])
    assert roll_up() == 0


def test_keys_outcomes_and_missing_endpoints_are_apart(tenant):
    ingest(
        batch=batch(
            segment(tenant, 1),
            segment(tenant, 2, key_id=str(uuid.UUID(int=9))),
            segment(tenant, 3, outcome="failed"),
            segment(tenant, 4, endpoint_id="", revision_id=None, outcome="refused"),
            segment(tenant, 5, endpoint_id="", revision_id=None, outcome="refused"),
        ),
        now=NOW,
    )
    roll_up_until(tenant, 15)
    assert sorted(row.requests for row in rows(tenant, UsageHour)) == [3, 3, 3, 6]


def test_window_closed_at_midnight_counts_in_its_days_last_hour(tenant):
    midnight = NOW.replace(hour=0, minute=0)
    start = midnight - dt.timedelta(seconds=5)
    ingest(batch=batch(segment(tenant, 1, at=midnight, day=start.date(), window_start=start)), now=NOW)
    roll_up_until(tenant, 3)
    assert rows(tenant, UsageHour)[0].bucket == midnight - HOUR
    assert rows(tenant, UsageDay)[0].bucket == midnight - 24 * HOUR


def test_transaction_that_commits_late_is_counted_once(tenant):
    ensure_partitions([NOW.date()])
    started, release = threading.Event(), threading.Event()

    def slow_ingest() -> None:
        with transaction.atomic():
            ingest(batch=batch(segment(tenant, 1)), now=NOW)
            started.set()
            release.wait(60)
        connection.close()

    slow = threading.Thread(target=slow_ingest)
    slow.start()
    try:
        assert started.wait(60)
        ingest(batch=batch(segment(tenant, 2)), now=NOW)  # begun later, committed earlier
        roll_up()
        assert requests_counted(tenant) == 0, "the mark must wait for the older transaction"
    finally:
        release.set()
        slow.join(60)
    roll_up_until(tenant, 6)


def test_pages_never_split_a_transaction_nor_lose_one(tenant):
    for first in (1, 4, 8, 20):
        ingest(batch=batch(*[segment(tenant, first * 100 + n) for n in range(first)]), now=NOW)
    counted = 0
    while counted < 33:
        counted += roll_up(page=3)
    assert counted == 33
    assert requests_counted(tenant) == 99


def test_counting_that_dies_is_undone_as_a_whole(tenant, monkeypatch):
    ingest(batch=batch(segment(tenant, 1)), now=NOW)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    def roll_up_until_killed() -> None:
        while True:  # until the mark can move
            roll_up()

    with monkeypatch.context() as patch:
        patch.setattr(RollupMark, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            roll_up_until_killed()
    assert requests_counted(tenant) == 0
    roll_up_until(tenant, 3)


def test_workers_at_once_count_once(tenant):
    for n in range(20):
        ingest(batch=batch(segment(tenant, n)), now=NOW)

    def work() -> None:
        for _ in range(5):
            roll_up(page=2)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    roll_up_until(tenant, 60)


def test_task_leaves_the_work_to_whoever_is_at_it(tenant, committed_db):
    ingest(batch=batch(segment(tenant)), now=NOW)
    with psycopg.connect(committed_db) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [locks.Lock.USAGE_ROLLUPS])
        assert roll_up_task() == 0
        assert requests_counted(tenant) == 0
    roll_up_until(tenant, 3)


def test_mark_from_another_database_is_not_believed(tenant):
    RollupMark.objects.create(name=rollups.MARK, xact=2**62)
    with pytest.raises(MarkAhead):
        roll_up()


def test_quantiles_of_a_histogram():
    histogram = [0, 0, 10, 0, 10]  # ten requests in (10, 20], ten in (40, 60]
    assert ttft_quantile(histogram, 0.5) == 20
    assert ttft_quantile(histogram, 0.25) == 15
    assert ttft_quantile(histogram, 0.95) == pytest.approx(58)
    assert ttft_quantile([0] * len(LATENCY_BOUNDS_MS) + [1], 0.5) == LATENCY_BOUNDS_MS[-1]
    assert ttft_quantile([], 0.5) is None
    assert ttft_quantile([0, 0], 0.5) is None
    with pytest.raises(ValueError, match="not within"):
        ttft_quantile([1], 1.5)
