"""Evaluations of one endpoint: its sets, asking them now, what came of it and who accepted that."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints.evaluations.prompts import EXAMPLE
from clusters.endpoints.evaluations.runs import run_accept, run_list, runs_begin
from clusters.endpoints.evaluations.sets import set_change, set_create, set_remove, sets_for
from clusters.models import EvaluationRun, EvaluationSet
from portal.pages.base import put_on_form
from portal.pages.endpoint import EndpointPage
from portal.pages.evaluation_form import (
    FOR_ENDPOINT,
    EvaluationSetForm,
    NewEvaluationSetForm,
    initial_of,
)
from portal.pages.evaluations_shown import demands, results_shown, run_shown, sets_shown
from tenants.errors import BerthError
from tenants.roles import Action

RUNS_SHOWN = 20


class Evaluations(EndpointPage):
    """The sets that hold for it and the newest runs; POST asks the revision that is wanted now."""

    tab = "endpoint-evaluations"
    write_action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint
        runs = [run_shown(run) for run in run_list(endpoint)[:RUNS_SHOWN]]
        context = {
            "sets": sets_shown(sets_for(endpoint, endpoint.model).select_related("model", "endpoint")),
            "runs": runs,
            "refresh": any(each["active"] for each in runs),
            "runnable": bool(endpoint.current_revisions) and endpoint.wanted == "running",
        }
        return self.render("tenant/endpoint/evaluations.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        runs = runs_begin(endpoint=self.endpoint, asked_as=self.actor)
        told = (
            "is asked its evaluation set" if len(runs) == 1 else f"is asked its {len(runs)} evaluation sets"
        )
        self.say(f"Revision {runs[0].revision.number} {told}.")
        return redirect(self.link("endpoint-evaluations"))


class Evaluation(EndpointPage):
    """One run: score against threshold, each check, who accepted it; POST accepts it."""

    tab = "endpoint-evaluations"
    write_action = Action.MANAGE_POLICY

    def get(self, request: HttpRequest, slug: str, id: str, run: str) -> HttpResponse:
        return self._show(self._run())

    def post(self, request: HttpRequest, slug: str, id: str, run: str) -> HttpResponse:
        found, note = self._run(), request.POST.get("note", "")
        if not note.strip():
            return self._show(found, error="Say why it is accepted.", status=422)
        run_accept(run=found, note=note[:300], actor=self.actor, user=request.user)
        self.say("The result is accepted, with your reason.")
        return redirect(self.url("endpoint-evaluation", self.endpoint.id, found.id))

    def _show(self, run: EvaluationRun, *, error: str = "", status: int = 200) -> HttpResponse:
        shown = run_shown(run)
        facts = [
            {"label": "Revision", "value": run.revision.number},
            {"label": "Compared with", "value": f"revision {run.before.number}" if run.before else "none"},
            {"label": "Set", "value": str(run.version)},
            {"label": "Asked by", "value": run.asked_as or "a rollout"},
            {"label": "Demanded", "value": demands(run)},
            {"label": "Tokens", "value": f"{run.input_tokens:,} in, {run.output_tokens:,} out"},
        ]
        context = {
            **shown,
            "facts": facts,
            "results": results_shown(run),
            "compared": any(result["before"] for result in run.results),
            "error": error,
            "refresh": shown["active"],
        }
        return self.render("tenant/endpoint/evaluation.html", context, status=status)

    def _run(self) -> EvaluationRun:
        found = run_list(self.endpoint).filter(id=self.kwargs["run"]).first()
        if found is None:
            raise Http404
        return found


class EvaluationSetPage(EndpointPage):
    """A form of a set."""

    action = Action.ORDER

    def show(self, form: EvaluationSetForm, *, status: int = 200, **context: Any) -> HttpResponse:
        """Render the form."""
        values = {
            "form": form,
            "example": EXAMPLE,
            "cancel_url": self.link("endpoint-evaluations"),
            **context,
        }
        return self.render("tenant/endpoint/evaluation_set.html", values, status=status)


class NewEvaluationSet(EvaluationSetPage):
    """Make a set for the endpoint, or for all of the tenant's with its model."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self.show(self._form())

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = self._form(request.POST)
        if form.is_valid():
            chosen = dict(form.cleaned_data)
            alone = chosen.pop("scope") == FOR_ENDPOINT
            place = {"endpoint": self.endpoint} if alone else {"model": self.endpoint.model}
            try:
                made = set_create(**chosen, **place, tenant_id=self.tenant.id, actor=self.actor)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(
                    f"The set {made.name} is made. It is asked at the next change that wants an evaluation."
                )
                return redirect(self.link("endpoint-evaluations"))
        return self.show(form, status=422)

    def _form(self, *args: Any) -> NewEvaluationSetForm:
        return NewEvaluationSetForm(*args, endpoint=self.endpoint.name, model=self.endpoint.model.title)


class EditEvaluationSet(EvaluationSetPage):
    """Look at a set, and change it into a new version where it is the tenant's own."""

    action = Action.VIEW
    write_action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str, set: str) -> HttpResponse:
        found = self.found()
        return self.show(EvaluationSetForm(initial=initial_of(found)), **self.about(found))

    def post(self, request: HttpRequest, slug: str, id: str, set: str) -> HttpResponse:
        found = self.found(own=True)
        form = EvaluationSetForm(request.POST)
        if form.is_valid():
            try:
                changed = set_change(evaluation_set=found, actor=self.actor, **form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The set {changed.name} is saved as version {changed.version}.")
                return redirect(self.link("endpoint-evaluations"))
        return self.show(form, status=422, **self.about(found))

    def about(self, found: EvaluationSet) -> dict[str, Any]:
        """Give what the template says of the set."""
        return {"found": found, "own": found.tenant_id is not None and self.may(Action.ORDER)}

    def found(self, *, own: bool = False) -> EvaluationSet:
        """Find the set among those that hold for the endpoint."""
        rows = sets_for(self.endpoint, self.endpoint.model)
        rows = rows.filter(tenant=self.tenant.id) if own else rows
        found = rows.filter(id=self.kwargs["set"]).first()
        if found is None:
            raise Http404
        return found


class RemoveEvaluationSet(EditEvaluationSet):
    """Take a set away."""

    http_method_names = ["post"]
    action = Action.ORDER

    def post(self, request: HttpRequest, slug: str, id: str, set: str) -> HttpResponse:
        found = self.found(own=True)
        set_remove(evaluation_set=found)
        self.say(f"The set {found.name} is removed. What it came to is kept.")
        return redirect(self.link("endpoint-evaluations"))
