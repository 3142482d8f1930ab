"""The catalog as operators keep it: which models there are, where they may run, whether they can be ordered."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.models import Price
from billing.prices import price_book
from billing.rating.prices import MissingPrice, Subject
from clusters.endpoints.evaluations.sets import sets_seen
from clusters.inventory import catalog, remit
from clusters.inventory.weights import without_note
from clusters.models import CatalogModel, SloClass
from clusters.planning.problem import Precision
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage, WordsField
from portal.pages.evaluations_shown import sets_shown
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction

TOKEN_KINDS = (Price.Kind.INPUT_TOKENS, Price.Kind.OUTPUT_TOKENS, Price.Kind.CACHED_TOKENS)

_NUMBERS = {
    "parameters": "Parameters",
    "active_parameters": "Active parameters",
    "layers": "Layers",
    "hidden": "Hidden size",
    "heads": "Attention heads",
    "kv_heads": "Key-value heads",
    "head_size": "Head size",
    "vocabulary": "Vocabulary",
}

#: Labels of the numbers that only some models have, with what each is.
_FURTHER = {
    "mlp_size": ("MLP size", "Width of a dense layer's MLP: intermediate_size."),
    "experts": ("Experts", "In each layer that has them."),
    "experts_active": ("Experts per token", "Of those, how many a token takes."),
    "expert_size": ("Expert size", "Width of one expert: moe_intermediate_size."),
    "shared_experts": ("Shared experts", "That every token takes besides."),
    "dense_layers": ("Dense layers", "The first ones, which have no experts."),
    "latent_size": ("Latent size", "Of latent attention: kv_lora_rank and qk_rope_head_dim together."),
    "window_tokens": ("Window (tokens)", "How far back layers with a window look."),
    "window_layers": ("Layers with a window", ""),
    "linear_layers": ("Linear layers", "Whose state does not grow with the context."),
    "linear_state": ("Linear state", "Numbers that such a layer keeps for a request."),
    "sparse_tokens": ("Sparse tokens", "That sparse attention reads of the context at most."),
}
_TIED = "tied_embeddings"


class ModelForm(ConsoleForm):
    title = forms.CharField(max_length=120)
    description = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), help_text="Tenants read it.")
    licence = forms.CharField(max_length=80)
    allowed_zones = WordsField(
        required=False, help_text="Zones its licence allows, apart by commas: EU, EEA, US. Empty: anywhere."
    )
    tool_parser = forms.CharField(
        max_length=40, required=False, help_text="How trtllm-serve reads calls of tools in its answers, for "
        "instance qwen3. Empty: clients may not send tools. New revisions take it up.",
    )  # fmt: skip
    published = forms.BooleanField(required=False, initial=True, label="May be ordered")


class NewModelForm(ModelForm):
    name = forms.CharField(
        max_length=80, help_text="Orders, prices and clients name it; it cannot be changed later. "
        "Lower-case letters, digits, dots and hyphens.",
    )  # fmt: skip
    context_tokens = forms.IntegerField(min_value=1, max_value=2**31 - 1, label="Longest context (tokens)")
    runtimes = forms.MultipleChoiceField(
        choices=[(name, name) for name in catalog.RUNTIMES],
        widget=forms.CheckboxSelectMultiple,
        initial=["triton-llmapi"],
        help_text="Clusters offer runtimes; a model goes where they meet.",
    )
    precisions = forms.MultipleChoiceField(
        choices=[(name.value, name.value) for name in Precision],
        widget=forms.CheckboxSelectMultiple,
        initial=["bf16"],
        help_text="The first is the checkpoint's own. Of others a job makes, note what is known of their answers "
        "on the page of its weights: without a note they are refused.",
    )
    chat_template = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4, "class": "mono"}),
        help_text="The Jinja template of its tokenizer.",
    )
    derived_from = forms.ModelChoiceField(
        CatalogModel.objects.all(),
        required=False,
        empty_label="None",
        help_text="The model it is a variant of.",
    )
    parameters = forms.IntegerField(
        min_value=1, label=_NUMBERS["parameters"], help_text="In all, as one number."
    )
    active_parameters = forms.IntegerField(
        min_value=1, label=_NUMBERS["active_parameters"], help_text="At work per token; dense models: all."
    )
    layers = forms.IntegerField(min_value=1, max_value=10_000, label=_NUMBERS["layers"])
    hidden = forms.IntegerField(min_value=1, max_value=10**6, label=_NUMBERS["hidden"])
    heads = forms.IntegerField(min_value=1, max_value=10_000, label=_NUMBERS["heads"])
    kv_heads = forms.IntegerField(min_value=1, max_value=10_000, label=_NUMBERS["kv_heads"])
    head_size = forms.IntegerField(min_value=1, max_value=10_000, label=_NUMBERS["head_size"])
    vocabulary = forms.IntegerField(min_value=1, max_value=10**7, label=_NUMBERS["vocabulary"])
    tied_embeddings = forms.BooleanField(
        required=False, label="One table for input and output", help_text="tie_word_embeddings is true."
    )

    groups = (
        ("What tenants see", "", ("name", "title", "description", "licence", "context_tokens")),
        ("Offer", "", ("allowed_zones", "published", "derived_from")),
        ("How it runs", "", ("runtimes", "precisions", "chat_template", "tool_parser")),
        ("Architecture", "The planner sizes memory and speed by these; they are in the model's config.json.",
         tuple(_NUMBERS)),
        ("Further numbers", "Of models that have them: experts, windows, latent or linear attention. Estimates of "
         "memory and speed are better with them.", (*_FURTHER, _TIED)),
    )  # fmt: skip
    folded = ("Further numbers",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, (label, help_text) in _FURTHER.items():
            self.fields[name] = forms.IntegerField(
                min_value=0, max_value=10**9, required=False, label=label, help_text=help_text
            )

    def numbers(self) -> dict[str, int]:
        """Give the architecture's numbers, and take them out of ``cleaned_data``; those not given are left out."""
        values = self.cleaned_data
        further = {name: int(values.pop(name) or 0) for name in (*_FURTHER, _TIED)}
        required = {name: values.pop(name) for name in _NUMBERS}
        return required | {name: number for name, number in further.items() if number}


class Catalog(ConsolePage):
    action = PlatformAction.VIEW_OFFER
    reason = "list the catalog with how many endpoints run each model"

    def get(self, request: HttpRequest) -> HttpResponse:
        seen = Q(endpoints__in=remit.endpoints().live().values("id"))
        models = CatalogModel.objects.annotate(in_use=Count("endpoints", filter=seen))
        return self.render("console/catalog.html", {"models": models})


class ModelDetail(ConsolePage):
    action = PlatformAction.VIEW_OFFER
    reason = "show a model with the endpoints that run it"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        model = find_model(name)
        context = {
            "breadcrumbs": [catalog_crumb(), {"label": model.title}],
            "model": model,
            "facts": [
                {"label": "Name", "value": model.name, "code": True},
                {"label": "Licence", "value": model.licence},
                {"label": "Context", "value": f"{model.context_tokens:,} tokens"},
                {"label": "Allowed zones", "value": ", ".join(model.allowed_zones) or "anywhere"},
                {"label": "Runtimes", "value": ", ".join(model.runtimes)},
                {"label": "Tool parser", "value": model.tool_parser or "none: clients may not send tools"},
                {"label": "Precisions", "value": f"{', '.join(model.precisions)} (the first is its own)"},
                {
                    "label": "Tokenizer",
                    "value": model.tokenizer_id or "none: prompts are counted by their bytes",
                },
                {"label": "Variant of", "value": str(model.derived_from) if model.derived_from else "none"},
            ],
            "numbers": _numbers(model),
            "weights": _weights(model),
            "notes": [
                {"precision": name, **model.precision_notes.get(name, {})}
                for name in model.precisions
                if name in model.weights_quantize or name in model.precision_notes
            ],
            "without_note": ", ".join(without_note(model)),
            "secret_set": model.weights_secret is not None,
            "needs_secret": model.weights_kind != CatalogModel.WeightsKind.BUILT_IN,
            "prices": _prices(model),
            "evaluation_sets": sets_shown(sets_seen().filter(tenant=None, model=model)),
            "currency": settings.CURRENCY,
            "in_use": remit.endpoints().live().filter(model=model).count(),
        }
        return self.render("console/model.html", context)


class ModelAdd(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "add a model to the catalog"
    form_class = NewModelForm
    title = "Add a model"
    lede = "Its name, numbers and template are lasting. A new version is a new entry."
    submit_label = "Add model"

    def crumbs(self) -> list[dict[str, str]]:
        return [catalog_crumb()]

    def save(self, form: NewModelForm) -> HttpResponse:
        numbers = form.numbers()
        model = catalog.model_add(architecture=numbers, **form.cleaned_data)
        audit(self.request.user, "model.add", model=model.name, published=model.published, **numbers)
        self.say(f"{model.title} is in the catalog.")
        return redirect("console:model", model.name)


class ModelEdit(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "change how a model is offered"
    form_class = ModelForm
    title = "Edit model"
    lede = "Endpoints that were ordered go on as they are."
    submit_label = "Save model"

    def heading(self) -> str:
        return f"Edit {find_model(self.kwargs['name']).title}"

    def crumbs(self) -> list[dict[str, str]]:
        model = find_model(self.kwargs["name"])
        return [catalog_crumb(), {"label": model.title, "url": reverse("console:model", args=[model.name])}]

    def initial(self) -> dict[str, Any]:
        model = find_model(self.kwargs["name"])
        return {name: getattr(model, name) for name in ModelForm.base_fields}

    def save(self, form: ModelForm) -> HttpResponse:
        model = catalog.model_change(model=find_model(self.kwargs["name"]), **form.cleaned_data)
        audit(
            self.request.user, "model.change", model=model.name,
            **{name: form.cleaned_data[name] for name in form.changed_data},
        )  # fmt: skip
        self.say(f"{model.title} is saved.")
        return redirect("console:model", model.name)


def find_model(name: str) -> CatalogModel:
    """Find a model by its name, offered or not.

    Raises:
        NotFound: there is none.
    """
    model = CatalogModel.objects.select_related("derived_from").filter(name=name).first()
    if model is None:
        raise NotFound("There is no such model.")
    return model


def catalog_crumb() -> dict[str, str]:
    """Give the catalog's place in the breadcrumbs."""
    return {"label": "Catalog", "url": reverse("console:catalog")}


def _numbers(model: CatalogModel) -> list[dict[str, Any]]:
    labels = _NUMBERS | {name: label for name, (label, _) in _FURTHER.items()}
    found = [
        {"label": label, "value": f"{model.architecture[name]:,}"}
        for name, label in labels.items()
        if name in model.architecture
    ]
    if model.architecture.get(_TIED):
        found.append({"label": "Embeddings", "value": "one table for input and output"})
    return found


def _weights(model: CatalogModel) -> list[dict[str, Any]]:
    facts = [{"label": "From", "value": model.get_weights_kind_display()}]
    if model.weights_kind == CatalogModel.WeightsKind.BUILT_IN:
        return facts
    quantize = [f"{precision} by a job to {method}" for precision, method in model.weights_quantize.items()]
    return [
        *facts,
        {"label": "Address", "value": model.weights_uri, "code": True},
        {
            "label": "Revision",
            "value": model.weights_revision or "none",
            "code": bool(model.weights_revision),
        },
        {
            "label": "Size",
            "value": f"{model.weights_size_gib:g} GiB" if model.weights_size_gib else "not stated",
        },
        {"label": "Stands in", "value": ", ".join(model.weights_zones) or "not known"},
        {"label": "Quantized", "value": ", ".join(quantize) or "served as it is"},
        {"label": "Credentials", "value": "set" if model.weights_secret else "none"},
    ]


def _prices(model: CatalogModel) -> list[dict[str, Any]]:
    book, now = price_book(settings.CURRENCY), timezone.now()
    rows = []
    for slo_class in SloClass.objects.all():
        amounts = []
        for kind in TOKEN_KINDS:
            try:
                subject = Subject(model=model.name, slo_class=slo_class.name)
                amounts.append(book.amount_of(kind.value, now, subject))
            except MissingPrice:
                amounts.append(None)
        rows.append({"slo_class": slo_class, "amounts": amounts})
    return rows
