"""Cost and recovery: what tokens cost by class, what of the estate's cost was billed, who is charged most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.utils.functional import cached_property

from billing.reports.asking import Dimension, ask
from billing.reports.costs import CostReport, Recovery, cost_report, recovery_report, top_charged
from billing.reports.utilization import utilization_report
from clusters.endpoints.reporting import cost_targets
from portal.charts import Card, lines_card, ranked_card
from portal.charts.estate import months_card
from portal.pages.console.reports.base import ReportPage
from tenants.roles import PlatformAction

MOST_TENANTS = 12


class CostsPage(ReportPage):
    action = PlatformAction.VIEW_MONEY
    reason = "show operators what tokens cost and what of it was billed"
    template = "console/reports/costs.html"
    name = "costs"
    groups = {
        "slo_class": (Dimension.SLO_CLASS,),
        "model": (Dimension.MODEL,),
        "gpu_type": (Dimension.GPU_TYPE,),
        "cluster": (Dimension.CLUSTER,),
        "tenant": (Dimension.TENANT,),
    }
    filters = ("model", "gpu_type", "slo_class", "tenant")

    @cached_property
    def report(self) -> CostReport:
        return cost_report(self.asked, targets=cost_targets(), currency=settings.CURRENCY)

    @cached_property
    def recovery(self) -> list[Recovery]:
        return recovery_report(first=self._months[0], last=self._months[1])

    @cached_property
    def top_charged(self) -> list[Any]:
        return top_charged(first=self._months[0], last=self._months[1], most=MOST_TENANTS)

    @cached_property
    def top_held(self) -> tuple[Any, ...]:
        asked = ask(start=self.span.start, end=self.span.end, group_by=(Dimension.TENANT,), most=MOST_TENANTS)
        return utilization_report(asked).groups

    @cached_property
    def _months(self):
        asked = ask(start=self.span.start, end=self.span.end, width="1M")
        return asked.start.date(), asked.buckets[-1].date()

    def tables(self) -> dict[str, Iterable[Any]]:
        return {
            "groups": self.report.groups,
            "points": self.report.points,
            "recovery": self.recovery,
            "top-charged": self.top_charged,
            "top-held": self.top_held,
        }

    def content(self) -> dict[str, Any]:
        cards = [self._by_group(), self._over_time(), *self._recovered()]
        return {
            "rows": self.report.groups,
            "recovery": self.recovery,
            "top_charged": self.top_charged,
            "top_held": self.top_held,
            "empty": not (self.report.groups or self.recovery or self.top_charged),
            "charts": [card for card in cards if card],
            "csv": {name: self.csv_url(name) for name in ("groups", "recovery", "top-charged", "top-held")},
            "csv_recovery": self.csv_url("recovery"),
            "csv_groups": self.csv_url("groups"),
            "csv_charged": self.csv_url("top-charged"),
            "csv_held": self.csv_url("top-held"),
        }

    def _by_group(self) -> Card | None:
        rows = self.report.groups
        currencies = {row.currency for row in rows}
        if len(currencies) != 1:
            return None
        series = {"At the tenants' prices": [row.amount_per_million for row in rows]}
        series["Asset cost"] = [
            row.asset_cost_per_million if row.asset_currency in currencies else None for row in rows
        ]
        if any(row.target is not None for row in rows):
            series["Target"] = [row.target for row in rows]
        card = ranked_card(
            id="per-million", title="Cost of a million tokens", things=[row.group for row in rows], series=series,
            unit=currencies.pop(), thing="Group", note="Input and output tokens; GPU time held, idle counted in",
        )  # fmt: skip
        return card and {**card, "csv_url": self.csv_url("groups")}

    def _over_time(self) -> Card | None:
        currencies = {row.currency for row in self.report.groups}
        if len(currencies) != 1:
            return None
        known = {(row.group, row.bucket): row.amount_per_million for row in self.report.points}
        things = list(dict.fromkeys(row.group for row in self.report.groups))[:6]
        lines = {
            thing: [
                None if (value := known.get((thing, at))) is None else float(value)
                for at in self.asked.buckets
            ]
            for thing in things
        }
        card = lines_card(
            id="per-million-time", title="Cost of a million tokens over time", lines=lines, axis=self.axis,
            unit=currencies.pop(), note="At the tenants' prices",
        )  # fmt: skip
        return card and {**card, "csv_url": self.csv_url("points")}

    def _recovered(self) -> list[Card]:
        cards = []
        for currency in sorted({row.currency for row in self.recovery}):
            rows = [row for row in self.recovery if row.currency == currency]
            card = months_card(
                id=f"recovery-{currency.lower()}", title="Billed and asset cost by month",
                months=[f"{row.month:%Y-%m}" for row in rows],
                series={
                    "Billed": [row.billed for row in rows],
                    "Drafts": [row.drafts for row in rows],
                    "Asset cost": [row.cost for row in rows],
                },
                unit=currency, note="Whole calendar months",
            )  # fmt: skip
            if card:
                cards.append({**card, "csv_url": self.csv_url("recovery")})
        return cards
