"""The tenant's policy: what it lets itself use, its versions, the rules that ask for approval, and exceptions."""

from __future__ import annotations

import itertools
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from clusters.endpoints.approvals.deciding import WORDS
from clusters.endpoints.approvals.rules import lonely, rule_text
from clusters.endpoints.policy import setting
from clusters.models import (
    ApprovalRequest,
    ApprovalRule,
    CatalogModel,
    PolicyException,
    Region,
    SloClass,
    TenantPolicy,
)
from portal.pages.base import TenantPage, put_on_form
from portal.templatetags.berth import money
from tenants.errors import BerthError
from tenants.roles import Action

VERSIONS_SHOWN: Final = 50
_BOXES: Final = forms.CheckboxSelectMultiple

_LABELS: Final = {
    "allowed_zones": "Places", "home_zone": "Home zone", "certifications": "Certifications demanded",
    "allowed_models": "Models", "allowed_licences": "Licences", "allowed_classes": "Service classes",
    "most_per_hour": "Most per hour of an endpoint", "most_per_month": "Most per month of all",
    "four_eyes": "Four eyes", "self_approval": "Deciding alone", "link_decisions": "Deciding by a link in a mail",
    "floor_zones": "Places, locked by operators", "floor_certifications": "Certifications, locked by operators",
}  # fmt: skip


class PolicyForm(forms.Form):
    """The whole policy. Nothing chosen restricts nothing."""

    allowed_zones = forms.MultipleChoiceField(
        required=False, widget=_BOXES, label="Places where anything may run", help_text="None: anywhere."
    )
    home_zone = forms.ChoiceField(
        required=False, help_text="What rules call home; it restricts nothing by itself."
    )
    certifications = forms.MultipleChoiceField(
        required=False, widget=_BOXES, label="Certifications that every place must hold"
    )
    allowed_models = forms.MultipleChoiceField(
        required=False, widget=_BOXES, label="Models", help_text="None: all of the catalog."
    )
    allowed_licences = forms.MultipleChoiceField(
        required=False, widget=_BOXES, label="Licences", help_text="None: any."
    )
    allowed_classes = forms.MultipleChoiceField(
        required=False, widget=_BOXES, label="Service classes", help_text="None: all."
    )
    most_per_hour = forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=14,
        decimal_places=4,
        label="Most that one endpoint may cost an hour",
    )
    most_per_month = forms.DecimalField(
        required=False, min_value=0, max_digits=14, decimal_places=2,
        label="Most that all may cost a month", help_text="A month has 730 hours here.",
    )  # fmt: skip
    four_eyes = forms.BooleanField(
        required=False, label="Who asks may not decide, and loosening policy or rules takes two people"
    )
    self_approval = forms.BooleanField(
        required=False,
        label="Who asks may decide where nobody else could",
        help_text="Only owners allow this.",
    )
    link_decisions = forms.BooleanField(
        required=False, label="The link in a mail may be decided by without signing in"
    )
    note = forms.CharField(max_length=300, required=False, help_text="Why it is changed, for the history.")
    version = forms.IntegerField(min_value=0, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        regions = list(Region.objects.all())
        zones = sorted({zone for region in regions for zone in region.zones})
        places = [
            *((zone, f"Zone {zone}") for zone in zones),
            *((region.code, f"Region {region.code}") for region in regions),
        ]
        held = sorted({name for region in regions for name in region.certifications})
        models = list(CatalogModel.objects.all())
        for name, choices in (
            ("allowed_zones", places),
            ("home_zone", [("", "None"), *places]),
            ("certifications", [(each, each) for each in held]),
            ("allowed_models", [(model.name, model.title) for model in models]),
            ("allowed_licences", [(each, each) for each in sorted({model.licence for model in models})]),
            ("allowed_classes", list(SloClass.objects.values_list("name", "title"))),
        ):
            self.fields[name].choices = choices


class PolicyShown(TenantPage):
    """What the screens of the policy share."""

    write_action = Action.MANAGE_POLICY

    def held(self) -> TenantPolicy | None:
        """Give the version in force."""
        return TenantPolicy.objects.in_force()


class Policy(PolicyShown):
    """What holds now, the rules, the exceptions, and the way to change each."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        held, now = self.held(), timezone.now()
        values = setting.policy_values(held)
        floor = {name: getattr(held, name, []) for name in setting.FLOOR}
        rules = [
            {
                "rule": rule,
                "text": rule_text(rule, self.tenant.currency),
                "decides": WORDS[rule.decides],
                "lonely": lonely(rule),
                "url": self.url("approval-rule", rule.id),
            }
            for rule in ApprovalRule.objects.all()
        ]
        exceptions = PolicyException.objects.select_related("endpoint", "project").in_force(now)
        pending = ApprovalRequest.objects.pending().filter(
            what__in=(ApprovalRequest.What.POLICY, ApprovalRequest.What.RULE, ApprovalRequest.What.EXCEPTION)
        )
        context = {
            "policy": held,
            "facts": [
                {"label": _LABELS[name], "value": policy_said(name, value, self.tenant.currency)}
                for name, value in {**values, **floor}.items()
                if name in setting.FIELDS or value
            ],
            "rules": rules,
            "exceptions": exceptions,
            "pending": [{"title": each.title, "url": self.url("approval", each.id)} for each in pending],
        }
        return self.render("tenant/policy/page.html", context)


class EditPolicy(PolicyShown):
    """The form."""

    action = Action.MANAGE_POLICY

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        held = self.held()
        version = held.version if held else 0
        return self._show(PolicyForm(initial=setting.policy_values(held) | {"version": version}))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = PolicyForm(request.POST)
        if form.is_valid():
            values = dict(form.cleaned_data)
            note, version = values.pop("note"), values.pop("version")
            try:
                done = setting.policy_set(
                    values=values,
                    set_by=request.user,
                    set_as=self.actor,
                    role=self.membership.role,
                    note=note,
                    if_version=version,
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                if done.request is not None:
                    self.say("That loosens the policy: it holds once a second person has agreed.")
                    return redirect(self.url("approval", done.request.id))
                self.say(f"Version {done.policy.version if done.policy else 0} of the policy is in force.")
                return redirect(self.url("policy"))
        return self._show(form, status=422)

    def _show(self, form: PolicyForm, *, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "cancel_url": self.url("policy"),
            "breadcrumbs": [{"label": "Policy", "url": self.url("policy")}, {"label": "Change"}],
        }
        return self.render("tenant/policy/edit.html", context, status=status)


class PolicyVersions(PolicyShown):
    """Every version with what it changed, newest first."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        found = list(TenantPolicy.objects.all()[: VERSIONS_SHOWN + 1])
        pairs = itertools.zip_longest(found[:VERSIONS_SHOWN], found[1:])
        context = {
            "versions": [
                {
                    "policy": new,
                    "changes": [
                        {
                            "label": _LABELS[name],
                            "before": policy_said(name, before, self.tenant.currency),
                            "after": policy_said(name, after, self.tenant.currency),
                        }
                        for name, before, after in setting.policy_diff(old, new)
                    ],
                }
                for new, old in pairs
                if new is not None
            ],
            "breadcrumbs": [{"label": "Policy", "url": self.url("policy")}, {"label": "Versions"}],
        }
        return self.render("tenant/policy/versions.html", context)


def policy_said(name: str, value: Any, currency: str) -> str:
    """Say one part of a policy in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or ("none" if "certifications" in name else "any")
    if name.startswith("most_"):
        return "no limit" if value is None else money(value, currency)
    return value or "none"
