"""SLO classes: what each promises, and forms to change or add one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.inventory import slo_classes
from clusters.models import OnOverload, SloClass
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from tenants.api.serializers import MOST_A_MINUTE
from tenants.audit import audit
from tenants.errors import Invalid, NotFound
from tenants.roles import PlatformAction

TARGETS = ("ttft_p95_ms", "itl_p95_ms", "availability", "credit_percent")
POLICIES = ("priority", "price_factor", "spare_replicas", "cost_target")
ADMISSION = ("queue_s", "floor_percent", "context_tokens", "on_overload", "degraded_context_tokens")
RETRIES = ("attempts", "backoff_s", "backoff_most_s")
TIMEOUTS = ("connect_timeout_s", "first_token_timeout_s", "between_tokens_timeout_s", "total_timeout_s")


ADMISSION_HELP = (
    "Classes are served by priority at every replica. The floors of all classes must sum to less than 100 %. When "
    "there is too much of everything, the lowest class is refused first."
)


class SloClassForm(ConsoleForm):
    title = forms.CharField(max_length=80)
    description = forms.CharField(max_length=300, help_text="Tenants read it when they order.")
    ttft_p95_ms = forms.IntegerField(
        min_value=1, max_value=3_600_000, required=False, label="Time to first token, p95 (ms)",
        help_text="Empty: no target.",
    )  # fmt: skip
    itl_p95_ms = forms.IntegerField(
        min_value=1, max_value=60_000, required=False, label="Time between tokens, p95 (ms)",
        help_text="Empty: no target.",
    )  # fmt: skip
    availability = forms.DecimalField(max_digits=6, decimal_places=5, help_text="0.999 means 99.9 %.")
    priority = forms.IntegerField(min_value=1, max_value=100, help_text="1 is served first.")
    price_factor = forms.DecimalField(
        max_digits=6, decimal_places=3, initial=1, help_text="On the price of the GPUs it holds."
    )
    credit_percent = forms.DecimalField(
        min_value=0, max_value=100, max_digits=5, decimal_places=2, initial=10, label="Credit when missed (%)",
        help_text="Of an endpoint's charge of a month in which it misses a target. Days judged already keep theirs.",
    )  # fmt: skip
    cost_target = forms.DecimalField(
        min_value=0, max_digits=12, decimal_places=4, required=False, label="Cost target per million tokens",
        help_text="In the platform's currency, for the operators' reports. Empty: no target.",
    )  # fmt: skip
    spare_replicas = forms.IntegerField(
        min_value=0, max_value=slo_classes.MOST_SPARE, initial=0, label="Spare replicas",
        help_text="Beyond what the load needs, so that a lost one is not missed. Orders pay for them.",
    )  # fmt: skip
    attempts = forms.IntegerField(
        min_value=1, max_value=10, initial=2, help_text="Replicas tried for one request."
    )
    connect_timeout_s = forms.FloatField(min_value=0.1, max_value=60, initial=2, label="Connect (s)")
    first_token_timeout_s = forms.FloatField(
        min_value=0.1, max_value=3600, initial=30, label="First token (s)"
    )
    between_tokens_timeout_s = forms.FloatField(
        min_value=0.1, max_value=600, initial=15, label="Between tokens (s)"
    )
    total_timeout_s = forms.FloatField(min_value=1, max_value=86_400, initial=300, label="Whole answer (s)")

    backoff_s = forms.FloatField(
        min_value=0, max_value=60, initial=0.05, label="First pause (s)",
        help_text="Before the second attempt, drawn from 0 to this; it doubles with each.",
    )  # fmt: skip
    backoff_most_s = forms.FloatField(min_value=0, max_value=600, initial=1, label="Longest pause (s)")
    queue_s = forms.FloatField(
        min_value=0, max_value=86_400, initial=5, label="Longest wait for a replica (s)",
        help_text="0: nobody waits, what has no place at once is overload.",
    )  # fmt: skip
    floor_percent = forms.FloatField(
        min_value=0, max_value=99, initial=0, label="Floor (%)",
        help_text="Of the places that become free, this much stays with the class while higher ones wait too. "
        "0: higher classes always go first.",
    )  # fmt: skip
    context_tokens = forms.IntegerField(
        min_value=2, max_value=MOST_A_MINUTE, required=False, label="Longest request with its answer",
        help_text="In tokens. Empty: what each endpoint allows.",
    )  # fmt: skip
    on_overload = forms.ChoiceField(
        choices=OnOverload, initial=OnOverload.REFUSE, label="When there is no room",
        help_text="Fallbacks are the endpoint's own to name, and only where its residency allows them.",
    )  # fmt: skip
    degraded_context_tokens = forms.IntegerField(
        min_value=2, max_value=MOST_A_MINUTE, required=False, label="Shortened to",
        help_text="In tokens, with the answer. Needed where a shorter context is admitted.",
    )  # fmt: skip

    groups = (
        ("What tenants see", "", ("title", "description")),
        (
            "Targets",
            "Plans from now on keep to them; endpoints that run are not moved. They judge days from tomorrow on.",
            TARGETS,
        ),
        ("Policy", "Plans from now on count spare replicas and the price factor.", POLICIES),
        ("Admission", ADMISSION_HELP, ADMISSION),
        ("Timeouts", "Gateways follow them within a second.", TIMEOUTS),
        ("Attempts", "Only before the first byte of an answer, and within a tenth of the traffic.", RETRIES),
    )

    def values(self) -> dict[str, Any]:
        """Give what was typed as a class keeps it."""
        typed = dict(self.cleaned_data)
        # Two decimals of a percent, so that 7 % is 0.07 and not a hair beside it.
        typed["floor"] = round(typed.pop("floor_percent") / 100, 4)
        return typed


class NewSloClassForm(SloClassForm):
    name = forms.SlugField(max_length=40, help_text="Orders and prices name it; it cannot be changed later.")

    groups = (("What tenants see", "", ("name", "title", "description")), *SloClassForm.groups[1:])


class SloClasses(ConsolePage):
    action = PlatformAction.VIEW_OFFER
    reason = "list SLO classes with how many endpoints use them"

    def get(self, request: HttpRequest) -> HttpResponse:
        used = Count("endpoints", filter=Q(endpoints__deleted_at=None))
        return self.render(
            "console/slo_classes.html",
            {"classes": SloClass.objects.annotate(in_use=used).order_by("priority", "name")},
        )


class SloClassAdd(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "add an SLO class"
    form_class = NewSloClassForm
    title = "Add an SLO class"
    lede = "Tenants can order it as soon as it is added. Give its tokens a price, too."
    submit_label = "Add class"

    def crumbs(self) -> list[dict[str, str]]:
        return [_crumb()]

    def save(self, form: NewSloClassForm) -> HttpResponse:
        try:
            slo_class = slo_classes.slo_class_add(**form.values())
        except Invalid as error:
            raise _named_as_typed(error) from error
        audit(self.request.user, "slo-class.add", **form.cleaned_data)
        self.say(f"SLO class {slo_class.title} is added.")
        return redirect("console:slo-classes")


class SloClassEdit(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "change an SLO class"
    form_class = SloClassForm
    title = "SLO class"
    submit_label = "Save class"

    def heading(self) -> str:
        return f"SLO class {self.slo_class.title}"

    @property
    def slo_class(self) -> SloClass:
        found = SloClass.objects.filter(name=self.kwargs["name"]).first()
        if found is None:
            raise NotFound("There is no such SLO class.")
        return found

    def crumbs(self) -> list[dict[str, str]]:
        return [_crumb()]

    def initial(self) -> dict[str, Any]:
        slo_class = self.slo_class
        kept = [name for name in SloClassForm.base_fields if name != "floor_percent"]
        values = {name: getattr(slo_class, name) for name in kept}
        values["floor_percent"] = round(slo_class.floor * 100, 2)
        values |= {name: f"{value:g}" for name, value in values.items() if isinstance(value, float)}
        plain = ("availability", "price_factor", "credit_percent", "cost_target")
        return values | {name: f"{values[name].normalize():f}" for name in plain if values[name] is not None}

    def save(self, form: SloClassForm) -> HttpResponse:
        try:
            slo_class = slo_classes.slo_class_change(slo_class=self.slo_class, **form.values())
        except Invalid as error:
            raise _named_as_typed(error) from error
        audit(
            self.request.user, "slo-class.change", name=slo_class.name,
            **{name: form.cleaned_data[name] for name in form.changed_data},
        )  # fmt: skip
        self.say(f"SLO class {slo_class.title} is saved.")
        return redirect("console:slo-classes")


def _named_as_typed(error: Invalid) -> Invalid:
    """Name the field of the form, which asks for a floor in percent."""
    errors = {("floor_percent" if name == "floor" else name): texts for name, texts in error.errors.items()}
    return Invalid(error.message, errors=errors)


def _crumb() -> dict[str, str]:
    return {"label": "SLO classes", "url": reverse("console:slo-classes")}
