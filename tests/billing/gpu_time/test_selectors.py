"""The operators' numbers of GPU time: whatever they are grouped by, they sum to the same."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest

from billing.gpu_time.hours import hours_compute
from billing.gpu_time.selectors import asset_costs, gpu_utilization
from billing.models import Allocation, AssetRate, GpuSupply
from tenants import scope
from tenants.errors import Invalid
from tests.billing.prices import utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db

START, END = utc("2026-05-01T06:00"), utc("2026-05-04T18:00")
HOUR = Decimal(3600)


def allocate(project, endpoint_id, since, till, **facts):
    with scope.platform("a test"):
        Allocation.objects.create(
            tenant_id=project.tenant_id,
            project=project,
            endpoint_id=endpoint_id,
            revision_id=uuid.UUID(int=9),
            replica_id=str(uuid.uuid4()),
            **(
                {"cluster": "berlin", "region": "de-1", "pool": "big", "gpu_type": "h100_sxm", "gpus": 2}
                | facts
            ),
            started_at=since,
            ended_at=till,
        )


def supply(cluster, pool, gpu_type, gpus, **facts):
    with scope.platform("a test"):
        GpuSupply.objects.create(
            cluster=cluster, region="de-1", pool=pool, node="n1", gpu_type=gpu_type, gpus=gpus,
            started_at=START, ended_at=END, **facts,
        )  # fmt: skip


@pytest.fixture
def estate():
    """Of eight H100 one tenant holds two for a day, of seven parts of one another holds one, without a rate."""
    first, second = default_project(make_tenant("first")), default_project(make_tenant("second"))
    chat, small = uuid.uuid4(), uuid.uuid4()
    supply("berlin", "big", "h100_sxm", 8, platform=1)
    supply("oslo", "parts", "h100_sxm-1g-10gb", 7, slice="1g.10gb", share=Decimal("0.14285714"))
    allocate(first, chat, utc("2026-05-01T12:00"), utc("2026-05-02T12:00"))
    allocate(
        second, small, utc("2026-05-03T00:00"), utc("2026-05-03T02:30"),
        cluster="oslo", pool="parts", gpu_type="h100_sxm-1g-10gb", slice="1g.10gb", gpus=1, share=Decimal("0.14285714"),
    )  # fmt: skip
    add_usage(first, at=utc("2026-05-01T13:20"), endpoint_id=chat)
    with scope.platform("a test"):
        AssetRate.objects.create(
            cluster="berlin",
            gpu_type="",
            amount=Decimal("1.50"),
            currency="EUR",
            effective_from=utc("2026-01-01"),
        )
    hours_compute(now=utc("2026-05-05T00:00"), wait=True)
    return {"first": first, "second": second, "chat": chat, "small": small}


def test_the_whole_period_adds_up(estate):
    (row,) = gpu_utilization(START, END)
    time = row.time
    hours = 3 * 24 + 12
    assert time.seen == hours * 15 * HOUR == time.held + time.free + time.platform
    assert time.held == (48 + Decimal("2.5")) * HOUR
    assert (time.serving, time.idle) == (2 * HOUR, time.held - 2 * HOUR)
    assert time.platform == hours * HOUR
    assert row.whole.held == 48 * HOUR + Decimal("2.5") * HOUR * Decimal("0.14285714")


@pytest.mark.parametrize("bucket", ["", "1h", "1d"])
@pytest.mark.parametrize(
    "group_by", [(), ("cluster",), ("pool", "gpu_type"), ("tenant",), ("region", "endpoint")]
)
def test_groups_and_buckets_sum_to_the_whole(estate, bucket, group_by):
    (whole,) = gpu_utilization(START, END)
    rows = gpu_utilization(START, END, bucket=bucket, group_by=group_by)
    for name in ("seen", "held", "serving", "idle", "loading", "draining", "free", "platform", "excess"):
        assert sum(getattr(row.time, name) for row in rows) == getattr(whole.time, name), name
        assert sum(getattr(row.whole, name) for row in rows) == getattr(whole.whole, name), name
    costs = asset_costs(START, END, bucket=bucket, group_by=group_by)
    assert sum(row.gpu_seconds for row in costs) == whole.time.seen
    assert sum(row.cost for row in costs) == 84 * 8 * Decimal("1.5")
    assert all(row.cost == row.held + row.free + row.platform for row in costs)
    assert {(row.start is None) for row in rows + costs} == {bucket == ""}


def test_what_nobody_held_is_a_group_of_its_own(estate):
    rows = {row.group: row.time for row in gpu_utilization(START, END, group_by=["tenant", "cluster"])}
    first, second = str(estate["first"].tenant_id), str(estate["second"].tenant_id)
    assert set(rows) == {(first, "berlin"), (second, "oslo"), ("", "berlin"), ("", "oslo")}
    assert rows[first, "berlin"].free == 0
    assert rows["", "berlin"].held == 0
    assert rows["", "berlin"].seen == rows["", "berlin"].free + rows["", "berlin"].platform


def test_days_begin_and_end_in_the_middle(estate):
    rows = gpu_utilization(
        start=START, end=END, bucket="1d", group_by=["cluster"], where={"cluster": ["berlin"]}
    )
    assert [(row.start, row.time.seen / HOUR / 8) for row in rows] == [
        (utc("2026-05-01"), 18), (utc("2026-05-02"), 24), (utc("2026-05-03"), 24), (utc("2026-05-04"), 18),
    ]  # fmt: skip


def test_narrowed_to_an_endpoint(estate):
    where = {"endpoint": [str(estate["chat"])]}
    (row,) = gpu_utilization(START, END, where=where, group_by=["gpu_type"])
    assert (row.group, row.time.held, row.time.free) == (("h100_sxm",), 48 * HOUR, 0)
    (cost,) = asset_costs(START, END, where=where)
    assert (cost.cost, cost.idle, cost.currency) == (72, 72 - 3, "EUR")


def test_time_without_a_rate_is_reported_and_costs_nothing(estate):
    (row,) = asset_costs(START, END, where={"cluster": ["oslo"]})
    assert (row.currency, row.cost, row.gpu_seconds) == ("", 0, 84 * 7 * HOUR)


@pytest.mark.parametrize(
    "asked",
    [{"bucket": "1w"}, {"group_by": ["color"]}, {"where": {"color": ["red"]}}, {"where": {"tenant": ["x"]}}],
)
def test_what_is_unknown_is_refused(asked):
    with pytest.raises(Invalid):
        gpu_utilization(START, END, **asked)
    assert gpu_utilization(START, START + dt.timedelta(0)) == []


def test_an_empty_period_has_no_rows(estate):
    assert gpu_utilization(utc("2027-01-01"), utc("2027-01-02")) == []
    assert asset_costs(utc("2027-01-01"), utc("2027-01-02"), group_by=["tenant"]) == []
