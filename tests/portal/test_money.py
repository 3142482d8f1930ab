"""Usage, cost and statements as pages and as CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io

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


@pytest.mark.parametrize("by", ["endpoint", "project", "model", "key"])
@pytest.mark.parametrize("span", ["7d", "month"])
def test_usage_by_group(world, used, by, span):
    answer = world.browser("billing").get(f"/t/nord/usage?range={span}&by={by}")
    assert answer.status_code == 200
    (row,) = answer.context["rows"]
    assert (row.requests, row.input_tokens) == (3, 3_000_000)
    assert [chart["id"] for chart in answer.context["charts"]] == ["cost-by-day", "tokens-by-day"]
    assert "'unsafe-inline'" in answer["Content-Security-Policy"]
    assert "plotly.min.js" in answer.content.decode()


def test_inline_style_is_allowed_on_chart_pages_alone(world):
    policy = world.browser("owner").get("/t/nord/")["Content-Security-Policy"]
    assert "unsafe" not in policy


def test_nonsense_in_the_address_gives_the_usual_view(world, used):
    answer = world.browser("owner").get("/t/nord/usage?range=forever&by=mood")
    assert (answer.context["span"].key, answer.context["group"]) == ("30d", "endpoint")


def test_without_usage_there_is_a_way_on_and_no_chart(world):
    text = world.browser("owner").get("/t/nord/usage").content.decode()
    assert "Nothing used in this time" in text
    assert "plotly" not in text


@pytest.mark.parametrize("by", ["endpoint", "key"])
def test_usage_as_csv(world, used, by):
    answer = world.browser("owner").get(f"/t/nord/usage.csv?range=7d&by={by}")
    assert answer["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert sum(int(row["requests"]) for row in rows) == 3


def test_cost_of_one_endpoint(world, used):
    answer = world.browser("owner").get(f"/t/nord/endpoints/{used.id}/cost")
    assert answer.context["total"].requests == 3
    assert 0 < answer.context["total"].allocation < 1
    assert answer.context["itl"] == pytest.approx(5.9)
    assert "Between tokens, p95" in answer.content.decode()
