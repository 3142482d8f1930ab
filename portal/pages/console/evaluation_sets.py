"""The platform's evaluation sets of a model of the catalog."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints.evaluations.prompts import EXAMPLE
from clusters.endpoints.evaluations.sets import set_change, set_create, set_remove, sets_seen
from clusters.models import EvaluationSet
from portal.pages.base import ConsolePage
from portal.pages.console.catalog import find_model
from portal.pages.console.forms import FormPage
from portal.pages.console.model_weights import model_crumbs
from portal.pages.evaluation_form import EvaluationSetForm, initial_of
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction


class EvaluationSetAdd(FormPage):
    action = PlatformAction.MANAGE_OFFER
    reason = "make an evaluation set of a model"
    form_class = EvaluationSetForm
    template = "console/evaluation_set.html"
    title = "New evaluation set"
    lede = "Every tenant's endpoints with the model are asked it from the next change on. Its tokens are theirs to pay."
    submit_label = "Make the set"

    def crumbs(self) -> list[dict[str, str]]:
        return model_crumbs(find_model(self.kwargs["name"]))

    def more_context(self) -> dict[str, Any]:
        return {"example": EXAMPLE}

    def save(self, form: EvaluationSetForm) -> HttpResponse:
        model = find_model(self.kwargs["name"])
        made = set_create(**form.cleaned_data, model=model, tenant_id=None, actor=self.actor)
        audit(self.request.user, "evaluation-set.add", name=made.name, model=model.name)
        self.say(f"The set {made.name} is made.")
        return redirect("console:model", model.name)


class EvaluationSetEdit(EvaluationSetAdd):
    reason = "change an evaluation set of a model"
    lede = "Runs keep the version that they asked."
    submit_label = "Save as a new version"

    def heading(self) -> str:
        found = find_set(self.kwargs)
        return f"Evaluation set {found.name}, version {found.version}"

    def initial(self) -> dict[str, Any]:
        return initial_of(find_set(self.kwargs))

    def more_context(self) -> dict[str, Any]:
        return {**super().more_context(), "found": find_set(self.kwargs), "model_name": self.kwargs["name"]}

    def save(self, form: EvaluationSetForm) -> HttpResponse:
        changed = set_change(evaluation_set=find_set(self.kwargs), actor=self.actor, **form.cleaned_data)
        audit(self.request.user, "evaluation-set.change", name=changed.name, version=changed.version)
        self.say(f"The set {changed.name} is saved as version {changed.version}.")
        return redirect("console:model", self.kwargs["name"])


class EvaluationSetRemove(ConsolePage):
    http_method_names = ["post"]
    action = PlatformAction.MANAGE_OFFER
    reason = "remove an evaluation set of a model"

    def post(self, request: HttpRequest, name: str, set: str) -> HttpResponse:
        found = find_set(self.kwargs)
        set_remove(evaluation_set=found)
        audit(request.user, "evaluation-set.remove", name=found.name)
        self.say(f"The set {found.name} is removed. What it came to is kept.")
        return redirect("console:model", name)


def find_set(where: dict[str, Any]) -> EvaluationSet:
    """Find a set of the platform's by the model's name and its id.

    Raises:
        NotFound: there is none.
    """
    rows = sets_seen().filter(tenant=None, model=find_model(where["name"]))
    found = rows.filter(id=where["set"]).first()
    if found is None:
        raise NotFound("There is no such evaluation set.")
    return found
