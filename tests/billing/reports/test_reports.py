"""Reports over a small estate, against figures computed by hand."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from billing.buckets import Width
from billing.reports.asking import Dimension, ask
from billing.reports.costs import cost_report, recovery_report
from billing.reports.throughput import throughput_report
from billing.reports.utilization import utilization_report
from tenants import scope
from tests.billing.reports.estate import report_estate

D = Decimal
START, END = dt.datetime(2026, 5, 30, tzinfo=dt.UTC), dt.datetime(2026, 6, 2, tzinfo=dt.UTC)


@pytest.fixture
def reported(db):
    return report_estate()


def asked(*group_by: Dimension, width: Width = Width.DAY, start=START, end=END, **narrowed):
    return ask(start=start, end=end, width=width, group_by=group_by, narrowed=narrowed)


@pytest.mark.parametrize("width", [Width.HOUR, Width.DAY, Width.MONTH])
def test_utilization_by_pool(reported, width):
    with scope.platform("look"):
        report = utilization_report(asked(Dimension.POOL, width=width))
    l4, h100 = report.groups
    assert (l4.group, h100.group) == ("fi-a / l4", "de-a / h100")
    assert (h100.seen, h100.held, h100.serving, h100.idle, h100.free, h100.platform) == (16, 8, 4, 4, 4, 4)
    assert (h100.held_share, h100.serving_share) == (D("0.666667"), D("0.5"))
    assert (l4.held, l4.serving, l4.free, l4.held_share) == (24, 24, 8, D("0.75"))
    assert report.total.held == 32
    assert sum(point.held for point in report.points) == 32
    assert len({point.bucket for point in report.points}) == (4 if width == Width.HOUR else 2)


@pytest.mark.parametrize("width", [Width.DAY, Width.MONTH])
def test_utilization_by_tenant_project_and_endpoint(reported, width):
    with scope.platform("look"):
        tenants = utilization_report(asked(Dimension.TENANT, width=width))
        endpoints = utilization_report(asked(Dimension.ENDPOINT, width=width))
        projects = utilization_report(asked(Dimension.PROJECT, width=width, tenant_id=reported.sued.id))
    assert [(row.group, row.held) for row in tenants.groups] == [("Nord", 24), ("Süd", 8)]
    assert [(row.group, row.held, row.idle) for row in endpoints.groups] == [
        ("code (Nord)", 16, 0), ("chat (Nord)", 8, 4), ("mail (Süd)", 8, 0),
    ]  # fmt: skip
    assert [(row.group, row.held, row.seen) for row in projects.groups] == [("Default (Süd)", 8, None)]


def test_by_hour_one_tenant_is_told(reported):
    with scope.platform("look"):
        report = utilization_report(
            asked(Dimension.ENDPOINT, width=Width.HOUR, tenant_id=reported.nord.id, gpu_type="h100_sxm")
        )
    assert [(point.bucket.hour, point.serving, point.idle) for point in report.points] == [
        (10, 2, 0), (11, 0, 2), (10, 2, 0), (11, 0, 2),
    ]  # fmt: skip


def test_groups_past_the_most_are_one(reported):
    with scope.platform("look"):
        question = ask(start=START, end=END, width=Width.DAY, group_by=(Dimension.ENDPOINT,), most=1)
        report = utilization_report(question)
    assert [(row.group, row.held) for row in report.groups] == [("code (Nord)", 16), ("All others", 16)]
    assert sum(point.held for point in report.points) == 32


def test_throughput_beside_its_plan(reported):
    with scope.platform("look"):
        report = throughput_report(asked(Dimension.MODEL, Dimension.GPU_TYPE))
    rows = {row.group: row for row in report.groups}
    chat = rows["guide / h100_sxm"]  # 72,000 tokens by two GPUs in one hour, on two days
    assert (chat.serving, chat.output_tokens, chat.output_per_gpu_s) == (4, 144_000, 10)
    assert (chat.planned_per_gpu_s, chat.of_planned) == (50, D("0.2"))
    code = rows["coder / l4"]
    assert (code.output_per_gpu_s, code.planned_per_gpu_s, code.of_planned) == (10, 20, D("0.5"))
    mail = rows["guide / l4"]
    assert (mail.output_per_gpu_s, mail.planned_per_gpu_s, mail.of_planned) == (1, None, None)


def test_cost_of_a_million_tokens_by_class(reported):
    with scope.platform("look"):
        report = cost_report(asked(Dimension.SLO_CLASS), targets={"interactive": D(100)}, currency="EUR")
    batch, interactive = sorted(report.groups, key=lambda row: row.group)
    assert interactive.amount == 16  # 8 GPU-hours at 2
    assert interactive.tokens == 2 * (72_000 + 1_000)
    assert interactive.amount_per_million == round(D(16) * 10**6 / 146_000, 6)
    assert (interactive.target, interactive.of_target) == (100, D("1.095890"))
    assert (batch.target, batch.of_target) == (None, None)
    assert (batch.amount, batch.asset_cost, batch.asset_currency) == (12, 6, "EUR")


def test_recovery_of_what_gpus_cost(reported):
    with scope.platform("look"):
        may, june = recovery_report(first=START.date(), last=END.date())
    assert (may.month, june.month) == (dt.date(2026, 5, 1), dt.date(2026, 6, 1))
    # Two hours of four H100 at 1 and eight L4 at 0.25.
    assert (may.cost, may.held_cost, may.free_cost, may.platform_cost) == (12, 7, 3, 2)
    assert (may.rated, may.billed, may.recovered) == (14, 0, 0)


def test_an_empty_estate_has_empty_reports(db):
    with scope.platform("look"):
        assert utilization_report(asked(Dimension.TENANT)).groups == ()
        assert utilization_report(asked()).total.held == 0
        assert throughput_report(asked(Dimension.MODEL)).groups == ()
        assert cost_report(asked(Dimension.SLO_CLASS)).groups == ()
        assert recovery_report(first=START.date(), last=END.date()) == []
