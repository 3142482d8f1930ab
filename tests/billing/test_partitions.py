"""Day partitions exist before they are needed."""

from __future__ import annotations

import datetime as dt

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from billing.metering.partitions import ensure_partitions, keep_partitions
from billing.metering.tasks import keep_partitions as keep_partitions_task
from tenants import locks

TODAY = dt.date(2026, 2, 26)


def partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT right(inhrelid::regclass::text, 8) FROM pg_inherits"
            " WHERE inhparent = 'billing_usagesegment'::regclass ORDER BY 1"
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
