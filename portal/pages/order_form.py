"""The order form: what may be chosen, what was typed, and the terms that come of it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

from django import forms
from django.http import QueryDict

from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.services import MOST_REPLICAS
from clusters.models import CatalogModel, Cluster, Endpoint, Region, SloClass
from tenants.models import Project

MOST_TOKENS: Final = 10_000_000
LONGEST_NAME: Final = 63
USUAL_INPUT: Final = 500
USUAL_OUTPUT: Final = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offered:
    """What an order may choose from, read once."""

    models: dict[str, CatalogModel]
    projects: dict[str, Project]
    classes: dict[str, SloClass]
    regions: list[Region]
    clusters: list[Cluster]

    @classmethod
    def read(cls) -> Offered:
        """Read what the open tenant may choose from."""
        return cls(
            models={model.name: model for model in CatalogModel.objects.filter(published=True)},
            projects={project.slug: project for project in Project.objects.order_by("created_at")},
            classes={slo_class.name: slo_class for slo_class in SloClass.objects.all()},
            regions=list(Region.objects.all()),
            clusters=list(Cluster.objects.present().select_related("region")),
        )

    @property
    def certifications(self) -> list[str]:
        return sorted({each for region in self.regions for each in region.certifications})


class OrderForm(forms.Form):
    """An order as typed. Model, class and project are named as in the API."""

    model = forms.ChoiceField()
    project = forms.ChoiceField(help_text="The cost centre that pays.")
    slo_class = forms.ChoiceField(label="Service class")
    residency = forms.CharField(max_length=60)
    certifications = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Certifications the place must hold",
    )
    requests_per_second = forms.FloatField(
        min_value=0, max_value=1e6, label="Requests per second", help_text="The mean over a busy hour."
    )
    input_tokens = forms.IntegerField(
        min_value=1,
        max_value=MOST_TOKENS,
        label="Input tokens",
        help_text="Of a usual request; 750 words are about 1,000 tokens.",
    )
    output_tokens = forms.IntegerField(
        min_value=1, max_value=MOST_TOKENS, label="Output tokens", help_text="Of a usual answer."
    )
    context_tokens = forms.IntegerField(
        min_value=1,
        max_value=MOST_TOKENS,
        required=False,
        label="Longest context",
        help_text="Empty: all that the model can take. Less needs less memory.",
    )
    replicas = forms.IntegerField(
        min_value=1,
        max_value=MOST_REPLICAS,
        required=False,
        label="Replicas",
        help_text="Empty: as many as the load needs.",
    )
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
        self.fields["model"].choices = [(name, model.title) for name, model in offered.models.items()]
        self.fields["project"].choices = [(slug, project.name) for slug, project in offered.projects.items()]
        self.fields["slo_class"].choices = [(name, each.title) for name, each in offered.classes.items()]
        self.fields["certifications"].choices = [(name, name) for name in offered.certifications]
        for name in ("model", "slo_class"):
            self.fields[name].error_messages["invalid_choice"] = "%(value)s is not offered; choose another."

    @property
    def chosen_model(self) -> CatalogModel | None:
        """The model that was chosen, None if it is not offered."""
        return self.offered.models.get(self.data.get("model", ""))

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

    def terms(self) -> OrderTerms | None:
        """Give the terms of the order, whatever its name and project; None if what was typed makes none."""
        self.full_clean()
        if set(self.errors) - {"name", "project"}:
            return None
        chosen = self.cleaned_data
        return OrderTerms(
            model=self.offered.models[chosen["model"]],
            slo_class=self.offered.classes[chosen["slo_class"]],
            residency=chosen["residency"],
            certifications=tuple(chosen["certifications"]),
            requests_per_second=chosen["requests_per_second"],
            input_tokens=chosen["input_tokens"],
            output_tokens=chosen["output_tokens"],
            context_tokens=chosen["context_tokens"],
            replicas=chosen["replicas"],
        )


def smallest_terms(model: CatalogModel, slo_class: SloClass) -> OrderTerms:
    """Give the terms of one replica for a small load, anywhere: what "from" prices are quoted for."""
    input_tokens, output_tokens = usual_lengths(model)
    return OrderTerms(
        model=model,
        slo_class=slo_class,
        requests_per_second=0.1,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        replicas=1,
    )


def usual_lengths(model: CatalogModel) -> tuple[int, int]:
    """Give usual lengths of requests and answers that fit into the model's context."""
    return max(1, min(USUAL_INPUT, model.context_tokens // 2)), max(
        1, min(USUAL_OUTPUT, model.context_tokens // 4)
    )


def starting_values(offered: Offered, given: QueryDict) -> QueryDict:
    """Give the values of a fresh form: defaults, overridden by what a link to the form gives."""
    values = given.copy()
    model = offered.models.get(given.get("model", "")) or next(iter(offered.models.values()), None)
    input_tokens, output_tokens = usual_lengths(model) if model else (USUAL_INPUT, USUAL_OUTPUT)
    slo_class = "standard" if "standard" in offered.classes else next(iter(offered.classes), "")
    defaults: dict[str, Any] = {
        "model": model.name if model else "",
        "project": next(iter(offered.projects), ""),
        "slo_class": slo_class,
        "residency": "global",
        "requests_per_second": "1",
        "input_tokens": str(input_tokens),
        "output_tokens": str(output_tokens),
    }
    for name, value in defaults.items():
        values.setdefault(name, value)
    return values
