"""SLO classes: what each promises, and forms to change or add one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.inventory import slo_classes
from clusters.models import OnLittleTraffic, OnOverload, SloClass
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage
from tenants.api.serializers import MOST_A_MINUTE
from tenants.audit import audit
from tenants.errors import Invalid, NotFound
from tenants.roles import PlatformAction

TARGETS = ("ttft_p95_ms", "itl_p95_ms", "availability", "credit_percent")
POLICIES = ("priority", "price_factor", "spare_replicas", "cost_target", "needs_evaluation")
ADMISSION = ("queue_s", "floor_percent", "context_tokens", "on_overload", "degraded_context_tokens")
AUTOSCALING = ("may_scale_to_zero", "idle_to_zero_s", "wake_hold_s", "high_water", "low_water", "quiet_s")
RETRIES = ("attempts", "backoff_s", "backoff_most_s")
TIMEOUTS = ("connect_timeout_s", "first_token_timeout_s", "between_tokens_timeout_s", "total_timeout_s")


ROLLOUT = (
    "rollout_ways", "rollout_steps", "rollout_step_s", "rollout_requests", "rollout_patience_s",
    "rollout_little_traffic", "rollout_start_s", "rollout_days", "rollout_from_hour", "rollout_until_hour",
)  # fmt: skip
GATE = ("rollout_ttft_factor", "rollout_itl_factor", "rollout_error_points", "rollout_cost_factor")
DAYS = tuple(enumerate(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")))
ROLLOUT_HELP = (
    "Changes that are asked for from now on keep to them. A new revision gets a share of the requests and is judged on "
    "them; where no GPUs are free, own replicas make room or what runs is replaced in the window."
)
GATE_HELP = (
    "How much worse than the old revision a new one may be, on the same traffic, before it is taken back."
)


class WordsField(forms.CharField):
    """Words between commas."""

    def clean(self, value: Any) -> list[str]:
        return [word.strip() for word in super().clean(value).split(",") if word.strip()]


class NumbersField(WordsField):
    """Whole numbers between commas."""

    def clean(self, value: Any) -> list[int]:  # type: ignore[override]
        words = super().clean(value)
        if not all(word.isdecimal() for word in words):
            raise forms.ValidationError("Write whole numbers between commas, for instance 5, 25, 50.")
        return [int(word) for word in words]


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
    needs_evaluation = forms.BooleanField(
        required=False, label="Changes need an evaluation",
        help_text="One of model, precision or context cap is refused where there is no evaluation set for it.",
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

    may_scale_to_zero = forms.BooleanField(required=False, label="Endpoints may be scaled to zero")
    idle_to_zero_s = forms.IntegerField(
        min_value=60, max_value=604_800, initial=900, label="To zero after (s)",
        help_text="Without a request. An endpoint may say another time.",
    )  # fmt: skip
    wake_hold_s = forms.FloatField(
        min_value=0, max_value=600, initial=300, label="Hold requests while it wakes (s)",
        help_text="0: they are told to come again. Never longer than a whole answer may take.",
    )  # fmt: skip
    high_water = forms.FloatField(
        min_value=0.1, max_value=1, initial=0.8, label="High-water mark",
        help_text="More replicas above this share of the requests that they work on at once.",
    )  # fmt: skip
    low_water = forms.FloatField(
        min_value=0.05, max_value=0.95, initial=0.5, label="Low-water mark",
        help_text="One is given back while the others would be loaded up to this share without it.",
    )  # fmt: skip
    quiet_s = forms.IntegerField(
        min_value=30, max_value=86_400, initial=300, label="For so long (s)",
        help_text="A replica that comes back takes as long as its model takes to load.",
    )  # fmt: skip
    rollout_ways = WordsField(
        initial="surge, borrow, replace", label="Ways",
        help_text="surge (beside what runs), borrow (own replicas make room), replace (in place, with an outage), in "
        "the order in which they are tried.",
    )  # fmt: skip
    rollout_days = forms.MultipleChoiceField(
        choices=DAYS, required=False, widget=forms.CheckboxSelectMultiple, label="Days of the window",
        help_text="For replacing in place. None: every day.",
    )  # fmt: skip
    rollout_from_hour = forms.IntegerField(min_value=0, max_value=23, initial=0, label="From hour (UTC)")
    rollout_until_hour = forms.IntegerField(
        min_value=1, max_value=24, initial=24, label="Until hour (UTC)",
        help_text="Not after the first: past midnight.",
    )  # fmt: skip
    rollout_steps = NumbersField(
        required=False, initial="5, 25, 50", label="Steps (%)",
        help_text="Share of the requests that a new revision gets, step by step. Empty: no canary.",
    )  # fmt: skip
    rollout_step_s = forms.IntegerField(
        min_value=0, max_value=604_800, initial=300, label="A step takes at least (s)"
    )
    rollout_requests = forms.IntegerField(
        min_value=slo_classes.FEWEST_REQUESTS, max_value=1_000_000, initial=200,
        label="Requests that are enough to tell",
        help_text="Of either revision, in each step.",
    )  # fmt: skip
    rollout_patience_s = forms.IntegerField(
        min_value=0, max_value=2_592_000, initial=3600, label="Little traffic after (s)",
        help_text="So long a step waits for enough requests.",
    )  # fmt: skip
    rollout_little_traffic = forms.ChoiceField(
        choices=OnLittleTraffic, initial=OnLittleTraffic.HOLD, label="With little traffic"
    )
    rollout_start_s = forms.IntegerField(
        min_value=10, max_value=604_800, initial=3600, label="Given up when it does not serve after (s)"
    )
    rollout_ttft_factor = forms.FloatField(
        min_value=1, max_value=100, required=False, initial=1.25, label="TTFT p95, at most times the old",
        help_text="Empty: not judged.",
    )  # fmt: skip
    rollout_itl_factor = forms.FloatField(
        min_value=1, max_value=100, required=False, initial=1.25, label="ITL p95, at most times the old",
        help_text="Empty: not judged.",
    )  # fmt: skip
    rollout_error_points = forms.FloatField(
        min_value=0, max_value=100, required=False, initial=0.5, label="Failed requests, points above the old",
        help_text="Percentage points. Empty: not judged.",
    )  # fmt: skip
    rollout_cost_factor = forms.FloatField(
        min_value=1, max_value=100, required=False, initial=1.25, label="Cost per token, at most times the old",
        help_text="Empty: not judged.",
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
        (
            "Replicas that follow the load",
            "Endpoints with autoscaling follow them within a minute.",
            AUTOSCALING,
        ),
        ("Changes of what runs", ROLLOUT_HELP, ROLLOUT),
        ("Gate of a canary", GATE_HELP, GATE),
        ("Attempts", "Only before the first byte of an answer, and within a tenth of the traffic.", RETRIES),
    )

    def values(self) -> dict[str, Any]:
        """Give what was typed as a class keeps it."""
        typed = dict(self.cleaned_data)
        # Two decimals of a percent, so that 7 % is 0.07 and not a hair beside it.
        typed["floor"] = round(typed.pop("floor_percent") / 100, 4)
        typed["rollout_days"] = sorted(map(int, typed["rollout_days"]))
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
        for name in ("rollout_ways", "rollout_steps"):
            values[name] = ", ".join(map(str, values[name]))
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
