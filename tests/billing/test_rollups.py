"""Rollups count every segment exactly once, whenever its transaction ends."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import threading
import uuid
from collections import Counter

import psycopg
import pytest
from django.db import connection, transaction

from billing.metering import rollups
from billing.metering.ingest import ingest
from billing.metering.partitions import ensure_partitions
from billing.metering.rollups import MarkAhead, quantile_ms, roll_up
from billing.metering.tasks import roll_up as roll_up_task
from billing.models import GatewayDay, RollupMark, UsageDay, UsageHour, UsageMinute, UsageMinutes
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS
from tenants import locks, scope
from tenants.keys import key_mint
from tenants.models import ApiKey, KeyScope
from tests.billing.usage import GATEWAY, NOW, NUMBERS, batch, requests_counted, roll_up_until, segment
from tests.factories import default_project, make_tenant

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
            segment(tenant, 3, at=NOW + HOUR / 3, ttft_ms=(0, 0, 3), itl_ms=(), output_tokens_squared=2_500),
            segment(tenant, 4, at=NOW + HOUR),
            segment(tenant, 5, at=NOW - 15 * HOUR),
        ),
        now=NOW,
    )
    roll_up_until(tenant, 15)
    hours = [(f"{row.bucket:%d %H}", row.requests, row.input_tokens) for row in rows(tenant, UsageHour)]
    assert hours == [("19 23", 3, 100), ("20 14", 9, 300), ("20 15", 3, 100)]
    assert rows(tenant, UsageHour)[1].ttft_ms[:4] == [1, 2, 3, 0]
    assert rows(tenant, UsageHour)[1].itl_ms[:5] == [0, 0, 4, 2, 0]
    assert rows(tenant, UsageHour)[1].output_tokens_squared == 834 + 834 + 2_500
    days = rows(tenant, UsageDay)
    assert [(row.bucket.day, row.requests, row.output_tokens, row.cached_tokens) for row in days] == [
        (19, 3, 50, 10),
        (20, 12, 200, 40),
    ]
    assert [row.asked_hours for row in days] == [1 << 23, 1 << 14 | 1 << 15]
    assert len(days[1].ttft_ms) == len(LATENCY_BOUNDS_MS) + 1
    assert sum(days[1].ttft_ms) == 9
    assert len(days[1].itl_ms) == len(ITL_BOUNDS_MS) + 1
    assert sum(days[1].itl_ms) == 9
    assert (days[1].input_tokens_squared, days[1].output_tokens_squared) == (4 * 3_334, 3 * 834 + 2_500)


def test_squares_beyond_what_a_row_holds_do_not_stop_the_rollups(tenant):
    huge = {"requests": 1, "input_tokens": 3_000_000_000, "cached_tokens": 0, "ttft_ms": (), "itl_ms": ()}
    for first in (1, 3):  # within one page, and onto a row that is there
        ingest(batch=batch(*(segment(tenant, first + n, **huge) for n in range(2))), now=NOW)
        roll_up_until(tenant, first + 1)
    for model in (UsageMinute, UsageHour, UsageDay):
        (row,) = rows(tenant, model)
        assert (row.requests, row.input_tokens) == (4, 12_000_000_000)
        assert row.input_tokens_squared == 2**63 - 1


def test_keys_are_told_the_minute_in_which_they_were_used_last(tenant):
    other = make_tenant()
    with scope.tenant(tenant.id):
        keys = [
            key_mint(name=name, key_scope=KeyScope.INFERENCE, project=default_project(tenant))[0]
            for name in "abc"
        ]
    used, refused, never = keys
    ingest(
        batch=batch(
            segment(tenant, 1, key_id=str(used.id), at=NOW + dt.timedelta(minutes=5, seconds=17)),
            segment(tenant, 2, key_id=str(used.id), at=NOW),
            segment(tenant, 3, key_id=str(refused.id), outcome="refused"),
            segment(other, 4, key_id=str(never.id)),
        ),
        now=NOW,
    )
    roll_up_until(tenant, 9)
    ingest(batch=batch(segment(tenant, 5, key_id=str(used.id), at=NOW - HOUR)), now=NOW)
    roll_up_until(tenant, 12)
    with scope.tenant(tenant.id):
        told = dict(ApiKey.objects.values_list("id", "last_used_at"))
    assert told == {used.id: NOW + dt.timedelta(minutes=5), refused.id: NOW, never.id: None}


def test_later_segments_are_added_to_the_same_rows(tenant):
    ingest(batch=batch(segment(tenant, 1, ttft_ms=(), itl_ms=())), now=NOW)
    roll_up_until(tenant, 3)
    assert (rows(tenant, UsageHour)[0].ttft_ms, rows(tenant, UsageHour)[0].itl_ms) == ([], [])
    ingest(batch=batch(segment(tenant, 2, ttft_ms=(4, 5), itl_ms=(6,))), now=NOW)
    roll_up_until(tenant, 6)
    (row,) = rows(tenant, UsageHour)
    assert (row.requests, row.ttft_ms[:3], row.itl_ms[:3]) == (6, [4, 5, 0], [6, 0, 0])
    assert row.input_tokens_squared == 2 * 3_334
    assert minutes(tenant) == {(NOW.hour, "completed"): {NOW.minute: 6}}
    assert roll_up() == 0
    ingest(batch=batch(segment(tenant, 3, at=NOW - HOUR)), now=NOW)
    roll_up_until(tenant, 9)
    (day,) = rows(tenant, UsageDay)
    assert day.asked_hours == 1 << NOW.hour | 1 << NOW.hour - 1


def test_squares_that_no_row_can_hold_stop_no_counting(tenant):
    most = 2**63 - 1
    vast = {"requests": 1, "input_tokens": 3_000_000_000, "cached_tokens": 0}
    ingest(batch=batch(segment(tenant, 1, **vast), segment(tenant, 2, **vast)), now=NOW)
    roll_up_until(tenant, 2)
    ingest(batch=batch(segment(tenant, 3, **vast)), now=NOW)
    roll_up_until(tenant, 3)
    for model in (UsageHour, UsageDay):
        (row,) = rows(tenant, model)
        assert (row.input_tokens, row.input_tokens_squared) == (9_000_000_000, most)


def test_a_day_tells_when_it_was_last_counted_into(tenant):
    ingest(batch=batch(segment(tenant, 1), segment(tenant, 2, at=NOW - 48 * HOUR)), now=NOW)
    roll_up_until(tenant, 6)
    early, late = rows(tenant, UsageDay)
    ingest(batch=batch(segment(tenant, 3, at=NOW - 47 * HOUR)), now=NOW)
    roll_up_until(tenant, 9)
    assert rows(tenant, UsageDay)[0].counted_at > early.counted_at
    assert rows(tenant, UsageDay)[1].counted_at == late.counted_at


def minutes(tenant) -> dict[tuple[int, str], dict[int, int]]:
    """Give the requests of the minutes that have any, by hour and outcome."""
    with scope.tenant(tenant.id):
        found = list(UsageMinutes.objects.all())
    assert {len(row.requests) for row in found} == {60}
    return {
        (row.bucket.hour, row.outcome): {place: count for place, count in enumerate(row.requests) if count}
        for row in found
    }


def test_requests_are_told_by_the_minute_in_which_they_ended(tenant):
    hour = NOW.replace(minute=0)
    other_key = str(uuid.UUID(int=9))
    ends = [hour, hour + HOUR / 60 - dt.timedelta(microseconds=1), hour + HOUR / 60, hour + HOUR * 59 / 60]
    ingest(
        batch=batch(
            *[segment(tenant, number, at=at) for number, at in enumerate(ends)],
            segment(tenant, 10, at=hour, key_id=other_key, revision_id=None),
            segment(tenant, 11, at=hour, outcome="failed"),
            segment(tenant, 12, at=hour + HOUR),
            segment(tenant, 13, endpoint_id="", revision_id=None, outcome="refused"),
        ),
        now=NOW,
    )
    roll_up_until(tenant, 24)
    assert minutes(tenant) == {
        (14, "completed"): {0: 9, 1: 3, 59: 3},
        (14, "failed"): {0: 3},
        (15, "completed"): {0: 3},
    }


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
    assert minutes(tenant) == {(23, "completed"): {59: 3}}


def test_minutes_have_the_counts_and_dimensions_of_hours(tenant):
    other_key = str(uuid.UUID(int=9))
    second = dt.timedelta(seconds=1)
    ingest(
        batch=batch(
            segment(tenant, 1),
            segment(tenant, 2, at=NOW + 59 * second),
            segment(tenant, 3, at=NOW + 60 * second),
            segment(tenant, 4, key_id=other_key, endpoint_id="", revision_id=None, outcome="refused"),
        ),
        now=NOW,
    )
    roll_up_until(tenant, 12)
    ingest(batch=batch(segment(tenant, 5)), now=NOW)
    roll_up_until(tenant, 15)
    with scope.tenant(tenant.id):
        found = list(UsageMinute.objects.order_by("bucket", "-requests"))
        hours = UsageHour.objects.order_by("-requests")
        for name in NUMBERS:
            assert sum(getattr(row, name) for row in found) == sum(getattr(row, name) for row in hours), name
    assert [(row.bucket.minute, row.requests, row.outcome) for row in found] == [
        (30, 9, "completed"),
        (30, 3, "refused"),
        (31, 3, "completed"),
    ]
    assert (found[1].key_id, found[1].endpoint_id) == (uuid.UUID(other_key), None)


def test_minutes_of_days_beyond_their_retention_are_not_kept(tenant, settings):
    settings.USAGE_MINUTE_DAYS = 2
    ingest(batch=batch(*(segment(tenant, days, at=NOW - days * 24 * HOUR) for days in (1, 2, 3))), now=NOW)
    roll_up_until(tenant, 9)
    assert len(rows(tenant, UsageMinute)) == 2
    assert len(minutes_by_day(tenant)) == 3


def minutes_by_day(tenant) -> set[dt.date]:
    with scope.tenant(tenant.id):
        return {row.bucket.date() for row in UsageMinutes.objects.all()}


def test_late_usage_is_counted_where_it_belongs_and_shown_to_be_late(tenant, settings):
    settings.USAGE_LATE_DAYS = 2
    day = NOW.replace(hour=0, minute=0)
    in_time, late = day + dt.timedelta(days=3, microseconds=-1), day + dt.timedelta(days=3)
    ingest(batch=batch(segment(tenant, 1)), now=NOW)
    ingest(batch=batch(segment(tenant, 2)), now=in_time)
    ingest(batch=batch(segment(tenant, 3), segment(tenant, 4)), now=late)
    roll_up_until(tenant, 12, now=late)
    with scope.platform("test"):
        (found,) = GatewayDay.objects.all()
    assert (found.gateway, found.day, found.counted_at) == (GATEWAY, NOW.date(), late)
    assert (found.segments, found.late_segments) == (4, 2)
    assert (found.requests, found.input_tokens, found.output_tokens, found.cached_tokens) == (
        12,
        400,
        200,
        40,
    )


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


def test_every_column_is_exact_however_segments_are_sent_and_paged(tenant):
    rng = random.Random(5)
    sent = []
    for number in range(90):
        inputs, outputs = ([rng.randint(0, 10**6) for _ in range(3)] for _ in range(2))
        changes = {
            "at": NOW + dt.timedelta(minutes=rng.randint(-200, 200)),
            "key_id": str(uuid.UUID(int=rng.randint(1, 3))),
            "input_tokens": sum(inputs), "cached_tokens": rng.randint(0, sum(inputs)),
            "output_tokens": sum(outputs),
            "input_tokens_squared": sum(tokens**2 for tokens in inputs),
            "output_tokens_squared": sum(tokens**2 for tokens in outputs),
            "ttft_ms": tuple(rng.randint(0, 1) for _ in range(rng.choice((0, 5, 22)))),
            "itl_ms": tuple(rng.randint(0, 1) for _ in range(rng.choice((0, 5, 22)))),
        }  # fmt: skip
        sent.append(segment(tenant, number, **changes))
    batches = [sent[start : start + 10] for start in range(0, 90, 10)]
    for found in [*batches, *rng.sample(batches, 5)]:
        ingest(batch=batch(*rng.sample(found, len(found)), found[0]), now=NOW)
        roll_up(page=rng.randint(1, 15))
    roll_up_until(tenant, 270)

    for model in (UsageHour, UsageDay):
        found = rows(tenant, model)
        for name in NUMBERS:
            assert sum(getattr(row, name) for row in found) == sum(getattr(each, name) for each in sent), name
        for name in ("ttft_ms", "itl_ms"):
            assert by_place(found, name) == by_place(sent, name)
    expected: Counter[tuple[int, int]] = Counter()
    for each in sent:
        expected[each.window_end.hour, each.window_end.minute] += each.requests
    assert expected == {
        (hour, minute): count
        for (hour, _), places in minutes(tenant).items()
        for minute, count in places.items()
    }


def by_place(found, name: str) -> list[int]:
    return [
        sum(places) for places in itertools.zip_longest(*(getattr(each, name) for each in found), fillvalue=0)
    ]


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
    def quantile(histogram: list[int], at: float) -> float | None:
        return quantile_ms(histogram, at, bounds=LATENCY_BOUNDS_MS)

    histogram = [0, 0, 10, 0, 10]  # ten requests in (10, 20], ten in (40, 60]
    assert quantile(histogram, 0.5) == 20
    assert quantile(histogram, 0.25) == 15
    assert quantile(histogram, 0.95) == pytest.approx(58)
    assert quantile([0] * len(LATENCY_BOUNDS_MS) + [1], 0.5) == LATENCY_BOUNDS_MS[-1]
    assert quantile([], 0.5) is None
    assert quantile([0, 0], 0.5) is None
    assert quantile_ms([0, 0, 0, 0, 0, 4], 0.5, bounds=ITL_BOUNDS_MS) == 11.25
    with pytest.raises(ValueError, match="not within"):
        quantile([1], 1.5)
