"""Usage, cost and statements as pages and as CSV."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from billing.allocations import allocation_open
from billing.models import UsageDay, UsageHour
from tenants import scope
from tenants.models import Project

pytestmark = pytest.mark.django_db


@pytest.fixture
def used(world):
    """An endpoint that held a GPU for an hour and answered three requests."""
    endpoint = world.order("chat")
    now = timezone.now()
    with scope.tenant(world.tenant.id):
        revision = endpoint.revisions.get()
        allocation_open(
            project=Project.objects.get(), endpoint_id=endpoint.id, revision_id=revision.id, replica_id="r-0",
            cluster="de-a", region="eu-de-1", gpu_type="l4", gpus=1, started_at=now - dt.timedelta(hours=1),
        )  # fmt: skip
        row = {
            "tenant_id": world.tenant.id, "project_id": endpoint.project_id, "key_id": endpoint.id,
            "endpoint_id": endpoint.id, "revision_id": revision.id, "model": "berth-docs-ngram",
            "slo_class": "standard", "region": "eu-de-1", "outcome": "completed", "requests": 3,
            "input_tokens": 3_000_000, "output_tokens": 1_000_000, "cached_tokens": 0,
            "itl_ms": [0, 0, 3],
        }  # fmt: skip
        hour = now.replace(minute=0, second=0, microsecond=0)
        UsageHour.objects.create(bucket=hour, **row)
        UsageDay.objects.create(bucket=hour.replace(hour=0), **row)
    return endpoint


def test_inline_style_is_allowed_on_chart_pages_alone(world):
    policy = world.browser("owner").get("/t/nord/")["Content-Security-Policy"]
    assert "unsafe" not in policy


def test_the_statement_of_this_month(world, used):
    answer = world.browser("billing").get("/t/nord/statements")
    text = answer.content.decode()
    statement = answer.context["statement"]
    with scope.tenant(world.tenant.id):
        assert statement.total == sum(line.amount for line in statement.lines.all() if line.charged)
    assert "How it was reached" in text
    assert "not charged" in text
    month = f"{statement.month:%Y-%m}"
    assert world.browser("billing").get(f"/t/nord/statements/{month}").status_code == 200
    lines = world.browser("billing").get(f"/t/nord/statements/{month}/lines.csv").content.decode()
    assert len(lines.splitlines()) == 4


def test_months_before_the_tenant_have_no_statement(world):
    assert world.browser("owner").get("/t/nord/statements/2001-01").status_code == 404
    assert world.browser("owner").get("/t/nord/statements/never").status_code == 404
