"""How many replicas an endpoint has, who chooses them, between what and when, and what each decision costs."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import escape

from clusters.endpoints.autoscaling.bounds import DecidedBy
from clusters.endpoints.autoscaling.selectors import ScalingShown, scaling_decisions, scaling_shown
from clusters.endpoints.autoscaling.setting import (
    LEAST_IDLE_S,
    MOST_IDLE_S,
    ScheduleTerms,
    days_text,
    endpoint_scaling_set,
    schedule_delete,
    schedule_set,
    schedules_of,
)
from clusters.models import ScaleSchedule, ScalingDecision
from clusters.models.autoscaling import MOST_REPLICAS
from portal.pages.base import put_on_form
from portal.pages.endpoint import EndpointPage
from portal.templatetags.berth import duration, money
from tenants.errors import BerthError, NotFound
from tenants.roles import Action

DECISIONS_SHOWN: Final = 20
DAYS: Final = (
    (1, "Monday"), (2, "Tuesday"), (3, "Wednesday"), (4, "Thursday"), (5, "Friday"), (6, "Saturday"), (7, "Sunday"),
)  # fmt: skip


class ScalingForm(forms.Form):
    """Whether Berth chooses, and between what."""

    enabled = forms.BooleanField(required=False, label="Let the number of replicas follow the load")
    floor = forms.IntegerField(
        required=False, min_value=0, max_value=MOST_REPLICAS, label="Never fewer than",
    )  # fmt: skip
    ceiling = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_REPLICAS, label="Never more than"
    )
    idle_minutes = forms.IntegerField(
        required=False, min_value=LEAST_IDLE_S // 60, max_value=MOST_IDLE_S // 60, label="To zero after",
    )  # fmt: skip

    def __init__(self, *args: Any, shown: ScalingShown, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        slo_class = shown.endpoint.slo_class
        self.fields["floor"].help_text = f"Replicas. Empty: {shown.planned_floor}, as planned." + (
            " 0 lets it be scaled to zero."
            if slo_class.may_scale_to_zero
            else f" Class {escape(slo_class.title)} keeps at least 1."
        )
        self.fields["ceiling"].help_text = f"Replicas. Empty: {shown.planned_ceiling}, as planned."
        if slo_class.may_scale_to_zero:
            idle = duration(slo_class.idle_to_zero_s)
            self.fields[
                "idle_minutes"
            ].help_text = f"Minutes without a request, where the floor is 0. Empty: {idle}."
        else:
            del self.fields["idle_minutes"]

    def taken(self) -> dict[str, Any]:
        """Give the values as the service takes them."""
        values = self.cleaned_data
        minutes = values.get("idle_minutes")
        return {
            "enabled": values["enabled"],
            "floor": values["floor"],
            "ceiling": values["ceiling"],
            "idle_s": None if minutes is None else 60 * minutes,
        }


class ScheduleForm(forms.Form):
    """One schedule."""

    name = forms.CharField(max_length=60, help_text="For instance: Office hours.")
    days = forms.TypedMultipleChoiceField(
        choices=DAYS, coerce=int, widget=forms.CheckboxSelectMultiple, label="On"
    )
    from_time = forms.TimeField(label="From", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"))
    until_time = forms.TimeField(
        label="Until", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        help_text="Not later than From: on the day after.",
    )  # fmt: skip
    time_zone = forms.CharField(
        max_length=60, label="Time zone", help_text="By its IANA name, for instance Europe/Berlin."
    )
    floor = forms.IntegerField(min_value=0, max_value=MOST_REPLICAS, label="Never fewer than")
    ceiling = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_REPLICAS, label="Never more than",
        help_text="Empty: what the endpoint allows.",
    )  # fmt: skip

    def __init__(self, *args: Any, may_be_zero: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["floor"].help_text = (
            "Replicas. 0 lets it be scaled to zero, at night for instance: a request still wakes it."
            if may_be_zero
            else "Replicas. Its class keeps at least 1."
        )

    def terms(self) -> ScheduleTerms:
        """Give the schedule that is asked for."""
        return ScheduleTerms(**self.cleaned_data)


class Replicas(EndpointPage):
    """What runs, who chooses, the bounds with their price, schedules, decisions; the bounds can be set here."""

    tab = "endpoint-replicas"
    write_action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show()

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        shown = scaling_shown(self.endpoint, now=timezone.now())
        form = ScalingForm(request.POST, shown=shown)
        if form.is_valid():
            try:
                endpoint_scaling_set(endpoint=self.endpoint, actor=self.actor, **form.taken())
            except BerthError as error:
                if texts := getattr(error, "errors", {}).pop("idle_s", []):
                    form.add_error("idle_minutes", texts)
                put_on_form(form, error)
            else:
                on = form.cleaned_data["enabled"]
                self.say(
                    f"The replicas of {self.endpoint.name} follow its load now."
                    if on
                    else f"The replicas of {self.endpoint.name} stay as they are until somebody changes them."
                )
                return redirect(self.link("endpoint-replicas"))
        return self._show(form, status=422)

    def _show(self, form: ScalingForm | None = None, *, status: int = 200) -> HttpResponse:
        shown = scaling_shown(self.endpoint, now=timezone.now())
        if form is None:
            scaling = shown.scaling
            form = ScalingForm(
                initial={
                    "enabled": scaling.enabled,
                    "floor": scaling.floor,
                    "ceiling": scaling.ceiling,
                    "idle_minutes": scaling.idle_s and scaling.idle_s // 60,
                },
                shown=shown,
            )
        context = {
            "form": form,
            "shown": shown,
            "by": _decided_by(shown),
            "may_set": shown.by is not DecidedBy.CLUSTER,
            "facts": _facts(shown, self.tenant.currency),
            "lacks": shown.lacks,
            "budgets": [each for each in shown.budgets if each.refuses],
            "schedules": [
                {
                    "schedule": each,
                    "days": days_text(each.days),
                    "url": self.url("endpoint-schedule", self.endpoint.id, each.id),
                }
                for each in schedules_of(self.endpoint)
            ],
            "decisions": [
                _decision(each, self.tenant.currency)
                for each in scaling_decisions(self.endpoint)[:DECISIONS_SHOWN]
            ],
        }
        return self.render("tenant/endpoint/replicas.html", context, status=status)


class NewSchedule(EndpointPage):
    """Add a schedule."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self.show(self.form(initial=self.initial()))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = self.form(request.POST)
        if form.is_valid():
            try:
                schedule = schedule_set(
                    endpoint=self.endpoint, terms=form.terms(), actor=self.actor, schedule=self.schedule
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The schedule {schedule.name} of {self.endpoint.name} is saved.")
                return redirect(self.link("endpoint-replicas"))
        return self.show(form, status=422)

    schedule: ScaleSchedule | None = None

    def form(self, *args: Any, **kwargs: Any) -> ScheduleForm:
        return ScheduleForm(*args, may_be_zero=self.endpoint.slo_class.may_scale_to_zero, **kwargs)

    def initial(self) -> dict[str, Any]:
        return {
            "days": [1, 2, 3, 4, 5],
            "from_time": dt.time(8),
            "until_time": dt.time(18),
            "time_zone": self.tenant.time_zone,
            "floor": 1,
        }

    def show(self, form: ScheduleForm, *, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "schedule": self.schedule,
            "cancel_url": self.link("endpoint-replicas"),
        }
        return self.render("tenant/endpoint/schedule.html", context, status=status)


class EditSchedule(NewSchedule):
    """Change a schedule, or take it away."""

    def admit(self) -> None:
        super().admit()
        self.schedule = ScaleSchedule.objects.filter(
            endpoint=self.endpoint, id=self.kwargs["schedule_id"]
        ).first()
        if self.schedule is None:
            raise NotFound

    def get(self, request: HttpRequest, slug: str, id: str, schedule_id: str) -> HttpResponse:
        return super().get(request, slug, id)

    def post(self, request: HttpRequest, slug: str, id: str, schedule_id: str) -> HttpResponse:
        if request.POST.get("remove"):
            assert self.schedule is not None
            self.schedule.endpoint = self.endpoint
            schedule_delete(schedule=self.schedule, actor=self.actor)
            self.say(f"The schedule {self.schedule.name} of {self.endpoint.name} is taken away.")
            return redirect(self.link("endpoint-replicas"))
        return super().post(request, slug, id)

    def initial(self) -> dict[str, Any]:
        names = ("name", "days", "from_time", "until_time", "time_zone", "floor", "ceiling")
        return {name: getattr(self.schedule, name) for name in names}


def replicas_fact(shown: ScalingShown) -> str:
    """Say in a line how many replicas there are and between what."""
    if shown.by is DecidedBy.HAND:
        return f"{shown.replicas}, set by hand"
    least, most = shown.bounds.floor, shown.bounds.ceiling
    who = "Berth" if shown.by is DecidedBy.BERTH else f"its cluster's {shown.autoscaler.upper()}"
    return f"{shown.replicas}; {who} chooses, {least} to {most}"


def _decided_by(shown: ScalingShown) -> str:
    if shown.by is DecidedBy.CLUSTER:
        return (
            f"The autoscaler of its cluster ({shown.autoscaler.upper()}) chooses, by what is in progress at gateways. "
            "Berth leaves it alone, and schedules do not count there."
        )
    if shown.by is DecidedBy.BERTH:
        return "Berth chooses, by what gateways tell of its requests."
    return "It has as many as somebody set. They do not follow the load."


def _facts(shown: ScalingShown, currency: str) -> list[dict[str, Any]]:
    def priced(replicas: int, price: Decimal | None) -> str:
        return f"{replicas}" if price is None else f"{replicas}, {money(price, currency)} per hour"

    facts = [{"label": "Wanted now", "value": priced(shown.replicas, shown.price_now)}]
    if shown.by is DecidedBy.HAND:
        return facts
    since = " by schedule" if shown.bounds.scheduled else ""
    facts += [
        {"label": f"Floor{since}", "value": priced(shown.bounds.floor, shown.price_at_floor)},
        {"label": f"Ceiling{since}", "value": priced(shown.bounds.ceiling, shown.price_at_ceiling)},
    ]
    if shown.bounds.idle_s is not None:
        facts.append(
            {"label": "To zero after", "value": f"{duration(shown.bounds.idle_s)} without a request"}
        )
    if shown.bounds.until is not None:
        facts.append(
            {"label": "Bounds change", "value": f"{timezone.localtime(shown.bounds.until):%Y-%m-%d %H:%M %Z}"}
        )
    return facts


def _decision(decision: ScalingDecision, currency: str) -> dict[str, Any]:
    refused = decision.outcome == ScalingDecision.Outcome.REFUSED
    return {
        "decision": decision,
        "refused": refused,
        "change": f"{decision.before} to {decision.after}",
        "before": money(decision.price_before, decision.currency or currency),
        "after": money(
            decision.price_before if refused else decision.price_after, decision.currency or currency
        ),
    }
