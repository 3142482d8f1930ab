"""What nodes showed is what was held, what nobody held and the platform's: in every hour, of time and of money.

The hours that the database computes are compared with a second computation that shares no code with it: exact
fractions, moment by moment.
"""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.gpu_time.hours import hours_compute
from billing.models import (
    Allocation,
    AllocationPhase,
    AssetRate,
    ClusterDay,
    ClusterHour,
    GpuSupply,
    HeldDay,
    HeldHour,
    UsageHour,
)
from tenants import scope
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db(transaction=False)

START = dt.datetime(2026, 5, 20, 22, tzinfo=dt.UTC)  # the third hour is of the next day
HOURS = [START + number * dt.timedelta(hours=1) for number in range(4)]
END = HOURS[-1] + dt.timedelta(minutes=30)  # the last one still runs
ENDPOINTS = [uuid.UUID(int=number) for number in (1, 2, 3)]
WITHIN = Fraction(1, 10**9)

#: (cluster, pool, GPU type, slice, share)
POOLS = [
    ("berlin", "big", "h100_sxm", "", Decimal(1)),
    ("berlin", "parts", "h100_sxm-1g-10gb", "1g.10gb", Decimal("0.14285714")),
    ("oslo", "big", "l4", "", Decimal(1)),
]

moments = st.integers(-3600 * 10**6, 5 * 3600 * 10**6).map(lambda us: START + dt.timedelta(microseconds=us))
spans = st.tuples(moments, st.none() | moments).filter(lambda span: span[1] is None or span[0] <= span[1])
allocations = st.lists(
    st.tuples(
        st.sampled_from(POOLS),
        spans,
        st.integers(1, 8),
        st.sampled_from(ENDPOINTS),
        st.lists(st.tuples(moments, st.sampled_from(["loading", "serving", "draining"])), max_size=3),
    ),
    max_size=6,
)
supplies = st.lists(
    st.tuples(st.sampled_from(POOLS), spans, st.integers(0, 8), st.integers(0, 8)).map(
        lambda each: (*each[:3], min(each[2], each[3]))
    ),
    max_size=5,
)
rates = st.lists(
    st.tuples(
        st.sampled_from(["", "berlin", "oslo"]),
        st.sampled_from(["", "h100_sxm", "h100_sxm-1g-10gb", "l4"]),
        moments,
        st.decimals(0, 99, places=7),
        st.sampled_from(["EUR", "USD"]),
    ),
    max_size=5,
    unique_by=lambda rate: rate[:3],
)
asked = st.sets(st.tuples(st.sampled_from(ENDPOINTS), st.sampled_from(HOURS)))


@given(allocations, supplies, rates, asked)
@settings(max_examples=120, deadline=None)
def test_every_hour_adds_up_and_is_what_a_second_computation_says(held, shown, rated, used):
    with transaction.atomic():
        tenant = make_tenant()
        project = default_project(tenant)
        intervals = _write(tenant, project, held, shown, rated, used)
        with scope.platform("a test"):
            hours_compute(now=END, wait=True)
            _compare_clusters(intervals, shown, rated)
            _compare_held(intervals, rated, used)
            _compare_days()
            assert hours_compute(now=END, wait=True) == 0, "a second run changed something"
        transaction.set_rollback(True)


def _write(tenant, project, held, shown, rated, used):
    written = []
    with scope.platform("a test"):
        for (cluster, pool, gpu_type, slice, share), (since, till), gpus, endpoint, marks in held:
            row = Allocation.objects.create(
                tenant=tenant, project=project, endpoint_id=endpoint, revision_id=endpoint,
                replica_id=str(uuid.uuid4()), cluster=cluster, region="de-1", pool=pool, gpu_type=gpu_type,
                gpus=gpus, slice=slice, share=share, started_at=since, ended_at=till,
            )  # fmt: skip
            phases = _phases(since, till, marks)
            for first, last, phase in phases:
                AllocationPhase.objects.create(
                    tenant=tenant, allocation=row, phase=phase, started_at=first, ended_at=last
                )
            written.append((row, phases))
        for number, ((cluster, pool, gpu_type, slice, share), (since, till), gpus, platform) in enumerate(
            shown
        ):
            GpuSupply.objects.create(
                cluster=cluster, region="de-1", pool=pool, node=f"node-{number}", gpu_type=gpu_type, gpus=gpus,
                slice=slice, share=share, platform=platform, started_at=since, ended_at=till,
            )  # fmt: skip
        for cluster, gpu_type, since, amount, currency in rated:
            AssetRate.objects.create(
                cluster=cluster, gpu_type=gpu_type, effective_from=since, amount=amount, currency=currency
            )
        for endpoint, hour in used:
            UsageHour.objects.create(
                tenant=tenant, bucket=hour, project_id=project.id, key_id=uuid.uuid4(), endpoint_id=endpoint,
                model="guide", slo_class="standard", region="de-1", outcome="failed", requests=1,
            )  # fmt: skip
    return written


def _phases(since, till, marks):
    """Cut [since, till) at the marks, each with the phase that begins there."""
    inside = sorted({at: phase for at, phase in marks if at > since and (till is None or at < till)}.items())
    edges = [(since, "loading"), *inside]
    return [
        (at, edges[number + 1][0] if number + 1 < len(edges) else till, phase)
        for number, (at, phase) in enumerate(edges)
    ]


def _rate(rated, cluster, gpu_type, slice, share, at):
    """The rate in force, as amount for a device of the type and currency."""
    whole = gpu_type.split("-")[0]
    found = [
        each for each in rated
        if each[2] <= at and each[0] in ("", cluster) and each[1] in ("", gpu_type, whole)
    ]  # fmt: skip
    if not found:
        return Fraction(0), ""
    best = max(found, key=lambda r: ((r[0] != "") + (r[1] != ""), r[1] != "", r[1] == gpu_type, r[2]))
    part = 1 if best[1] == gpu_type else Fraction(share)
    return Fraction(best[3]) * part, best[4]


def _moments(hour, rated, *intervals):
    inside = {hour, min(hour + dt.timedelta(hours=1), END)}
    edges = itertools.chain((rate[2] for rate in rated), *intervals)
    inside |= {edge for edge in edges if edge is not None and min(inside) < edge < max(inside)}
    return list(itertools.pairwise(sorted(inside)))


def _covers(span, at):
    return span[0] <= at and (span[1] is None or span[1] > at)


def _seconds(since, till):
    return Fraction((till - since) // dt.timedelta(microseconds=1), 10**6)


def _compare_clusters(intervals, shown, rated):
    expected = defaultdict(lambda: defaultdict(Fraction))
    for hour, pool in itertools.product(HOURS, POOLS):
        cluster, name, gpu_type, slice, share = pool
        mine = [row for row, _ in intervals if (row.cluster, row.pool) == (cluster, name)]
        nodes = [each for each in shown if each[0] == pool]
        spans = [(row.started_at, row.ended_at) for row in mine]
        for since, till in _moments(hour, rated, *spans, *(each[1] for each in nodes)):
            seconds = _seconds(since, till)
            held = sum(row.gpus for row, span in zip(mine, spans, strict=True) if _covers(span, since))
            there = sum(gpus for _, span, gpus, _ in nodes if _covers(span, since))
            kept = sum(platform for _, span, _, platform in nodes if _covers(span, since))
            kept = min(kept, max(there - held, 0))
            amount, currency = _rate(rated, cluster, gpu_type, slice, share, since)
            sums = expected[hour, cluster, name, currency]
            sums["held"] += seconds * held
            sums["excess"] += seconds * max(held - there, 0)
            sums["platform"] += seconds * kept
            sums["idle"] += seconds * max(there - held - kept, 0)
            sums["seen"] += seconds * max(there, held)
            sums["cost"] += seconds * max(there, held) * amount / 3600
            sums["held_cost"] += seconds * held * amount / 3600
    expected = {key: sums for key, sums in expected.items() if sums["seen"]}
    rows = {
        (row.bucket, row.cluster, row.pool, row.currency): row
        for row in ClusterHour.objects.filter(bucket__gte=START)
    }
    assert set(rows) == set(expected)
    for key, row in rows.items():
        sums = expected[key]
        assert row.seen == row.held + row.idle + row.platform
        assert row.cost == row.held_cost + row.idle_cost + row.platform_cost
        for name in ("seen", "held", "idle", "platform", "excess"):
            assert Fraction(getattr(row, name)) == sums[name], (key, name)
        for name in ("cost", "held_cost"):
            assert abs(Fraction(getattr(row, name)) - sums[name]) <= WITHIN, (key, name)


def _compare_held(intervals, rated, used):
    expected = defaultdict(lambda: defaultdict(Fraction))
    for hour, (row, phases) in itertools.product(HOURS, intervals):
        span = (row.started_at, row.ended_at)
        for since, till in _moments(hour, rated, span, *(phase[:2] for phase in phases)):
            if not _covers(span, since):
                continue
            seconds = _seconds(since, till) * row.gpus
            amount, currency = _rate(rated, row.cluster, row.gpu_type, row.slice, row.share, since)
            sums = expected[hour, row.endpoint_id, row.pool, row.cluster, currency]
            phase = next(phase for first, last, phase in phases if _covers((first, last), since))
            if phase == "serving" and (row.endpoint_id, hour) not in used:
                phase = "idle"
                sums["idle_cost"] += seconds * amount / 3600
            sums[phase] += seconds
            sums["held"] += seconds
            sums["cost"] += seconds * amount / 3600
    rows = {
        (row.bucket, row.endpoint_id, row.pool, row.cluster, row.currency): row
        for row in HeldHour.objects.filter(bucket__gte=START)
    }
    assert set(rows) == {key for key, sums in expected.items() if sums["held"]}
    for key, row in rows.items():
        for name in ("held", "loading", "serving", "idle", "draining"):
            assert Fraction(getattr(row, name)) == expected[key][name], (key, name)
        for name in ("cost", "idle_cost"):
            assert abs(Fraction(getattr(row, name)) - expected[key][name]) <= WITHIN, (key, name)
    of_clusters = sum((row.held for row in ClusterHour.objects.all()), Decimal(0))
    assert of_clusters == sum((row.held for row in HeldHour.objects.all()), Decimal(0))


def _compare_days():
    for hours, days, names in (
        (
            ClusterHour,
            ClusterDay,
            ("seen", "held", "idle", "platform", "excess", "cost", "held_cost", "idle_cost"),
        ),
        (
            HeldHour,
            HeldDay,
            ("held", "loading", "serving", "idle", "draining", "queued", "cost", "idle_cost"),
        ),
    ):
        sums = [defaultdict(Decimal), defaultdict(Decimal)]
        for found, model in zip(sums, (hours, days), strict=True):
            for row in model.objects.all():
                for name in names:
                    found[row.bucket.date(), row.cluster, row.pool, row.currency, name] += getattr(row, name)
        assert sums[0] == sums[1]
