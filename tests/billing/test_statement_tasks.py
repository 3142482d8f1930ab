"""What beat sends: drafts of running months, and the close of those that are due, one run at a time."""

from __future__ import annotations

import datetime as dt

from django.db import connection
from django.utils import timezone

from billing.models import Statement
from billing.statements.tasks import close_due, draft_running
from tenants import scope
from tests.billing.prices import hold, label, price
from tests.factories import default_project, make_tenant


def test_tasks_draft_what_runs_and_close_what_is_due(committed_db, settings):
    settings.STATEMENT_GRACE_DAYS = 0
    price("gpu_hour", "1.00")
    tenant = make_tenant()
    project = default_project(tenant)
    now = timezone.now()
    before = now.replace(day=1) - dt.timedelta(days=3)
    hold(project, label(project, "chat"), f"{before:%Y-%m-%dT%H:%M}", None)
    assert draft_running() >= 1  # about the turn of a month both run somewhere
    assert close_due() == 1
    with scope.tenant(tenant.id):
        found = list(Statement.objects.order_by("month").values_list("month", "state"))
    assert found == [(before.date().replace(day=1), "final"), (now.date().replace(day=1), "draft")]
    assert close_due() == 0


def test_a_task_does_nothing_while_another_run_is_at_it(committed_db):
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended('statements', 0))")
        assert close_due() == draft_running() == 0
    finally:
        other.close()
