"""Making, changing and deleting a budget."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.budgets.services import budget_change, budget_create, budget_delete
from billing.models import Budget
from billing.models.budgets import MOST, default_alerts
from portal.pages.base import TenantPage, put_on_form
from portal.pages.budgets import BudgetPage
from tenants.errors import BerthError
from tenants.models import ApiKey, KeyScope, Project
from tenants.roles import Action

MOST_ALERTS: Final = 10
_UNITS: Final = {
    Budget.Unit.MONEY: ("Money", "Tokens at the price list, in {currency}."),
    Budget.Unit.TOKENS: ("Tokens", "Input and output together, whatever they cost."),
}


class PercentsField(forms.CharField):
    """Shares in percent, apart by commas or blanks."""

    def clean(self, value: Any) -> list[int]:
        words = (super().clean(value) or "").replace(",", " ").replace("%", " ").split()
        if any(not word.isascii() or not word.isdigit() or not 1 <= int(word[:4]) <= 100 for word in words):
            raise forms.ValidationError("Write whole percents from 1 to 100, apart by commas.")
        found = sorted({int(word) for word in words})
        if len(found) > MOST_ALERTS:
            raise forms.ValidationError(f"At most {MOST_ALERTS} shares are told.")
        return found


class BudgetForm(forms.Form):
    """What may be changed of a budget."""

    name = forms.CharField(max_length=80)
    limit = forms.DecimalField(
        min_value=0, max_value=MOST, max_digits=24, decimal_places=10, help_text="In each day, week or month."
    )
    alert_percents = PercentsField(
        required=False,
        label="Tell when this much is spent",
        help_text="In percent, apart by commas. Empty: never.",
    )
    active = forms.BooleanField(required=False, initial=True, label="In force")


class NewBudgetForm(BudgetForm):
    """A budget to be made."""

    owner = forms.ChoiceField(
        label="Whose", help_text="All requests of the tenant, of a project, or of one key."
    )
    unit = forms.ChoiceField(choices=Budget.Unit, label="Counts")
    period = forms.ChoiceField(
        choices=[("day", "A day"), ("week", "A week, from Monday"), ("month", "A month")], label="Holds for",
        help_text="By the calendar of the tenant's time zone.",
    )  # fmt: skip

    field_order = ("name", "owner", "unit", "limit", "period", "alert_percents", "active")

    def __init__(self, *args: Any, tenant_name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keys = ApiKey.objects.filter(scope=KeyScope.INFERENCE, ephemeral=False, revoked_at=None)
        projects = Project.objects.order_by("name")
        self.fields["owner"].choices = [
            ("tenant", f"All of {tenant_name}"),
            ("Projects", [(f"project:{each.id}", each.name) for each in projects]),
            ("Keys", [(f"key:{each.id}", str(each)) for each in keys.order_by("name")]),
        ]

    def owner_chosen(self) -> dict[str, Any]:
        """Give kind and id of the chosen owner."""
        kind, _, id = self.cleaned_data["owner"].partition(":")
        return {"owner_kind": kind, "owner_id": uuid.UUID(id) if id else None}


class NewBudget(TenantPage):
    """Make a budget."""

    action = Action.MANAGE_BUDGETS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        alerts = ", ".join(map(str, default_alerts()))
        initial = {"unit": Budget.Unit.MONEY, "period": "month", "alert_percents": alerts, "active": True}
        return self._show(self._form(initial=initial))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = self._form(request.POST)
        if form.is_valid():
            chosen = form.cleaned_data
            try:
                budget = budget_create(
                    **form.owner_chosen(),
                    **{
                        name: chosen[name]
                        for name in ("name", "unit", "limit", "period", "alert_percents", "active")
                    },
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The budget {budget.name} holds from now on.")
                return redirect(self.url("budget", budget.id))
        return self._show(form, status=422)

    def _form(self, *args: Any, **kwargs: Any) -> NewBudgetForm:
        return NewBudgetForm(*args, tenant_name=self.tenant.name, **kwargs)

    def _show(self, form: NewBudgetForm, *, status: int = 200) -> HttpResponse:
        tiles = [
            {
                "value": unit.value,
                "label": label,
                "text": text.format(currency=self.tenant.currency),
                "checked": form["unit"].value() == unit,
            }
            for unit, (label, text) in _UNITS.items()
        ]
        context = {"form": form, "budget": None, "units": tiles, "cancel_url": self.url("budgets")}
        return self.render("tenant/budgets/form.html", context, status=status)


class EditBudget(BudgetPage):
    """Change a budget's name, limit and alerts, or take it out of force."""

    action = Action.MANAGE_BUDGETS

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        budget = self.budget()
        initial = {
            "name": budget.name,
            "limit": f"{budget.limit.normalize():f}",
            "alert_percents": ", ".join(map(str, budget.alert_percents)),
            "active": budget.active,
        }
        return self._show(budget, BudgetForm(initial=initial))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        budget, form = self.budget(), BudgetForm(request.POST)
        if form.is_valid():
            try:
                budget_change(budget=budget, **form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The budget {budget.name} is changed.")
                return redirect(self.url("budget", budget.id))
        return self._show(budget, form, status=422)

    def _show(self, budget: Budget, form: BudgetForm, *, status: int = 200) -> HttpResponse:
        context = {"form": form, "budget": budget, "cancel_url": self.url("budget", budget.id)}
        return self.render("tenant/budgets/form.html", context, status=status)


class DeleteBudget(BudgetPage):
    """Delete a budget with its history, once confirmed."""

    action = Action.MANAGE_BUDGETS

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        budget = self.budget()
        context = {
            "budget": budget,
            "consequences": [
                "Nothing of it holds up requests any more.",
                "Its past windows and alerts are gone; usage and cost stay on your statements.",
            ],
            "cancel_url": self.url("budget", budget.id),
        }
        return self.render("tenant/budgets/delete.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        budget = self.budget()
        budget_delete(budget=budget)
        self.say(f"The budget {budget.name} is deleted.")
        return redirect(self.url("budgets"))
