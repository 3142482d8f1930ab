"""Savings found over all tenants: what, how much, how computed, where to act; putting one off."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.reports.documents import table
from clusters.endpoints.savings.keeping import saving_dismiss
from clusters.endpoints.savings.selectors import SavingRow, savings_list, totals
from clusters.inventory import remit
from clusters.models import Saving
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from portal.pages.csv_files import csv_download, csv_text
from portal.pages.filters import Address, Filter, filter_bar, picked
from portal.pages.savings_shown import savings_shown
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.roles import PlatformAction

MOST = 100
USUAL_REST = dt.timedelta(days=30)


class SavingsPage(ConsolePage):
    action = PlatformAction.VIEW_ENDPOINTS
    reason = "show operators what endpoints could save"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        choices: dict[str, list[tuple[str, str]]] = {
            "kind": list(Saving.Kind.choices),
            "tenant": list(
                Tenant.objects.filter(id__in=remit.savings().values("tenant_id"))
                .order_by("name")
                .values_list("slug", "name")
            ),
            "put_off": [("1", "Put off")],
        }
        given, problems = {}, []
        for name, what in (
            ("kind", "kind of saving"),
            ("tenant", "tenant with savings"),
            ("put_off", "choice"),
        ):
            given[name], problem = picked(request.GET.get(name, ""), choices[name], what)
            problems.append(problem)
        rows = savings_list(
            now=now,
            kind=given["kind"],
            tenant=given["tenant"],
            dismissed=bool(given["put_off"]),
            among=remit.savings(),
        )
        if request.GET.get("csv"):
            return csv_download("savings.csv", csv_text(*table(rows)))
        address = Address(path=request.path, asked=given)
        bar = filter_bar(
            [
                Filter(
                    name="kind", label="Kind", choices=choices["kind"], value=given["kind"], everything="All kinds"
                ),
                Filter(
                    name="tenant", label="Tenant", choices=choices["tenant"], value=given["tenant"],
                    everything="All tenants",
                ),
                Filter(
                    name="put_off", label="State", choices=choices["put_off"], value=given["put_off"],
                    everything="Open",
                ),
            ],
            address,
        )  # fmt: skip
        bar["filters"] = [
            each for each in bar["filters"] if each.name != "tenant" or each.value or choices["tenant"]
        ]
        context = {
            "bar": bar,
            "savings": savings_shown(rows[:MOST], self._links),
            "count": len(rows),
            "left_out": max(0, len(rows) - MOST),
            "totals": totals(rows),
            "put_off": bool(given["put_off"]),
            "narrowed": any(given.values()),
            "problem": " ".join(filter(None, problems)),
            "csv_url": address.link(csv="1"),
        }
        return self.render("console/reports/savings.html", context)

    def _links(self, row: SavingRow) -> list[tuple[str, str]]:
        links = [("Open the endpoint", reverse("console:endpoint", args=[row.endpoint_id]))]
        if row.kind != Saving.Kind.IDLE and self.operator.may(PlatformAction.VIEW_FLEET):
            links.insert(0, ("Ask the advisor", reverse("console:advisor")))
        if self.operator.may(PlatformAction.MANAGE_ENDPOINTS):
            links.append(("Put off", reverse("console:saving-dismiss", args=[row.id])))
        return links


class DismissForm(ConsoleForm):
    reason = forms.CharField(
        max_length=300, help_text="For those who come after you: why this is no saving, or not now."
    )
    until = forms.DateField(
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text="It is shown again from this day on, if it still holds then.",
    )


class SavingDismiss(FormPage):
    """Puts a finding off."""

    action = PlatformAction.MANAGE_ENDPOINTS
    reason = "put a finding off"
    form_class: ClassVar[type[ConsoleForm]] = DismissForm
    title = "Put a saving off"
    submit_label = "Put off"

    @property
    def saving(self) -> Saving:
        found = remit.savings().select_related("endpoint", "tenant").filter(id=self.kwargs["id"]).first()
        if found is None:
            raise NotFound("There is no such saving any more.")
        return found

    def initial(self) -> dict[str, Any]:
        return {"until": (timezone.now() + USUAL_REST).date()}

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": "Savings", "url": reverse("console:report-savings")}]

    def heading(self) -> str:
        return f"Put off: {self.saving.endpoint.name}"

    def more_context(self) -> dict[str, Any]:
        return {"lede": self.saving.what}

    def save(self, form: DismissForm) -> HttpResponse:
        saving, until = self.saving, form.cleaned_data["until"]
        saving_dismiss(
            saving=saving,
            reason=form.cleaned_data["reason"],
            until=dt.datetime.combine(until, dt.time(), tzinfo=dt.UTC),
            actor=self.actor,
            now=timezone.now(),
        )
        audit(self.request.user, "saving.dismiss", saving=str(saving.id), until=until.isoformat())
        self.say(f"The saving at {saving.endpoint.name} is put off until {until:%Y-%m-%d}.")
        return redirect("console:report-savings")
