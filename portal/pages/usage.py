"""Usage and cost: one range, filters in the address, a table behind each chart, and CSV of what is shown."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing.attainment import EndpointKept, attainments
from billing.budgets.selectors import budget_forecast, budget_states
from billing.costs import Dimension, month_so_far
from billing.models import Budget
from clusters.models import SloClass
from portal.charts import Card
from portal.pages.attainment_shown import attainment_csv, attainment_rows, days_of
from portal.pages.base import TenantPage
from portal.pages.budgets import forecast_shown, shown
from portal.pages.csv_files import csv_download, csv_text
from portal.pages.endpoint import EndpointPage
from portal.pages.filters import filter_bar
from portal.pages.ranges import range_control
from portal.pages.usage_asked import Asked, asked
from portal.pages.usage_cards import TABLE, charted, counted, group_csv, group_rows, usage_cards
from tenants.roles import Action

ATTAINMENT = "attainment"
BUDGETS_SHOWN = 3
#: So many groups and endpoints stand on the page; the CSV has all.
MOST_ROWS = 50


class UsageView(TenantPage):
    """What the page, the endpoint's tab and their downloads share."""

    action: ClassVar[Action] = Action.VIEW_COST

    def page_path(self) -> str:
        """Give where the page is."""
        return self.url("usage")

    def csv_path(self) -> str:
        """Give where its downloads are."""
        return self.url("usage-csv")

    def fixed(self) -> Mapping[Dimension, str]:
        """Give to what the page is narrowed by itself."""
        return {}

    def asked(self, now: dt.datetime) -> Asked:
        """Read what is asked for."""
        return asked(
            self.request.GET, path=self.page_path(), csv_path=self.csv_path(), tenant=self.tenant, now=now,
            fixed=self.fixed(),
        )  # fmt: skip

    def shown(self, question: Asked, now: dt.datetime) -> dict[str, Any]:
        """Give what the templates show of an answer."""
        drawn = charted(question, now)
        costs = drawn.costs
        rows = group_rows(costs)[:MOST_ROWS]
        if question.group is Dimension.ENDPOINT:
            for row in rows:
                label = question.names.labels.get(uuid.UUID(row["id"])) if row["id"] else None
                if label and not label.external:
                    row["url"] = self.url("endpoint-cost", row["id"])
        kept = self.kept(question)
        empty = not (costs.total.requests or costs.total.gpu_hours)
        return {
            "range": range_control(question.span, question.address.over),
            "range_hidden": [
                {"name": name, "value": value}
                for name, value in question.address.asked.items()
                if value and name not in ("range", "from", "to", "bucket")
            ],
            "bar": filter_bar(question.filters, question.address),
            "problems": question.problems,
            "costs": costs,
            "total": costs.total,
            "group": question.group,
            "group_label": question.group_label,
            "rows": rows,
            "empty": empty,
            "charts": [] if empty else usage_cards(question, drawn, kept),
            "rows_left_out": len(costs.whole) - len(rows),
            "attainment_left_out": max(0, len(kept) - MOST_ROWS),
            "attainment": self.attainment(question, kept),
            "attainment_csv_url": question.csv_url(ATTAINMENT),
            "csv_url": question.csv_url(TABLE),
            "latency_url": "" if question.latency else question.address.link(latency="yes"),
            "statement_url": self.url("statements"),
        }

    @staticmethod
    def kept(question: Asked) -> list[EndpointKept]:
        """Give how endpoints kept their targets, of those that the filters leave."""
        first, after = days_of(question.span)
        return attainments(start=first, end=after, endpoint_ids=question.endpoint_ids, by_day=False)

    def attainment(self, question: Asked, kept: list[EndpointKept]) -> list[dict[str, Any]]:
        """Give the same as the page shows it."""
        classes = dict(SloClass.objects.values_list("name", "title"))
        rows = attainment_rows(kept, question.span, question.names, classes, MOST_ROWS)
        for row in rows:
            row["url"] = self.url("endpoint-cost", row["endpoint_id"]) if row["own"] else ""
        return rows

    def download(self, now: dt.datetime) -> HttpResponse:
        """Answer with the rows behind one chart, or with the table by bucket and group."""
        question = self.asked(now)
        wanted = self.request.GET.get("chart", TABLE)
        if wanted == ATTAINMENT:
            table: list[Any] = attainment_csv(self.kept(question), question.names)
        else:
            table = (
                group_csv(question, counted(question, now))
                if wanted == TABLE
                else self._behind(wanted, question, now)
            )
        name = f"{wanted}-{self.tenant.slug}-{question.span.file_name}.csv"
        return csv_download(name, csv_text(table[0], table[1:]))

    @staticmethod
    def _behind(chart: str, question: Asked, now: dt.datetime) -> list[Any]:
        drawn = charted(question, now)
        cards: dict[str, Card] = {
            card["id"]: card for card in usage_cards(question, drawn, UsageView.kept(question))
        }
        if chart not in cards:
            raise Http404
        return cards[chart]["csv"]


class Usage(UsageView):
    """The tenant's dashboard."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        now = timezone.now()
        question = self.asked(now)
        context = self.shown(question, now)
        everything = context["costs"] if not question.narrow.to else None
        return self.render(
            "tenant/usage/page.html",
            context | {"month": month_so_far(now=now, known=everything), "budgets": self._budgets(now)},
        )

    def _budgets(self, now: dt.datetime) -> list[dict[str, Any]]:
        """Give how the first budgets in money and GPU-hours stand and are expected to end, the tenant's own first."""
        units = (Budget.Unit.MONEY, Budget.Unit.GPU_HOURS)
        budgets = list(Budget.objects.filter(active=True, unit__in=units).order_by("name"))
        budgets.sort(key=lambda each: each.owner_kind != Budget.OwnerKind.TENANT)
        return [
            shown(state)
            | {
                "url": self.url("budget", state.budget.id),
                "forecast": forecast_shown(
                    state.budget, budget_forecast(state.budget, now=now), state.window
                ),
            }
            for state in budget_states(budgets[:BUDGETS_SHOWN], now=now)
        ]


class UsageCsv(UsageView):
    """What the dashboard shows, as CSV."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self.download(timezone.now())


class EndpointUsage(UsageView, EndpointPage):
    """The same of one endpoint."""

    tab = "endpoint-cost"
    action: ClassVar[Action] = Action.VIEW_COST

    def page_path(self) -> str:
        return self.link("endpoint-cost")

    def csv_path(self) -> str:
        return self.link("endpoint-cost-csv")

    def fixed(self) -> Mapping[Dimension, str]:
        return {Dimension.ENDPOINT: str(self.endpoint.id)}


class EndpointCost(EndpointUsage):
    """What one endpoint used and cost, and how it kept its targets."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        now = timezone.now()
        return self.render("tenant/endpoint/cost.html", self.shown(self.asked(now), now))


class EndpointCostCsv(EndpointUsage):
    """The same as CSV."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self.download(timezone.now())
