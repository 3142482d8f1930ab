"""Rules of approval and exceptions from the policy: made, changed, ended."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from clusters.endpoints.approvals import rules
from clusters.endpoints.policy import exceptions
from clusters.models import ApprovalRule, Decides, Endpoint, GpuType, PolicyException
from portal.pages.base import TenantPage, put_on_form
from tenants.errors import BerthError, NotFound
from tenants.models import Membership, Project
from tenants.roles import Action

#: Which fields each kind of rule has of its own.
OF_KIND: Final = {
    "price-above": ("amount", "monthly"),
    "quota-above": ("gpus", "share"),
    "reserved-gpus": ("gpu_types",),
    "outside-home-zone": (),
    "new-model-licence": (),
}


class RuleForm(forms.Form):
    """A rule. Fields that its kind does not have are not looked at."""

    kind = forms.ChoiceField(choices=ApprovalRule.Kind.choices, label="Ask when")
    amount = forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=14,
        decimal_places=4,
        help_text="Of a price, in your currency.",
    )
    monthly = forms.BooleanField(required=False, label="Per month of 730 hours, not per hour")
    gpus = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=100_000,
        label="GPUs",
        help_text="That the tenant holds in all.",
    )
    share = forms.IntegerField(
        required=False, min_value=1, max_value=100, label="Or share of the quota", help_text="In percent."
    )
    gpu_types = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Reserved GPU types"
    )
    decides = forms.ChoiceField(choices=Decides.choices, label="Who decides", initial=Decides.ADMIN)
    members = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label="Named members"
    )
    valid_hours = forms.IntegerField(
        min_value=1, max_value=720, initial=72, label="To be decided within", help_text="In hours."
    )
    enabled = forms.BooleanField(required=False, initial=True, label="In force")

    def __init__(self, *args: Any, rule: ApprovalRule | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = Membership.objects.select_related("user").order_by("user__email")
        self.fields["members"].choices = [(str(each.user_id), each.user.email) for each in people]
        self.fields["gpu_types"].choices = [
            (name, name) for name in GpuType.objects.order_by("name").values_list("name", flat=True)
        ]
        if rule is not None:
            del self.fields["kind"]
            for name in {each for names in OF_KIND.values() for each in names} - set(OF_KIND[rule.kind]):
                del self.fields[name]

    def parts(self) -> list[dict[str, Any]]:
        """Give the fields, each with the kind of rule, or of those who decide, that alone has it."""
        own = {name: kind for kind, names in OF_KIND.items() for name in names} | {"members": Decides.MEMBERS}
        return [{"field": self[name], "of": own.get(name, "")} for name in self.fields]

    def values(self, kind: str) -> dict[str, Any]:
        """Give what was typed, of a rule of ``kind``."""
        foreign = {each for names in OF_KIND.values() for each in names} - set(OF_KIND[kind])
        return {name: value for name, value in self.cleaned_data.items() if name not in {*foreign, "kind"}}


class RulePage(TenantPage):
    """What the screens of rules share."""

    action = Action.MANAGE_POLICY

    def rule(self, id: uuid.UUID) -> ApprovalRule:
        """Give a rule of the tenant.

        Raises:
            NotFound: there is none.
        """
        found = ApprovalRule.objects.filter(id=id).first()
        if found is None:
            raise NotFound("There is no such page.")
        return found

    def show(self, form: RuleForm, rule: ApprovalRule | None = None, *, status: int = 200) -> HttpResponse:
        """Show the form."""
        context = {
            "form": form,
            "rule": rule,
            "text": rules.rule_text(rule, self.tenant.currency) if rule else "",
            "cancel_url": self.url("policy"),
            "breadcrumbs": [{"label": "Policy", "url": self.url("policy")}, {"label": "Rule"}],
        }
        return self.render("tenant/policy/rule.html", context, status=status)


class NewRule(RulePage):
    """Make a rule."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self.show(RuleForm())

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = RuleForm(request.POST)
        if form.is_valid():
            kind = form.cleaned_data["kind"]
            try:
                rules.rule_create(kind=kind, **form.values(kind))
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say("The rule is in force from the next order or change on.")
                return redirect(self.url("policy"))
        return self.show(form, status=422)


class EditRule(RulePage):
    """Change a rule, or with ``remove`` remove it."""

    def get(self, request: HttpRequest, slug: str, id: uuid.UUID) -> HttpResponse:
        rule = self.rule(id)
        initial = {name: getattr(rule, name) for name in rules.FIELDS}
        initial["members"] = list(map(str, rule.members))
        return self.show(RuleForm(rule=rule, initial=initial), rule)

    def post(self, request: HttpRequest, slug: str, id: uuid.UUID) -> HttpResponse:
        rule = self.rule(id)
        asks = {"asked_by": request.user, "actor": self.actor}
        if "remove" in request.POST:
            return self._done(rules.rule_delete(rule=rule, **asks), "The rule is removed.")
        form = RuleForm(request.POST, rule=rule)
        if form.is_valid():
            try:
                done = rules.rule_change(rule=rule, changes=form.values(rule.kind), **asks)
            except BerthError as error:
                put_on_form(form, error)
            else:
                return self._done(done, "The rule is changed.")
        return self.show(form, rule, status=422)

    def _done(self, done: rules.RuleChange, text: str) -> HttpResponse:
        if done.request is not None:
            self.say("That loosens a rule: it holds once a second person has agreed.")
            return redirect(self.url("approval", done.request.id))
        self.say(text)
        return redirect(self.url("policy"))


class ExceptionForm(forms.Form):
    """An exception that is asked for."""

    restriction = forms.ChoiceField(choices=PolicyException.Restriction.choices, label="Except from")
    value = forms.CharField(
        max_length=80,
        help_text="The zone, region, certification, model, licence or class; of spend the amount.",
    )
    endpoint = forms.ChoiceField(required=False, label="For one endpoint")
    project = forms.ChoiceField(required=False, label="Or for one project")
    ends_on = forms.DateField(
        label="Until", widget=forms.DateInput(attrs={"type": "date"}), help_text="At most 366 days from now."
    )
    reason = forms.CharField(max_length=300)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        endpoints = Endpoint.objects.live().order_by("name").values_list("name", flat=True)
        self.fields["endpoint"].choices = [("", "None"), *((name, name) for name in endpoints)]
        self.fields["project"].choices = [("", "None"), *Project.objects.values_list("slug", "name")]


class NewException(TenantPage):
    """Ask for an exception."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._show(ExceptionForm(initial={"value": request.GET.get("value", "")[:80]}))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = ExceptionForm(request.POST)
        if form.is_valid():
            asked = form.cleaned_data
            ends_on = dt.datetime.combine(asked["ends_on"], dt.time(23, 59, 59))
            try:
                made = exceptions.exception_ask(
                    restriction=asked["restriction"],
                    value=asked["value"],
                    endpoint=Endpoint.objects.live().filter(name=asked["endpoint"]).first(),
                    project=Project.objects.filter(slug=asked["project"]).first(),
                    ends_at=timezone.make_aware(ends_on),
                    reason=asked["reason"],
                    asked_by=request.user,
                    asked_as=self.actor,
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say("The exception is asked for; an owner or admin decides.")
                return redirect(self.url("approval", made.id))
        return self._show(form, status=422)

    def _show(self, form: ExceptionForm, *, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "cancel_url": self.url("policy"),
            "breadcrumbs": [{"label": "Policy", "url": self.url("policy")}, {"label": "Exception"}],
        }
        return self.render("tenant/policy/exception.html", context, status=status)


class EndException(TenantPage):
    """End an exception before its time."""

    action = Action.MANAGE_POLICY

    def get(self, request: HttpRequest, slug: str, id: uuid.UUID) -> HttpResponse:
        return self.render(
            "tenant/policy/end.html", {"found": self._found(id), "cancel_url": self.url("policy")}
        )

    def post(self, request: HttpRequest, slug: str, id: uuid.UUID) -> HttpResponse:
        exceptions.exception_end(exception=self._found(id), actor=self.actor)
        self.say("The exception is ended.")
        return redirect(self.url("policy"))

    def _found(self, id: uuid.UUID) -> PolicyException:
        found = PolicyException.objects.filter(id=id).first()
        if found is None:
            raise NotFound("There is no such page.")
        return found
