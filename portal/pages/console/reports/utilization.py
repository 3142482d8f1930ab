"""GPU utilization: what the hours of GPUs were spent on, over time, by place, type or whoever held them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.functional import cached_property

from billing.buckets import Width
from billing.reports.asking import OF_POOLS, Dimension
from billing.reports.utilization import Utilization, UtilizationReport, utilization_report
from portal.charts import Card, Point, axis_of, series_card
from portal.charts.estate import heat_card, parts_card
from portal.pages.console.reports.base import ReportPage
from portal.templatetags.berth import percent
from tenants.roles import PlatformAction

#: What is shown of GPU time, in the order it is stacked.
PARTS = (
    ("serving", "Serving"), ("idle", "Idle"), ("loading", "Loading"), ("draining", "Draining"), ("free", "Free"),
    ("platform", "Not Berth's"),
)  # fmt: skip
SPANS = {Width.HOUR: "hours of UTC", Width.DAY: "days of UTC", Width.MONTH: "whole months of UTC"}


class UtilizationPage(ReportPage):
    action = PlatformAction.VIEW_ESTATE
    reason = "show operators how GPUs are used"
    template = "console/reports/utilization.html"
    name = "utilization"
    groups = {
        each.value: (each,)
        for each in (
            Dimension.CLUSTER, Dimension.POOL, Dimension.GPU_TYPE, Dimension.TENANT, Dimension.PROJECT,
            Dimension.ENDPOINT, Dimension.MODEL, Dimension.SLO_CLASS,
        )
    }  # fmt: skip
    filters = ("cluster", "pool", "gpu_type", "tenant", "project", "endpoint")

    @cached_property
    def report(self) -> UtilizationReport:
        return utilization_report(self.asked)

    def tables(self) -> dict[str, Iterable[Any]]:
        return {"groups": self.report.groups, "points": self.report.points}

    def content(self) -> dict[str, Any]:
        report = self.report
        places = self.asked.needed <= OF_POOLS
        return {
            "report": report,
            "total": report.total,
            "places": places,
            "empty": not (report.total.held or report.total.seen),
            "dimension": Dimension(self.group).label,
            "dimension_small": _small(Dimension(self.group).label),
            "held_note": f"{percent(report.total.held_share)} of what could be"
            if places
            else "by whoever is shown",
            "serving_note": f"{percent(report.total.serving_share)} of what was held",
            "charts": [card for card in (self._over_time(), self._heat(places), self._by_group()) if card],
            "csv_groups": self.csv_url("groups"),
        }

    def _over_time(self) -> Card | None:
        card = over_time_card(self.report)
        return card and {**card, "csv_url": self.csv_url("points")}

    def _heat(self, places: bool) -> Card | None:
        def value(row: Utilization):
            return row.held_share if places else row.serving_share

        dimension = Dimension(self.group).label
        card = heat_card(
            id="heat",
            title=f"{'Held of what could be' if places else 'Serving of what was held'}, by {_small(dimension)}",
            things=[row.group for row in self.report.groups],
            shares={(row.group, row.bucket): value(row) for row in self.report.points if row.bucket},
            axis=self.axis,
            note="100 %: all GPUs of it, all the time",
        )
        return card and {**card, "csv_url": self.csv_url("points")}

    def _by_group(self) -> Card | None:
        rows = self.report.groups
        parts = {
            label: [getattr(row, name) or 0 for row in rows]
            for name, label in PARTS
            if any(getattr(row, name) for row in rows)
        }
        card = parts_card(
            id="by-group", title=f"GPU-hours by {_small(Dimension(self.group).label)}",
            things=[row.group for row in rows], parts=parts, unit="GPU-hours", thing=Dimension(self.group).label,
        )  # fmt: skip
        return card and {**card, "csv_url": self.csv_url("groups")}


def over_time_card(report: UtilizationReport) -> Card | None:
    """Give bars of GPU-hours over the report's buckets, by what was done in them."""
    asked = report.asked
    points = [
        Point(row.bucket, label, value)
        for row in report.totals
        for name, label in PARTS
        if row.bucket and (value := getattr(row, name))
    ]
    return series_card(
        id="over-time", title="GPU-hours over time", points=points, axis=axis_of(asked.buckets, asked.width),
        unit="GPU-hours", note=f"Whole GPUs; {SPANS[asked.width]}", order=[label for _, label in PARTS],
    )  # fmt: skip


def _small(label: str) -> str:
    return label if label[:2].isupper() else label.lower()
