"""Usage and cost: charts and tables over a span of days, by endpoint, project, model or key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing.costs import Cost, DailyCost, cost_summary, daily_costs
from billing.usage import UsagePoint, usage_series
from portal.charts.usage import UsageDay, cost_card, tokens_card
from portal.pages.base import TenantPage, charts_allowed
from portal.pages.csv_files import csv_download, csv_text
from portal.pages.endpoint import EndpointPage
from portal.pages.filters import Address
from portal.pages.ranges import Span, range_control, span_of
from tenants.roles import Action

GROUPS: Final = {"endpoint": "Endpoint", "project": "Project", "model": "Model", "key": "Key"}


@dataclasses.dataclass(kw_only=True)
class Row:
    """What one group used; costs are None where usage is not told apart that way."""

    label: str
    url: str = ""
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    gpu_hours: Decimal | None = None
    allocation: Decimal | None = None
    usage: Decimal | None = None

    def add(self, part: Cost | UsagePoint) -> None:
        """Count in what ``part`` used and, if it has any, cost."""
        for name in ("requests", "input_tokens", "output_tokens", "cached_tokens"):
            setattr(self, name, getattr(self, name) + getattr(part, name))
        if isinstance(part, Cost):
            for name in ("gpu_hours", "allocation", "usage"):
                setattr(self, name, (getattr(self, name) or Decimal(0)) + getattr(part, name))


class UsagePage(TenantPage):
    """What the page and its download share."""

    action = Action.VIEW_COST

    @property
    def span(self) -> Span:
        return span_of(self.request.GET, timezone.now(), self.tenant.time_zone)

    @property
    def group(self) -> str:
        asked = self.request.GET.get("by", "")
        return asked if asked in GROUPS else "endpoint"


@charts_allowed
class Usage(UsagePage):
    """The page."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        span, group = self.span, self.group
        summary = cost_summary(start=span.start, end=span.end)
        days = usage_days(daily_costs(start=span.start, end=span.end))
        context = {
            "span": span,
            "range": range_control(span, Address(path=self.url("usage"), asked={"by": group}).over),
            "group": group,
            "groups": [
                {"label": label, "url": self.url("usage", range=span.key, by=key), "current": key == group}
                for key, label in GROUPS.items()
            ],
            "group_label": GROUPS[group],
            "summary": summary,
            "empty": not (summary.total.requests or summary.total.gpu_hours),
            "charts": charts(days, self.tenant.currency),
            "rows": self._rows(span, group, summary),
            "csv_url": self.url("usage-csv", range=span.key, by=group),
        }
        return self.render("tenant/usage/page.html", context)

    def _rows(self, span: Span, group: str, summary: Any) -> list[Row]:
        rows: dict[str, Row] = {}
        if group == "key":
            for point in usage_series(start=span.start, end=span.end, bucket="day", group_by="key"):
                rows.setdefault(point.group, Row(label=point.label)).add(point)
        elif group == "project":
            for project in summary.projects:
                rows.setdefault(str(project.project_id), Row(label=project.project)).add(project.cost)
        else:
            for each in summary.endpoints:
                if group == "model":
                    row = rows.setdefault(each.model, Row(label=each.model or "(none)"))
                else:
                    url = self.url("endpoint", each.endpoint_id) if each.endpoint_id else ""
                    row = rows.setdefault(str(each.endpoint_id), Row(label=each.endpoint, url=url))
                row.add(each.cost)
        return sorted(
            rows.values(), key=lambda row: (-(row.allocation or 0), -row.input_tokens - row.output_tokens)
        )


class UsageCsv(UsagePage):
    """The same by day, as CSV."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        span, group = self.span, self.group
        counted = ("requests", "input_tokens", "cached_tokens", "output_tokens")
        header = ["day", group, *counted]
        rows: Iterable[list[object]]
        if group in ("endpoint", "project"):
            header += ["gpu_hours", "cost_gpu_time", "cost_tokens", "currency"]
            found = daily_costs(start=span.start, end=span.end, group_by=group)
            rows = [
                [
                    f"{each.day:%Y-%m-%d}", each.label, *(getattr(each.cost, name) for name in counted),
                    f"{each.cost.gpu_hours:f}", f"{each.cost.allocation:f}", f"{each.cost.usage:f}",
                    self.tenant.currency,
                ]
                for each in found
            ]  # fmt: skip
        else:
            points = usage_series(start=span.start, end=span.end, bucket="day", group_by=group)
            rows = [
                [f"{point.bucket:%Y-%m-%d}", point.label, *(getattr(point, name) for name in counted)]
                for point in points
            ]
        name = f"usage-{self.tenant.slug}-{span.start:%Y%m%d}-{span.end:%Y%m%d}.csv"
        return csv_download(name, csv_text(header, rows))


@charts_allowed
class EndpointCost(EndpointPage):
    """What one endpoint used and cost."""

    tab = "endpoint-cost"
    action = Action.VIEW_COST

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        span = span_of(request.GET, timezone.now(), self.tenant.time_zone)
        mine = str(self.endpoint.id)
        every_day = daily_costs(start=span.start, end=span.end)
        by_day = {
            each.day: each
            for each in daily_costs(start=span.start, end=span.end, group_by="endpoint")
            if each.group == mine
        }
        days = [_usage_day(each, by_day.get(each.day)) for each in every_day]
        total = Row(label=self.endpoint.name, gpu_hours=Decimal(0), allocation=Decimal(0), usage=Decimal(0))
        for each in by_day.values():
            total.add(each.cost)
        points = usage_series(start=span.start, end=span.end, bucket="day", endpoint_id=self.endpoint.id)
        context = {
            "span": span,
            "range": range_control(span, Address(path=self.link("endpoint-cost"), asked={}).over),
            "total": total,
            "tokens": total.input_tokens + total.output_tokens,
            "ttft": _worst(point.ttft_p95_ms for point in points),
            "itl": _worst(point.itl_p95_ms for point in points),
            "charts": charts(days, self.tenant.currency),
        }
        return self.render("tenant/endpoint/cost.html", context)


def _worst(latencies: Iterable[float | None]) -> float | None:
    return max((found for found in latencies if found is not None), default=None)


def usage_days(rows: Iterable[DailyCost]) -> list[UsageDay]:
    """Give daily costs as the charts take them."""
    return [_usage_day(row, row) for row in rows]


def charts(days: list[UsageDay], currency: str) -> list[dict[str, Any]]:
    """Give the charts that have something to show."""
    cards = [cost_card(days, id="cost-by-day", currency=currency), tokens_card(days, id="tokens-by-day")]
    return [card for card in cards if card]


def _usage_day(day: DailyCost, found: DailyCost | None) -> UsageDay:
    cost = found.cost if found else None
    return UsageDay(
        day=day.day,
        input_tokens=cost.input_tokens if cost else 0,
        output_tokens=cost.output_tokens if cost else 0,
        cached_tokens=cost.cached_tokens if cost else 0,
        allocation=cost.allocation if cost else Decimal(0),
        usage=cost.usage if cost else Decimal(0),
    )
