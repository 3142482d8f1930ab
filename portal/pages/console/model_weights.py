"""Where a model's weights come from, and the platform's credentials for fetching them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.inventory import catalog
from clusters.inventory.weights import QUANTIZATIONS, without_note
from clusters.models import CatalogModel
from portal.pages.base import ConsolePage
from portal.pages.console.catalog import catalog_crumb, find_model
from portal.pages.console.forms import ConsoleForm, FormPage, WordsField
from portal.pages.secrets import VariablesForm
from tenants.audit import audit
from tenants.roles import PlatformAction


class WeightsForm(ConsoleForm):
    kind = forms.ChoiceField(
        choices=CatalogModel.WeightsKind.choices, widget=forms.RadioSelect, label="Where from"
    )
    uri = forms.CharField(
        max_length=400, required=False, label="Address",
        help_text="A claim: weights/llama. Object store: s3://bucket/path, gs://… or https://host/bucket/path. "
        "Hugging Face: https://host/organisation/model. OCI image: registry/repository@sha256:…",
    )  # fmt: skip
    revision = forms.CharField(
        max_length=80, required=False, help_text="Of Hugging Face or a mirror: the commit, not a branch."
    )
    size_gib = forms.FloatField(
        min_value=0, max_value=100_000, label="Size (GiB)", initial=0,
        help_text="The volume for the weights is made somewhat larger.",
    )  # fmt: skip
    zones = WordsField(
        required=False, label="Stands in",
        help_text="Regions or zones where the address stands, apart by commas. Orders that must stay within "
        "a zone are refused when the weights would come from outside. Empty: not known.",
    )  # fmt: skip

    def __init__(self, *args: Any, precisions: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.precisions = precisions
        for precision in precisions:
            self.fields[f"quantize_{precision}"] = forms.ChoiceField(
                choices=[
                    ("", "served as it is"),
                    *((name, f"quantized to {name}") for name in QUANTIZATIONS),
                ],
                required=False,
                label=f"Checkpoint for {precision}",
            )
            self.fields[f"note_{precision}"] = forms.CharField(
                max_length=1000,
                required=False,
                widget=forms.Textarea(attrs={"rows": 2}),
                label=f"Quality in {precision}",
                help_text="What is known of its answers beside those of the checkpoint; tenants read it.",
            )
            self.fields[f"approval_{precision}"] = forms.BooleanField(
                required=False, label=f"An order must accept it before it is given {precision}"
            )

    wide = ("Address", "Quantization")

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        for precision in self.precisions:
            if values.get(f"approval_{precision}") and not values.get(f"note_{precision}"):
                self.add_error(f"note_{precision}", "Write what an order has to accept.")
        return values

    def notes(self) -> dict[str, dict[str, Any]]:
        """Give what is noted of each precision, and take it out of ``cleaned_data``."""
        values = self.cleaned_data
        found = {
            name: {"note": values.pop(f"note_{name}"), "needs_approval": values.pop(f"approval_{name}")}
            for name in self.precisions
        }
        return {name: told for name, told in found.items() if told["note"]}

    @property
    def groups(self) -> tuple:
        return (
            ("Address", "", ("kind", "uri", "revision", "size_gib", "zones")),
            (
                "Quantization",
                "What a job makes of the checkpoint before it is served, for each precision on offer. What a job "
                "makes is offered with a note of its quality, and not at all without one.",
                tuple(
                    f"{part}_{precision}"
                    for precision in self.precisions
                    for part in ("quantize", "note", "approval")
                ),
            ),
        )


class ModelWeights(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "say where a model's weights come from"
    form_class = WeightsForm
    title = "Weights"
    lede = "Engines that run keep what they were started with."
    submit_label = "Save weights"

    @property
    def model(self) -> CatalogModel:
        return find_model(self.kwargs["name"])

    def heading(self) -> str:
        return f"Weights of {self.model.title}"

    def form_arguments(self) -> dict[str, Any]:
        return {"precisions": self.model.precisions}

    def crumbs(self) -> list[dict[str, str]]:
        return model_crumbs(self.model)

    def initial(self) -> dict[str, Any]:
        model = self.model
        values = {
            name: getattr(model, f"weights_{name}")
            for name in ("kind", "uri", "revision", "size_gib", "zones")
        }
        values |= {f"quantize_{name}": method for name, method in model.weights_quantize.items()}
        for name, told in model.precision_notes.items():
            values |= {f"note_{name}": told["note"], f"approval_{name}": told.get("needs_approval", False)}
        return values

    def save(self, form: WeightsForm) -> HttpResponse:
        notes, values = form.notes(), form.cleaned_data
        quantize = {name: values.pop(f"quantize_{name}") for name in form.precisions}
        model = catalog.model_weights_set(
            model=self.model,
            quantize={name: method for name, method in quantize.items() if method},
            notes=notes,
            **values,
        )
        audit(
            self.request.user,
            "model.weights",
            model=model.name,
            kind=model.weights_kind,
            uri=model.weights_uri,
            notes=notes,
        )
        self.say(f"The weights of {model.title} are fetched from there from now on.{_silent(model)}")
        return redirect("console:model", model.name)


def _silent(model: CatalogModel) -> str:
    missing = without_note(model)
    return f" Orders in {', '.join(missing)} are refused until its quality is noted." if missing else ""


class PlatformSecretForm(VariablesForm, ConsoleForm):
    pass


class ModelSecretSet(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "keep credentials for a model's weights"
    form_class = PlatformSecretForm
    title = "Credentials for the weights"
    lede = "They are sealed, given to the job that fetches the weights, and never shown again. A tenant's own go first."
    submit_label = "Save credentials"

    @property
    def model(self) -> CatalogModel:
        return find_model(self.kwargs["name"])

    def crumbs(self) -> list[dict[str, str]]:
        return model_crumbs(self.model)

    def save(self, form: PlatformSecretForm) -> HttpResponse:
        model = catalog.model_secret_set(model=self.model, values=form.cleaned_data["values"])
        audit(self.request.user, "model.secret", model=model.name, names=sorted(form.cleaned_data["values"]))
        self.say(f"The credentials for the weights of {model.title} are kept.")
        return redirect("console:model", model.name)


class ModelSecretRemove(ConsolePage):
    """Asks, then removes the platform's credentials."""

    action = PlatformAction.MANAGE_OFFER
    reason = "remove credentials for a model's weights"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        model = find_model(name)
        context = {
            "breadcrumbs": [*model_crumbs(model), {"label": "Remove credentials"}],
            "model": model,
            "consequences": [
                "Engines that run go on.",
                "A new engine, or one on another cluster, can fetch the weights only where they are public "
                "or its tenant has credentials of its own.",
            ],
            "cancel_url": reverse("console:model", args=[model.name]),
        }
        return self.render("console/model_secret_remove.html", context)

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        model = catalog.model_secret_set(model=find_model(name), values={})
        audit(request.user, "model.secret-remove", model=model.name)
        self.say(f"The credentials for the weights of {model.title} are removed.")
        return redirect("console:model", model.name)


def model_crumbs(model: CatalogModel) -> list[dict[str, str]]:
    """Give the pages above one about a model."""
    return [catalog_crumb(), {"label": model.title, "url": reverse("console:model", args=[model.name])}]
