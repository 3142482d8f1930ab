"""Which hours are computed when: those that run, those just over, those whose past changed; and a killed worker."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest

from billing.allocations import allocation_close, allocation_phase, wait_open
from billing.gpu_time import hours
from billing.gpu_time.hours import hours_compute
from billing.gpu_time.rates import asset_rate_set
from billing.gpu_time.supply import NodeSupply, supply_close, supply_write
from billing.models import AllocationPhase, AssetRate, ClusterDay, ClusterHour, DueHour, HeldDay, HeldHour
from billing.sharing import shared_open
from tenants import scope
from tests.billing.prices import hold, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
NOW = utc("2026-05-20T12:30")
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def project():
    return default_project(make_tenant())


def hold_since_then(*args, **facts):
    """Hold GPUs as if it had been written down at the time: the real clock, far ahead, makes nothing due."""
    allocation = hold(*args, **facts)
    DueHour.objects.all().delete()
    return allocation


def compute(now=NOW, **options):
    return hours_compute(now=now, wait=True, **options)


def held(endpoint, bucket):
    with scope.platform("a test"):
        return HeldHour.objects.get(endpoint_id=endpoint, bucket=bucket)


def sums(model, name):
    with scope.platform("a test"):
        return sum(getattr(row, name) for row in model.objects.all())


def due():
    return list(DueHour.objects.order_by("bucket").values_list("bucket", flat=True))


def test_the_hour_that_runs_grows_and_is_kept_until_it_is_settled(project):
    endpoint = uuid.uuid4()
    hold_since_then(project, endpoint, "2026-05-20T12:00", None, gpus=2)
    compute()
    assert held(endpoint, utc("2026-05-20T12:00")).held == 3600
    compute(NOW + dt.timedelta(minutes=15))
    assert held(endpoint, utc("2026-05-20T12:00")).held == 5400
    compute(NOW + 3 * HOUR)
    assert held(endpoint, utc("2026-05-20T12:00")).held == 7200
    assert due() == [utc("2026-05-20T13:00"), utc("2026-05-20T14:00"), utc("2026-05-20T15:00")]


def test_hours_that_nobody_computed_are_made_good(project):
    endpoint = uuid.uuid4()
    hold(project, endpoint, "2026-05-01T00:00", None)
    compute(utc("2026-05-01T01:00"))
    compute()
    assert sums(HeldHour, "held") == (19 * 24 + Decimal("12.5")) * 3600
    assert sums(HeldHour, "held") == sums(HeldDay, "held") == sums(ClusterDay, "held")


def test_a_run_does_no_more_than_it_is_told_and_the_newest_first(project, monkeypatch):
    monkeypatch.setattr(hours, "PAGE", 7)
    endpoint = uuid.uuid4()
    hold(project, endpoint, "2026-05-19T00:00", None)
    compute(most=10)
    with scope.platform("a test"):
        assert HeldHour.objects.count() == 10
        assert HeldHour.objects.order_by("bucket")[0].bucket == utc("2026-05-20T03:00")
    compute()
    assert sums(HeldHour, "held") == Decimal("36.5") * 3600


def test_late_usage_makes_idle_hours_served(project):
    endpoint = uuid.uuid4()
    hold(project, endpoint, "2026-05-20T00:00", None)
    compute()
    late = utc("2026-05-20T05:00")
    assert held(endpoint, late).idle == 3600
    add_usage(project, at=late, endpoint_id=endpoint)
    compute()
    assert (held(endpoint, late).idle, held(endpoint, late).serving) == (0, 3600)


def test_usage_of_other_tenants_counts_where_the_endpoint_is_shared(project):
    endpoint, other = uuid.uuid4(), default_project(make_tenant())
    hold(project, endpoint, "2026-05-20T00:00", None)
    shared_open(
        owner_id=project.tenant_id, endpoint_id=endpoint, name="llama", model="guide", slo_class="standard",
        started_at=utc("2026-05-20T00:00"),
    )  # fmt: skip
    compute()
    add_usage(other, at=utc("2026-05-20T05:00"), endpoint_id=endpoint)
    compute()
    assert held(endpoint, utc("2026-05-20T05:00")).serving == 3600
    assert held(endpoint, utc("2026-05-20T06:00")).serving == 0


def test_usage_that_comes_weeks_late_is_found_once_an_hour(project):
    endpoint = uuid.uuid4()
    hold_since_then(project, endpoint, "2026-05-01T00:00", None)
    compute()
    late = utc("2026-05-02T05:00")
    add_usage(project, at=late, endpoint_id=endpoint)
    compute()
    assert held(endpoint, late).idle == 3600
    compute(NOW + HOUR)
    assert held(endpoint, late).serving == 3600


def test_an_end_in_the_past_takes_back_what_was_counted(project):
    endpoint = uuid.uuid4()
    allocation = hold(project, endpoint, "2026-05-19T00:00", None)
    compute()
    with scope.tenant(project.tenant_id):
        allocation_close(replica_id=allocation.replica_id, ended_at=utc("2026-05-19T01:30"))
    compute()
    assert sums(HeldHour, "held") == 5400
    assert sums(ClusterHour, "excess") == 5400  # no node was ever seen


def test_a_rate_for_the_past_changes_its_hours(project):
    endpoint = uuid.uuid4()
    hold(project, endpoint, "2026-05-19T00:00", None)
    compute()
    assert sums(ClusterHour, "cost") == 0
    with scope.platform("a test"):
        AssetRate.objects.create(amount=1, currency="EUR", effective_from=utc("2026-01-01"))
    compute()
    asset_rate_set(
        amount=Decimal(3), currency="EUR", effective_from=utc("2026-05-20T10:00"), gpu_type="h100_sxm"
    )
    # Twelve hours at least were settled before there was a rate; the new one reaches those from ten on.
    compute()
    with scope.platform("a test"):
        costs = dict(ClusterHour.objects.values_list("bucket", "cost"))
    assert costs[utc("2026-05-20T10:00")] == costs[utc("2026-05-20T11:00")] == 3
    assert costs[utc("2026-05-20T09:00")] == 0
    asset_rate_set(amount=Decimal(2), currency="EUR", effective_from=utc("2026-05-01"), gpu_type="h100_sxm")
    compute()
    assert sums(ClusterHour, "cost") == sums(ClusterDay, "cost") == 34 * 2 + 2 * 3 + Decimal("1.5")


def test_a_cluster_that_was_lost_takes_its_supply_back(project):
    node = NodeSupply(pool="big", node="a", gpu_type="h100_sxm", gpus=8, platform=2)
    supply_write(cluster="berlin", region="de-1", nodes=[node], seen_at=utc("2026-05-19T00:00"))
    compute()
    assert sums(ClusterHour, "seen") == Decimal("36.5") * 8 * 3600
    assert supply_close(cluster="berlin", ended_at=utc("2026-05-19T06:00")) == 1
    compute()
    assert sums(ClusterHour, "seen") == sums(ClusterDay, "seen") == 6 * 8 * 3600
    assert sums(ClusterHour, "platform") == 6 * 2 * 3600


def test_what_waits_is_counted_beside_what_is_held(project):
    endpoint = uuid.uuid4()
    with scope.tenant(project.tenant_id):
        wait_open(
            project=project, endpoint_id=endpoint, revision_id=uuid.uuid4(), replica_id="r", cluster="berlin",
            region="de-1", pool="big", gpu_type="h100_sxm", gpus=4, started_at=utc("2026-05-20T12:15"),
        )  # fmt: skip
    compute()
    row = held(endpoint, utc("2026-05-20T12:00"))
    assert (row.queued, row.held, row.cost) == (3600, 0, 0)
    assert (sums(ClusterHour, "queued"), sums(ClusterHour, "seen")) == (3600, 0)


def test_loading_and_draining_are_not_idle(project):
    endpoint = uuid.uuid4()
    allocation = hold(project, endpoint, "2026-05-20T12:00", None)
    with scope.tenant(project.tenant_id):
        for phase, since in (("serving", "2026-05-20T12:10"), ("draining", "2026-05-20T12:25")):
            allocation_phase(allocation=allocation, phase=AllocationPhase.Phase(phase), since=utc(since))
    compute()
    row = held(endpoint, utc("2026-05-20T12:00"))
    assert (row.loading, row.idle, row.draining) == (600, 900, 300)


def test_a_worker_that_is_killed_between_hours_and_days_leaves_neither(project, monkeypatch):
    hold_since_then(project, uuid.uuid4(), "2026-05-20T00:00", None)
    with monkeypatch.context() as patch:
        patch.setattr(hours, "SUM_DAYS", "SELECT 1 / 0")
        with pytest.raises(Exception, match="division by zero"):
            compute()
    assert sums(HeldHour, "held") == 0
    assert due() == []
    compute()
    assert sums(HeldHour, "held") == sums(HeldDay, "held") == Decimal("12.5") * 3600
