"""A tenant's own credentials for fetching a model's weights: set, replace, remove. Never shown."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.inventory import catalog
from clusters.models import CatalogModel, ModelSecret
from portal.pages.base import TenantPage, put_on_form
from portal.pages.secrets import VariablesForm
from tenants.errors import BerthError
from tenants.roles import Action


class _OfModel(TenantPage):
    action = Action.MANAGE_SECRETS

    @property
    def model(self) -> CatalogModel:
        model = CatalogModel.objects.filter(name=self.kwargs["name"], published=True).first()
        if model is None or model.weights_kind == CatalogModel.WeightsKind.BUILT_IN:
            raise Http404
        return model

    def crumbs(self, model: CatalogModel, here: str) -> list[dict[str, str]]:
        return [
            {"label": "Catalog", "url": self.url("catalog")},
            {"label": model.title, "url": self.url("model", model.name)},
            {"label": here},
        ]


class ModelSecretSet(_OfModel):
    """Set or replace them."""

    def get(self, request: HttpRequest, slug: str, name: str) -> HttpResponse:
        return self._show(VariablesForm())

    def post(self, request: HttpRequest, slug: str, name: str) -> HttpResponse:
        form = VariablesForm(request.POST)
        if form.is_valid():
            model = self.model
            try:
                catalog.tenant_model_secret_set(model=model, values=form.cleaned_data["values"])
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"Your credentials for the weights of {model.title} are kept.")
                return redirect(self.url("model", model.name))
        form.forget(as_error=True)
        return self._show(form, status=422)

    def _show(self, form: VariablesForm, *, status: int = 200) -> HttpResponse:
        model = self.model
        context: dict[str, Any] = {
            "form": form,
            "model": model,
            "replaces": ModelSecret.objects.filter(model=model).exists(),
            "breadcrumbs": self.crumbs(model, "Credentials"),
            "cancel_url": self.url("model", model.name),
        }
        return self.render("tenant/catalog/secret.html", context, status=status)


class ModelSecretRemove(_OfModel):
    """Remove them, once confirmed."""

    def get(self, request: HttpRequest, slug: str, name: str) -> HttpResponse:
        model = self.model
        context = {
            "model": model,
            "consequences": [
                "Engines that run go on.",
                "New engines fetch the weights with the platform's credentials, if there are any.",
            ],
            "breadcrumbs": self.crumbs(model, "Remove credentials"),
            "cancel_url": self.url("model", model.name),
        }
        return self.render("tenant/catalog/secret_remove.html", context)

    def post(self, request: HttpRequest, slug: str, name: str) -> HttpResponse:
        model = self.model
        catalog.tenant_model_secret_set(model=model, values={})
        self.say(f"Your credentials for the weights of {model.title} are removed.")
        return redirect(self.url("model", model.name))
