"""Making, changing and deleting a budget."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.budgets.services import budget_change, budget_create, budget_delete
from billing.models import Budget
from billing.models.budgets import MOST, default_alerts
from portal.pages.base import TenantPage, put_on_form
from portal.pages.budgets import BudgetPage
from tenants.errors import BerthError
from tenants.models import ApiKey, KeyScope, Membership, Project
from tenants.roles import Action

MOST_ALERTS: Final = 10
MOST_RECIPIENTS: Final = 20
#: What may be counted: unit and basis, a label and what it means.
_COUNTS: Final = {
    "money": (
        Budget.Unit.MONEY, Budget.Basis.TOKENS, "Money for requests", "Tokens at the price list, in {currency}.",
    ),
    "tokens": (
        Budget.Unit.TOKENS, Budget.Basis.TOKENS, "Tokens", "Input and output together, whatever they cost.",
    ),
    "gpu_money": (
        Budget.Unit.MONEY, Budget.Basis.GPU_TIME, "Money for GPUs",
        "What dedicated endpoints are charged while they hold GPUs, in {currency}.",
    ),
    "gpu_hours": (
        Budget.Unit.GPU_HOURS, Budget.Basis.GPU_TIME, "GPU-hours", "Hours of GPUs of any type, whatever they cost.",
    ),
}  # fmt: skip
_POLICIES: Final = {
    Budget.Policy.WARN: ("Only warn", "Nothing is refused; alerts are sent."),
    Budget.Policy.BLOCK_NEW: (
        "Block what is new",
        "Requests are refused; of GPUs, orders and changes that need more of them.",
    ),
    Budget.Policy.STOP: (
        "Stop endpoints",
        "Also pauses the owner's endpoints. Shared ones go on. A person resumes them.",
    ),
}
MOST_MEMBERS: Final = 40


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


class AddressesField(forms.CharField):
    """E-mail addresses, apart by commas or blanks."""

    def clean(self, value: Any) -> list[str]:
        words = (super().clean(value) or "").replace(",", " ").replace(";", " ").split()
        for word in words:
            try:
                validate_email(word)
            except ValidationError:
                raise forms.ValidationError(f"{word} is no e-mail address.") from None
        return words


class BudgetForm(forms.Form):
    """What may be changed of a budget. Without a policy it stays as it is."""

    name = forms.CharField(max_length=80)
    limit = forms.DecimalField(
        min_value=0, max_value=MOST, max_digits=24, decimal_places=10, help_text="In each day, week or month."
    )
    alert_percents = PercentsField(
        required=False,
        label="Tell when this much is spent",
        help_text="In percent, apart by commas. Empty: never.",
    )
    policy = forms.ChoiceField(choices=Budget.Policy, required=False)
    mail_alerts = forms.BooleanField(required=False, label="Send alerts by e-mail")
    members = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="To members",
        help_text="None of them and no address: owners, admins and billing.",
    )  # fmt: skip
    addresses = AddressesField(required=False, label="To other addresses", help_text="Apart by commas.")
    active = forms.BooleanField(required=False, initial=True, label="In force")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = Membership.objects.select_related("user").filter(user__is_active=True)
        self.fields["members"].choices = [
            (each.user.email, f"{each.user} ({each.get_role_display().lower()})")
            for each in people.order_by("user__email")[:MOST_MEMBERS]
        ]

    def clean(self) -> dict[str, Any]:
        chosen = super().clean() or self.cleaned_data
        if len(self.recipients(chosen)) > MOST_RECIPIENTS:
            self.add_error("addresses", f"At most {MOST_RECIPIENTS} people are written to.")
        return chosen

    @staticmethod
    def recipients(chosen: dict[str, Any]) -> list[str]:
        """Give everybody who is to be written to."""
        return sorted({*chosen.get("members", ()), *chosen.get("addresses", ())})

    def terms(self) -> dict[str, Any]:
        """Give what was chosen as the services take it."""
        chosen = self.cleaned_data
        terms = {name: chosen[name] for name in ("name", "limit", "alert_percents", "mail_alerts", "active")}
        policy = {"policy": chosen["policy"]} if chosen["policy"] else {}
        return {**terms, **policy, "recipients": self.recipients(chosen)}


def policy_tiles(form: BudgetForm) -> list[dict[str, Any]]:
    """Give the policies to choose from."""
    chosen = form["policy"].value() or Budget.Policy.BLOCK_NEW
    return [
        {"value": policy.value, "label": label, "text": text, "checked": policy == chosen}
        for policy, (label, text) in _POLICIES.items()
    ]


class NewBudgetForm(BudgetForm):
    """A budget to be made."""

    owner = forms.ChoiceField(
        label="Whose", help_text="All of the tenant, of a project, or the requests of one key."
    )
    unit = forms.ChoiceField(choices=[(key, found[2]) for key, found in _COUNTS.items()], label="Counts")
    period = forms.ChoiceField(
        choices=[("day", "A day"), ("week", "A week, from Monday"), ("month", "A month")], label="Holds for",
        help_text="By the calendar of the tenant's time zone.",
    )  # fmt: skip

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

    def terms(self) -> dict[str, Any]:
        unit, basis, _, _ = _COUNTS[self.cleaned_data["unit"]]
        counted = {"unit": unit, "basis": basis, "period": self.cleaned_data["period"]}
        return {**super().terms(), **counted, **self.owner_chosen()}


class NewBudget(TenantPage):
    """Make a budget."""

    action = Action.MANAGE_BUDGETS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        alerts = ", ".join(map(str, default_alerts()))
        initial = {"unit": Budget.Unit.MONEY, "period": "month", "alert_percents": alerts, "active": True}
        initial |= {"policy": Budget.Policy.BLOCK_NEW, "mail_alerts": True}
        return self._show(self._form(initial=initial))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = self._form(request.POST)
        if form.is_valid():
            try:
                budget = budget_create(**form.terms())
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
                "value": key,
                "label": label,
                "text": text.format(currency=self.tenant.currency),
                "checked": form["unit"].value() == key,
            }
            for key, (_, _, label, text) in _COUNTS.items()
        ]
        context = {
            "form": form,
            "budget": None,
            "units": tiles,
            "policies": policy_tiles(form),
            "cancel_url": self.url("budgets"),
        }
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
            "policy": budget.policy,
            "mail_alerts": budget.mail_alerts,
            "members": budget.recipients,
            "active": budget.active,
        }
        form = BudgetForm(initial=initial)
        known = {email for email, _ in form.fields["members"].choices}
        form.initial["addresses"] = ", ".join(each for each in budget.recipients if each not in known)
        return self._show(budget, form)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        budget, form = self.budget(), BudgetForm(request.POST)
        if form.is_valid():
            try:
                budget_change(budget=budget, **form.terms())
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The budget {budget.name} is changed.")
                return redirect(self.url("budget", budget.id))
        return self._show(budget, form, status=422)

    def _show(self, budget: Budget, form: BudgetForm, *, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "budget": budget,
            "policies": policy_tiles(form),
            "cancel_url": self.url("budget", budget.id),
        }
        return self.render("tenant/budgets/form.html", context, status=status)


class DeleteBudget(BudgetPage):
    """Delete a budget with its history, once confirmed."""

    action = Action.MANAGE_BUDGETS

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        budget = self.budget()
        context = {
            "budget": budget,
            "consequences": [
                "Nothing of it refuses requests or orders any more.",
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
