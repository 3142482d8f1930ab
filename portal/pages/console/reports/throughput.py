"""Throughput: tokens per second of a serving GPU, measured and as planned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils.functional import cached_property

from billing.reports.asking import Dimension
from billing.reports.throughput import ThroughputReport, throughput_report
from portal.charts import Card, lines_card, ranked_card
from portal.pages.console.reports.base import ReportPage
from tenants.roles import PlatformAction

UNIT = "tokens/s"
MOST_LINES = 6


class ThroughputPage(ReportPage):
    action = PlatformAction.VIEW_ESTATE
    reason = "show operators what GPUs give"
    template = "console/reports/throughput.html"
    name = "throughput"
    groups = {
        "gpu-model": (Dimension.GPU_TYPE, Dimension.MODEL),
        "model": (Dimension.MODEL,),
        "gpu_type": (Dimension.GPU_TYPE,),
        "slo_class": (Dimension.SLO_CLASS,),
        "cluster": (Dimension.CLUSTER,),
        "endpoint": (Dimension.ENDPOINT,),
    }
    filters = ("model", "gpu_type", "slo_class", "tenant")

    @cached_property
    def report(self) -> ThroughputReport:
        return throughput_report(self.asked)

    def tables(self) -> dict[str, Iterable[Any]]:
        return {"groups": self.report.groups, "points": self.report.points}

    def content(self) -> dict[str, Any]:
        rows = [row for row in self.report.groups if row.output_tokens or row.serving]
        ranked = ranked_card(
            id="planned", title="Output tokens per second of a serving GPU", things=[row.group for row in rows],
            series={
                "Measured": [row.output_per_gpu_s for row in rows],
                "Planned": [row.planned_per_gpu_s for row in rows],
            },
            unit=UNIT, thing="Group", note="Planned: what plans promise within the targets",
        )  # fmt: skip
        cards = [
            ranked and {**ranked, "csv_url": self.csv_url("groups")},
            self._over_time([row.group for row in rows][:MOST_LINES]),
        ]
        return {
            "rows": rows,
            "total": self.report.total,
            "empty": not rows,
            "charts": [card for card in cards if card],
            "csv_groups": self.csv_url("groups"),
        }

    def _over_time(self, things: list[str]) -> Card | None:
        known = {(row.group, row.bucket): row.output_per_gpu_s for row in self.report.points}
        lines = {
            thing: [
                None if (value := known.get((thing, at))) is None else float(value)
                for at in self.asked.buckets
            ]
            for thing in things
        }
        card = lines_card(
            id="over-time", title="Measured over time", lines=lines, axis=self.axis, unit=UNIT,
            note="The groups that served longest",
        )  # fmt: skip
        return card and {**card, "csv_url": self.csv_url("points")}
