"""The order form: what may be chosen, what was typed, and the terms that come of it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

from django import forms
from django.http import QueryDict

from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.profiles import USUAL_PROFILE, caps_for, completed, named_profile
from clusters.endpoints.services import MOST_REPLICAS
from clusters.models import CatalogModel, Endpoint, SloClass
from clusters.planning.problem import Pins, Precision
from clusters.planning.search.sizing import BATCH_LIMIT
from portal.pages.offered import Offered
from portal.pages.order_profile import MOST_SPREAD, MOST_TOKENS, TYPED, numbers_of
from portal.templatetags.berth import count

MOST_PARALLEL: Final = 64
LONGEST_NAME: Final = 63

#: Fields that say what Berth may not choose, by the names of the planner.
PINS: Final = tuple(field.name for field in dataclasses.fields(Pins))


class OrderForm(forms.Form):
    """An order as typed. Model, class, project and pins are named as in the API."""

    model = forms.ChoiceField()
    project = forms.ChoiceField(help_text="The cost centre that pays.")
    slo_class = forms.ChoiceField(label="Service class")
    approved_precisions = forms.MultipleChoiceField(
        choices=[(each.value, each.value) for each in Precision], required=False
    )
    residency = forms.CharField(max_length=60)
    near = forms.ChoiceField(
        required=False, label="Rather near", help_text="Preferred where it costs little more."
    )
    certifications = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Certifications the place must hold",
    )
    profile = forms.CharField(max_length=40, required=False)
    requests_per_second = forms.FloatField(
        min_value=0, max_value=1e6, label="Requests", help_text="The mean over a busy hour."
    )
    burstiness = forms.FloatField(
        min_value=1, max_value=1e4, label="Busiest minute", help_text="Its rate over the mean; 1 is steady."
    )
    input_tokens = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS, label="Input tokens",
        help_text="Of a usual request; 750 words are about 1,000 tokens.",
    )  # fmt: skip
    input_cv = forms.FloatField(
        min_value=0, max_value=MOST_SPREAD, label="Spread of the input",
        help_text="Standard deviation over mean. 0: always the same, 1: from short to long.",
    )  # fmt: skip
    output_tokens = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS, label="Output tokens", help_text="Of a usual answer."
    )
    output_cv = forms.FloatField(
        min_value=0, max_value=MOST_SPREAD, label="Spread of the output", help_text="As of the input."
    )
    prefix_share = forms.FloatField(
        min_value=0, max_value=99, label="Shared prefix",
        help_text="How much of the input other requests began with, too: a system prompt, a document.",
    )  # fmt: skip
    context_tokens = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, label="Longest request with its answer"
    )
    output_limit = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, label="Longest answer"
    )
    gpu = forms.ChoiceField(required=False, label="GPU type")
    cluster = forms.ChoiceField(required=False)
    precision = forms.ChoiceField(required=False, label="Precision of the weights")
    tp = forms.IntegerField(
        min_value=1, max_value=MOST_PARALLEL, required=False, label="Tensor parallelism",
        help_text="GPUs that share every layer.",
    )  # fmt: skip
    pp = forms.IntegerField(
        min_value=1, max_value=MOST_PARALLEL, required=False, label="Pipeline stages",
        help_text="One after the other.",
    )  # fmt: skip
    max_batch_size = forms.IntegerField(
        min_value=1, max_value=BATCH_LIMIT, required=False, label="Batch limit",
        help_text="Requests at once in one replica, at most.",
    )  # fmt: skip
    replicas = forms.IntegerField(
        min_value=1, max_value=MOST_REPLICAS, required=False, label="Replicas",
        help_text="Empty: as many as load, bursts and the class need.",
    )  # fmt: skip
    follow_load = forms.BooleanField(
        required=False, label="Let the number of replicas follow the load",
        help_text="Between what the mean load needs and what the busiest minute does. You can set other bounds later.",
    )  # fmt: skip
    name = forms.CharField(
        max_length=LONGEST_NAME,
        required=False,
        help_text="Clients send it as the model. Empty: the suggested name.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    suggested = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, data: QueryDict, *, offered: Offered) -> None:
        super().__init__(data)
        self.offered = offered
        model = self.chosen_model
        free = [("", "Berth chooses")]
        precisions = model.precisions if model else [each.value for each in Precision]
        for name, choices in (
            ("model", [(name, model.title) for name, model in offered.models.items()]),
            ("project", [(slug, project.name) for slug, project in offered.projects.items()]),
            ("slo_class", [(name, each.title) for name, each in offered.classes.items()]),
            ("certifications", [(name, name) for name in offered.certifications]),
            ("near", [("", "No preference"), *offered.places]),
            ("gpu", [*free, *((name, name) for name in offered.gpus)]),
            ("cluster", [*free, *((each.name, each.name) for each in offered.clusters)]),
            ("precision", [*free, *((name, name) for name in precisions)]),
        ):
            self.fields[name].choices = choices
        for name in ("model", "slo_class", "near", "gpu", "cluster", "precision"):
            self.fields[name].error_messages["invalid_choice"] = "%(value)s is not offered; choose another."
        context, answer = self.proposed_caps()
        self.fields["context_tokens"].help_text = _proposal(context, "Less needs less memory.")
        self.fields["output_limit"].help_text = _proposal(answer, "")

    @property
    def chosen_model(self) -> CatalogModel | None:
        """The model that was chosen, None if it is not offered."""
        return self.offered.models.get(self.data.get("model", ""))

    @property
    def caps_seen(self) -> str:
        """What the form proposes as caps, as one word that a later request is compared with."""
        return "/".join(str(each) for each in self.proposed_caps())

    def proposed_caps(self) -> tuple[int | None, int | None]:
        """Give the caps that hold where none are typed; None while what was typed proposes none."""
        model, numbers = self.chosen_model, numbers_of(self.data)
        if model is None or numbers is None:
            return None, None
        return caps_for(model, numbers, named_profile(self.data.get("profile", "")))

    def quality_notes(self) -> list[dict[str, Any]]:
        """Give the precisions of the chosen model that must be accepted, with what there is to accept."""
        model, accepted = self.chosen_model, self.data.getlist("approved_precisions")
        if model is None:
            return []
        return [
            {"precision": name, "note": told["note"], "checked": name in accepted}
            for name, told in model.precision_notes.items()
            if name in model.precisions and told.get("needs_approval")
        ]

    @property
    def is_expert(self) -> bool:
        """Whether something of the expert's part was typed or is wrong."""
        return any(self.data.get(name) or name in self.errors for name in (*PINS, "replicas"))

    def suggest_name(self) -> str:
        """Give a free name made of model and class."""
        model, slo_class = self.data.get("model", ""), self.data.get("slo_class", "")
        stem = (
            re.sub(r"[^a-z0-9]+", "-", f"{model}-{slo_class}".lower())
            .strip("-")[: LONGEST_NAME - 4]
            .strip("-")
        )
        taken = set(Endpoint.objects.live().filter(name__istartswith=stem).values_list("name", flat=True))
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
        return next(name for name in numbered if name not in taken)

    def clean_profile(self) -> str:
        name = self.cleaned_data["profile"]
        if name and named_profile(name) is None:
            raise forms.ValidationError("There is no such profile; choose another.")
        return name

    def terms(self) -> OrderTerms | None:
        """Give the terms of the order, whatever its name and project; None if what was typed makes none."""
        self.full_clean()
        if set(self.errors) - {"name", "project"}:
            return None
        chosen = self.cleaned_data
        model = self.offered.models[chosen["model"]]
        caps = {name: chosen[name] for name in ("context_tokens", "output_limit") if chosen[name]}
        order = {
            "residency": chosen["residency"],
            "certifications": tuple(chosen["certifications"]),
            "near": chosen["near"],
            "profile": chosen["profile"],
            "requests_per_second": chosen["requests_per_second"],
            **{name: chosen[name] for name in TYPED},
            "prefix_share": chosen["prefix_share"] / 100,
            "pins": {name: chosen[name] for name in PINS if chosen[name]},
            "approved_precisions": tuple(
                name for name in chosen["approved_precisions"] if name in model.precisions
            ),
            "replicas": chosen["replicas"],
            **caps,
        }
        return OrderTerms(
            model=model, slo_class=self.offered.classes[chosen["slo_class"]], **completed(order, model)
        )


def _proposal(tokens: int | None, more: str) -> str:
    return (
        f"Empty: {count(tokens)} tokens. {more}".strip()
        if tokens
        else f"Empty: by the profile. {more}".strip()
    )


def smallest_terms(model: CatalogModel, slo_class: SloClass) -> OrderTerms:
    """Give the terms of a small load of a usual shape, anywhere: what "from" prices are quoted for."""
    order = {"profile": USUAL_PROFILE, "requests_per_second": 0.1}
    return OrderTerms(model=model, slo_class=slo_class, **completed(order, model))
