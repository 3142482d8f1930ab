"""Changing the order of an endpoint that runs: the form, what the change would come to, and asking for it."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from clusters.endpoints.rollouts.changing import ChangePlan, change_plan, changed_terms, endpoint_change
from clusters.endpoints.rollouts.outage import length
from clusters.endpoints.services import MOST_REPLICAS
from clusters.models import CatalogModel, Endpoint, GpuType, RolloutWay
from clusters.planning.search.sizing import BATCH_LIMIT
from portal.pages.approvals_shown import told_of
from portal.pages.base import put_on_form
from portal.pages.endpoint import EndpointPage
from portal.pages.order_profile import MOST_TOKENS
from portal.templatetags.berth import money, ms
from tenants.errors import BerthError
from tenants.roles import Action

_PINS: Final = ("gpu", "precision", "max_batch_size")


class ChangeForm(forms.Form):
    """What of the order may change, as it is now."""

    model = forms.ChoiceField(help_text="The model, what it was made from, and variants of that.")
    context_tokens = forms.IntegerField(
        min_value=2, max_value=MOST_TOKENS, required=False, label="Longest request with its answer",
        help_text="In tokens. Empty: all of the model's.",
    )  # fmt: skip
    output_limit = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, label="Longest answer",
        help_text="In tokens. Empty: what the context leaves.",
    )  # fmt: skip
    precision = forms.ChoiceField(required=False, label="Precision of the weights")
    gpu = forms.ChoiceField(required=False, label="GPU type")
    max_batch_size = forms.IntegerField(
        min_value=1, max_value=BATCH_LIMIT, required=False, label="Batch limit",
        help_text="Requests at once in one replica, at most. Empty: Berth chooses.",
    )  # fmt: skip
    replicas = forms.IntegerField(
        min_value=1, max_value=MOST_REPLICAS, required=False, help_text="Empty: as many as the load needs."
    )
    requests_per_second = forms.FloatField(min_value=0, max_value=1e6, label="Requests per second")
    input_tokens = forms.IntegerField(min_value=1, max_value=MOST_TOKENS, label="Input tokens")
    output_tokens = forms.IntegerField(min_value=1, max_value=MOST_TOKENS, label="Output tokens")

    def __init__(self, *args: Any, endpoint: Endpoint, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.endpoint = endpoint
        kin = [each for each in CatalogModel.objects.filter(published=True) if endpoint.model.is_kin(each)]
        self.fields["model"].choices = [(each.name, each.title) for each in kin] or [
            (endpoint.model.name, endpoint.model.title)
        ]
        free = [("", "Berth chooses")]
        precisions = dict.fromkeys(name for each in kin for name in each.precisions)
        self.fields["precision"].choices = [*free, *((name, name) for name in precisions)]
        self.fields["gpu"].choices = [*free, *GpuType.objects.order_by("name").values_list("name", "name")]

    def changes(self) -> dict[str, Any]:
        """Give what differs from the order, by the names of its terms."""
        typed = dict(self.cleaned_data)
        pins = {name: typed.pop(name) for name in _PINS}
        wished = {name: value for name, value in self.endpoint.pins.items() if name not in _PINS}
        wished |= {name: value for name, value in pins.items() if value not in ("", None)}
        typed["model"] = CatalogModel.objects.get(name=typed["model"])
        found = {name: value for name, value in typed.items() if value != getattr(self.endpoint, name)}
        return found | ({"pins": wished} if wished != self.endpoint.pins else {})

    @classmethod
    def initial_of(cls, endpoint: Endpoint) -> dict[str, Any]:
        """Give the order as the form begins with it."""
        names = [name for name in cls.base_fields if name not in ("model", *_PINS)]
        values = {name: getattr(endpoint, name) for name in names}
        values["requests_per_second"] = f"{endpoint.requests_per_second:g}"
        return values | {"model": endpoint.model.name} | {name: endpoint.pins.get(name, "") for name in _PINS}


class Change(EndpointPage):
    """The form; its first button says what would come of it, its second asks for it."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show(ChangeForm(initial=ChangeForm.initial_of(self.endpoint), endpoint=self.endpoint))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = ChangeForm(request.POST, endpoint=self.endpoint)
        if not form.is_valid():
            return self._show(form, status=422)
        changes = form.changes()
        if not changes:
            form.add_error(None, "Nothing differs from the order. Change something first.")
            return self._show(form, status=422)
        try:
            changed_terms(self.endpoint, changes)
            if request.POST.get("do") != "change":
                return self._show(form, plan=change_plan(endpoint=self.endpoint, changes=changes))
            done = endpoint_change(
                endpoint=self.endpoint, changes=changes, actor=self.actor, asked_by=request.user
            )
        except BerthError as error:
            put_on_form(form, error)
            return self._show(form, status=error.status)
        self.say(f"{self.endpoint.name} {told_of(done, 'is being changed.')}")
        return redirect(self.link("endpoint"))

    def _show(self, form: ChangeForm, *, plan: ChangePlan | None = None, status: int = 200) -> HttpResponse:
        context: dict[str, Any] = {"form": form, "plan": plan and plan_shown(plan, self.tenant.currency)}
        return self.render("tenant/endpoint/change.html", context, status=status)


def plan_shown(plan: ChangePlan, currency: str) -> dict[str, Any]:
    """Give what a change would come to, as the form shows it."""
    chosen, current = plan.found.plan.configuration, plan.found.current
    facts = [{"label": "Changes", "value": plan.what}]
    if chosen is not None:
        facts.append(
            {
                "label": "Runs",
                "value": f"{chosen.replicas} x {chosen.gpus_per_replica} {chosen.gpu} in {chosen.pool}, "
                f"{chosen.precision.value}",
            }
        )
        now = money(plan.found.price_now, currency)
        facts.append(
            {"label": "Price per hour", "value": f"{money(chosen.price_per_hour, currency)}, now {now}"}
        )
        facts.append(
            {
                "label": "Expected p95",
                "value": f"first token {ms(chosen.ttft_p95_ms)}, between tokens {ms(chosen.itl_p95_ms)}",
            }
        )
    facts.append({"label": "Way", "value": _way(plan)})
    if plan.way == RolloutWay.REPLACE:
        waits = plan.begins_at > timezone.now()
        when = f"{plan.begins_at:%Y-%m-%d %H:%M} UTC" if waits else "at once"
        facts.append({"label": "Begins", "value": f"{when}; window: {plan.policy.window}"})
        if plan.outage is not None:
            told = f"about {length(plan.outage.seconds)}, from {plan.outage.source}"
            facts.append({"label": "Expected outage", "value": told})
    if plan.evaluates:
        facts.append({"label": "Answers may be others", "value": "; ".join(plan.evaluates)})
    for trip in plan.trips:
        facts.append({"label": "Needs approval", "value": trip.reason})
    possible = chosen is not None and (plan.way is not None or plan.found.in_place or current is None)
    return {"facts": facts, "possible": possible, "message": plan.found.plan.message}


def _way(plan: ChangePlan) -> str:
    if plan.found.current is None:
        return "Planned so when it is placed next"
    if plan.found.in_place:
        return "Engines are added or drained; no new revision" if plan.found.deploys else "Nothing else runs"
    if plan.way is None:
        return "None: there is no room for it"
    steps = ", ".join(f"{step} %" for step in plan.policy.steps)
    canary = f"; then a canary at {steps}" if steps and plan.way != RolloutWay.REPLACE else ""
    return f"{RolloutWay(plan.way).label}{canary}"
