"""Day partitions exist before they are needed."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from billing.metering.ingest import ingest
from billing.metering.partitions import drop_partitions, ensure_partitions, keep_partitions
from billing.metering.tasks import drop_partitions as drop_partitions_task
from billing.metering.tasks import keep_partitions as keep_partitions_task
from billing.models import UsageDay, UsageHour, UsageMinute, UsageSegment
from tenants import locks, scope
from tests.billing.usage import NOW, batch, requests_counted, roll_up_until, segment
from tests.factories import make_tenant

TODAY = dt.date(2026, 2, 26)
DAY = dt.timedelta(days=1)


def partitions(table: str = "billing_usagesegment") -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT right(inhrelid::regclass::text, 8) FROM pg_inherits"
            " WHERE inhparent = %s::regclass ORDER BY 1",
            [table],
        )
        return [name for (name,) in cursor.fetchall()]


@pytest.mark.django_db
def test_yesterday_and_the_coming_week_are_there():
    assert keep_partitions(today=TODAY) == 9
    days = [TODAY + dt.timedelta(days=offset) for offset in range(-1, 8)]
    assert partitions() == [f"{day:%Y%m%d}" for day in days]
    assert keep_partitions(today=TODAY) == 0
    assert keep_partitions(today=TODAY + dt.timedelta(days=1)) == 1


@pytest.mark.django_db
def test_days_asked_for_twice_are_made_once():
    assert ensure_partitions([TODAY, TODAY]) == 1
    assert ensure_partitions([TODAY]) == 0
    assert ensure_partitions([]) == 0


def test_task_does_nothing_while_another_worker_is_at_it(committed_db):
    with psycopg.connect(committed_db) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [locks.Lock.USAGE_PARTITIONS])
        assert keep_partitions_task() == 0
        assert partitions() == []
    assert keep_partitions_task() == 9
    assert f"{timezone.now():%Y%m%d}" in partitions()


@pytest.fixture
def kept(committed_db, settings):
    """Keep segments for 30 days and minutes for 10; give a tenant."""
    settings.USAGE_RETENTION_DAYS = 30
    settings.USAGE_MINUTE_DAYS = 10
    return make_tenant()


def test_days_beyond_retention_are_dropped_once_counted_and_their_rollups_stay(kept):
    segments = [segment(kept, days, at=NOW - days * DAY) for days in (0, 9, 11, 30)]
    ingest(batch=batch(*segments), now=NOW)
    roll_up_until(kept, 12)
    later = NOW + 3 * DAY
    assert drop_partitions(now=NOW) == 0
    assert drop_partitions(now=later) == 2  # segments of the oldest day, minutes of the ninth
    days = [f"{(NOW - days * DAY):%Y%m%d}" for days in (30, 11, 9, 0)]
    assert partitions() == days[1:]
    assert partitions("billing_usageminute") == days[3:]
    assert drop_partitions(now=later) == 0
    with scope.tenant(kept.id):
        assert UsageSegment.objects.count() == 3
        assert [model.objects.count() for model in (UsageMinute, UsageHour, UsageDay)] == [1, 4, 4]


def test_a_day_that_is_not_counted_yet_is_not_dropped(kept, caplog):
    ingest(batch=batch(segment(kept, 1, at=NOW - 30 * DAY)), now=NOW)
    later = NOW + 5 * DAY
    assert drop_partitions(now=later) == 0
    assert "not all counted yet; they stay" in caplog.text
    roll_up_until(kept, 3)
    assert drop_partitions(now=later) == 1


def test_nothing_is_dropped_while_usage_is_being_counted(kept, committed_db):
    ingest(batch=batch(segment(kept, 1, at=NOW - 30 * DAY)), now=NOW)
    roll_up_until(kept, 3)
    with psycopg.connect(committed_db) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [locks.Lock.USAGE_ROLLUPS])
        assert drop_partitions(now=NOW + 5 * DAY) == 0
    assert drop_partitions(now=NOW + 5 * DAY) == 1


def test_what_comes_for_a_dropped_day_is_refused_for_good(kept, settings):
    sent = batch(segment(kept, 1, at=NOW - 30 * DAY))
    ingest(batch=sent, now=NOW)
    roll_up_until(kept, 3)
    later = NOW + 5 * DAY
    drop_partitions(now=later)
    assert "more than 30 days ago" in ingest(batch=sent, now=later).refused[0].reason
    settings.USAGE_RETENTION_DAYS = 400  # longer from now on, but what is gone cannot be told from a repeat
    receipt = ingest(batch=sent, now=later)
    assert (receipt.inserted, receipt.duplicates) == (0, 0)
    assert "is not kept any more" in receipt.refused[0].reason
    roll_up_until(kept, 3)
    assert requests_counted(kept) == 3


def test_the_application_can_drop_neither_a_recent_day_nor_one_outside_the_platforms_scope(kept):
    ingest(batch=batch(segment(kept, 1, at=NOW - 30 * DAY)), now=NOW)
    roll_up_until(kept, 3)
    with connection.cursor() as cursor, pytest.raises(Exception, match="scope of the platform only"):
        cursor.execute("SELECT berth_usage_drop(%s, %s)", [(NOW - 30 * DAY).date(), NOW])
    with (
        scope.platform("test"),
        connection.cursor() as cursor,
        pytest.raises(Exception, match="too new to be dropped"),
    ):
        cursor.execute("SELECT berth_usage_drop(%s, %s)", [NOW.date() - DAY, NOW])


@pytest.mark.django_db
def test_the_task_drops_what_is_due(settings):
    settings.USAGE_RETENTION_DAYS = 3
    days = [timezone.now().date() - number * DAY for number in (3, 4, 5)]
    ensure_partitions(days)
    assert drop_partitions_task() == 1
    assert partitions() == [f"{days[1]:%Y%m%d}", f"{days[0]:%Y%m%d}"]
