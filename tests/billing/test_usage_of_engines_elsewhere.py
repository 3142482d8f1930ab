"""Usage of an engine outside Berth is rolled up, named and charged like all usage."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from billing.buckets import Width
from billing.costs import Dimension, cost_summary
from billing.metering.events import TYPE, engine_id, events_take, source_gateway
from billing.models import GatewayDay, SequenceGap, StatementLine, UsageDay, UsageHour, UsageMinute
from billing.statements import statement_draft
from billing.usage import usage_series
from tenants import scope
from tests.billing.prices import list_prices
from tests.billing.usage import NOW, roll_up_until
from tests.factories import default_project, make_tenant


@pytest.fixture
def tenant(committed_db):
    list_prices()
    return make_tenant()


def take(tenant, *ids: str, at: dt.datetime = NOW, now: dt.datetime = NOW, **data):
    facts = {"project": "default", "endpoint": "vllm-berlin", "model": "guide", "input_tokens": 2_000_000}
    events = [
        {
            "specversion": "1.0", "type": TYPE, "id": each, "source": "/vllm", "time": at.isoformat(),
            "data": facts | data,
        }
        for each in ids
    ]  # fmt: skip
    with scope.tenant(tenant.id):
        return events_take(events=events, now=now)


def test_it_is_rolled_up_and_shown_under_its_name(tenant):
    take(tenant, "1", "2")
    take(tenant, "2", "3")
    roll_up_until(tenant, 3)
    with scope.tenant(tenant.id):
        for model in (UsageMinute, UsageHour, UsageDay):
            assert model.objects.get().input_tokens == 6_000_000
        (point,) = usage_series(
            start=NOW.replace(hour=0, minute=0), end=NOW, width=Width.DAY, group_by=[Dimension.ENDPOINT]
        )
        assert (point.labels, point.requests) == (("vllm-berlin",), 3)
    with scope.platform("test"):
        assert GatewayDay.objects.get().gateway == source_gateway("/vllm")
        assert not SequenceGap.objects.exists()


def test_it_is_charged_by_its_tokens(tenant):
    take(tenant, "1", output_tokens=1_000_000, cached_tokens=1_000_000)
    roll_up_until(tenant, 1)
    with scope.tenant(tenant.id):
        statement = statement_draft(month=NOW.date(), now=NOW)
        lines = StatementLine.objects.filter(statement=statement, charged=True)
        assert {line.endpoint_name for line in lines} == {"vllm-berlin"}
        assert {line.endpoint_id for line in lines} == {
            engine_id(tenant.id, default_project(tenant).id, "vllm-berlin")
        }
        assert sum(line.amount for line in lines) == statement.total == Decimal("2.10")
        costs = cost_summary(
            start=NOW.replace(day=1, hour=0, minute=0), end=NOW + dt.timedelta(days=1), now=NOW
        )
        assert costs.total.charged == Decimal("2.10")


def test_late_usage_counts_in_its_own_day(tenant):
    take(tenant, "1", at=NOW - dt.timedelta(days=40))
    roll_up_until(tenant, 1)
    with scope.tenant(tenant.id):
        assert UsageDay.objects.get().bucket.date() == (NOW - dt.timedelta(days=40)).date()
        assert not UsageMinute.objects.exists()
    with scope.platform("test"):
        assert GatewayDay.objects.get().late_segments == 1
