"""The advisor's policy: how sure it must be, and what it may apply without being asked."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpResponse
from django.shortcuts import redirect

from clusters.endpoints.advisor.policy import FIELDS, policy_set
from clusters.models import AdvicePolicy
from portal.pages.console.advisor import advisor_crumb
from portal.pages.console.forms import ConsoleForm, FormPage
from tenants.audit import audit
from tenants.roles import PlatformAction

DAYS = ((0, "Monday"), (1, "Tuesday"), (2, "Wednesday"), (3, "Thursday"), (4, "Friday"), (5, "Saturday"),
        (6, "Sunday"))  # fmt: skip


class PolicyForm(ConsoleForm):
    least_saving_percent = forms.DecimalField(
        label="Saves at least (%)", min_value=0, max_value=100, decimal_places=2,
        help_text="Of what the endpoint's GPUs cost.",
    )  # fmt: skip
    least_saving_per_hour = forms.DecimalField(
        label="And at least, per hour", min_value=0, max_digits=12, decimal_places=4,
        help_text="In the currency of the endpoint's tenant.",
    )  # fmt: skip
    payback_days = forms.IntegerField(
        label="Pays back within (days)", min_value=1, max_value=365,
        help_text="What both cost while they run side by side must be earned by then.",
    )  # fmt: skip
    cool_down_hours = forms.IntegerField(
        label="Rests after a change (hours)", min_value=0, max_value=8760,
        help_text="An endpoint that was changed is not moved again before.",
    )  # fmt: skip
    concurrent_moves = forms.IntegerField(
        label="Moves at a time", min_value=1, max_value=100, help_text="The others wait for their turn."
    )
    solve_limit_s = forms.IntegerField(
        label="Time for a plan (seconds)", min_value=1, max_value=600,
        help_text="The best that is found by then is proposed.",
    )  # fmt: skip
    automatic = forms.BooleanField(
        label="Apply moves without asking", required=False,
        help_text="Never those that change how answers are computed.",
    )  # fmt: skip
    replan_drift = forms.BooleanField(
        label="Also plan orders anew whose load has drifted", required=False,
        help_text="It changes what the tenant ordered to what was measured.",
    )  # fmt: skip
    days = forms.TypedMultipleChoiceField(
        choices=DAYS, coerce=int, required=False, widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: every day.",
    )  # fmt: skip
    from_hour = forms.IntegerField(label="From (hour, UTC)", min_value=0, max_value=23)
    until_hour = forms.IntegerField(
        label="Until (hour, UTC)", min_value=1, max_value=24, help_text="Before the first: past midnight."
    )
    automatic_saving_per_hour = forms.DecimalField(
        label="Saves at least, per hour", min_value=0, max_digits=12, decimal_places=4,
        help_text="Smaller savings wait for somebody to decide.",
    )  # fmt: skip
    moves_per_day = forms.IntegerField(label="Moves in 24 hours", min_value=1, max_value=10_000)
    run_every_hours = forms.IntegerField(label="Plan anew every (hours)", min_value=1, max_value=720)

    groups = (
        (
            "When a move is proposed",
            "So that endpoints do not wander for pennies.",
            ("least_saving_percent", "least_saving_per_hour", "payback_days", "cool_down_hours"),
        ),
        ("How it is carried out", "", ("concurrent_moves", "solve_limit_s")),
        ("What may be applied unasked", "Off until it is ticked.", ("automatic", "replan_drift")),
        ("When", "", ("days", "from_hour", "until_hour")),
        ("How much", "", ("automatic_saving_per_hour", "moves_per_day", "run_every_hours")),
    )


class AdvisorPolicy(FormPage):
    action = PlatformAction.MANAGE_FLEET
    reason = "change the advisor's policy"
    form_class = PolicyForm
    title = "Policy of the advisor"
    lede = "How sure it must be before it proposes a move, and what it may do by itself."
    submit_label = "Save policy"

    def crumbs(self) -> list[dict[str, str]]:
        return [advisor_crumb()]

    def initial(self) -> dict[str, Any]:
        policy = AdvicePolicy.current()
        return {name: getattr(policy, name) for name in FIELDS}

    def save(self, form: PolicyForm) -> HttpResponse:
        policy_set(**form.cleaned_data)
        audit(
            self.request.user,
            "advice.policy",
            **{name: form.cleaned_data[name] for name in form.changed_data},
        )
        self.say("The policy holds from now on.")
        return redirect("console:advisor")
