"""Workers that compute hours of GPU time at once, and one that is killed: real commits, real locks."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
import uuid

import psycopg

from billing.gpu_time.hours import hours_compute
from billing.models import DueHour, HeldDay, HeldHour
from tenants import scope
from tests.billing.prices import hold, utc
from tests.factories import default_project, make_tenant

NOW = utc("2026-05-20T12:30")
# Announces itself before its first page, and computes hours until it is done or killed.
WORKER = """
import datetime as dt, django
django.setup()
from billing.gpu_time import hours
hours.PAGE = 5
print("begins", flush=True)
hours.hours_compute(now=dt.datetime.fromisoformat("2026-05-20T12:30+00:00"), wait=True)
"""


def due():
    return list(DueHour.objects.order_by("bucket").values_list("bucket", flat=True))


def test_nothing_is_done_while_another_worker_is_at_it(committed_db):
    hold(default_project(make_tenant()), uuid.uuid4(), "2026-05-20T00:00", None)
    with psycopg.connect(committed_db) as other:
        other.execute("SELECT pg_advisory_xact_lock(7010)")
        assert hours_compute(now=NOW) == 0
    assert hours_compute(now=NOW) > 0


def test_a_change_of_the_past_that_is_not_committed_yet_stays_due(committed_db):
    project = default_project(make_tenant())
    hold(project, uuid.uuid4(), "2026-05-19T00:00", "2026-05-19T02:00")
    hours_compute(now=NOW)
    change = (
        "INSERT INTO billing_duehour VALUES (%s) ON CONFLICT (bucket) DO UPDATE SET bucket = excluded.bucket"
    )
    with psycopg.connect(committed_db) as other:
        other.execute(change, ["2026-05-19T01:00Z"])
        other.commit()
        other.execute(change, ["2026-05-19T01:00Z"])
        hours_compute(now=NOW)
        assert utc("2026-05-19T01:00") in due()
    hours_compute(now=NOW)
    assert utc("2026-05-19T01:00") not in due()


def test_workers_that_are_killed_at_any_point_leave_whole_hours_and_days(committed_db):
    project = default_project(make_tenant())
    for number in range(40):
        hold(
            project, uuid.UUID(int=number), f"2026-05-1{number % 8}T00:{number:02}", None, gpus=1 + number % 8
        )
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "portal.settings.test",
        "DATABASE_URL": committed_db,
    }
    for delay in (0.02, 0.1, 0.25, 0.5):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        with worker.stdout as told:
            assert told.readline() == "begins\n"
            time.sleep(delay)
            worker.send_signal(signal.SIGKILL)
        worker.wait(30)
        hours, days = _sums()
        assert hours == days
    hours_compute(now=NOW, wait=True)
    expected = sum(
        (1 + number % 8) * int((NOW - utc(f"2026-05-1{number % 8}T00:{number:02}")) / dt.timedelta(seconds=1))
        for number in range(40)
    )
    assert _sums() == (expected, expected)


def _sums():
    with scope.platform("a test"):
        return tuple(sum(row.held for row in model.objects.all()) for model in (HeldHour, HeldDay))
