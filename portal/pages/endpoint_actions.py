"""What can be done to an endpoint from its page: scale, pause, resume, delete."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints import services
from clusters.endpoints.autoscaling.setting import scaling_of
from clusters.models import Endpoint, Wanted
from portal.pages.approvals_shown import told_of
from portal.pages.base import put_on_form
from portal.pages.endpoint import EndpointPage
from portal.pages.endpoints import revision_price
from portal.templatetags.berth import money
from tenants.errors import BerthError
from tenants.roles import Action


class ScaleForm(forms.Form):
    replicas = forms.IntegerField(min_value=1, max_value=services.MOST_REPLICAS)


class Scale(EndpointPage):
    """Change the number of replicas."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show(ScaleForm(initial={"replicas": self._now()}))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = ScaleForm(request.POST)
        if form.is_valid():
            wanted = form.cleaned_data["replicas"]
            try:
                done = services.endpoint_scale(
                    endpoint=self.endpoint, replicas=wanted, actor=self.actor, asked_by=request.user
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                doing = f"is being brought to {wanted} replica{'' if wanted == 1 else 's'}."
                self.say(f"{self.endpoint.name} {told_of(done, doing)}")
                return redirect(self.link("endpoint"))
        return self._show(form, status=422)

    def _now(self) -> int | None:
        revision = next(iter(self.endpoint.current_revisions), None)
        return revision.replicas if revision else self.endpoint.replicas

    def _show(self, form: ScaleForm, *, status: int = 200) -> HttpResponse:
        revision = next(iter(self.endpoint.current_revisions), None)
        context = {
            "form": form,
            "now": self._now(),
            "follows": scaling_of(self.endpoint).enabled,
            "each": revision_price(revision) / revision.replicas if revision and revision.replicas else None,
        }
        return self.render("tenant/endpoint/scale.html", context, status=status)


class Pause(EndpointPage):
    """Stop its engines and release its GPUs."""

    http_method_names = ["post"]
    action = Action.ORDER

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        services.endpoint_pause(endpoint=self.endpoint, actor=self.actor)
        self.say(f"{self.endpoint.name} is being paused; it costs nothing once its GPUs are released.")
        return redirect(self.link("endpoint"))


class Resume(EndpointPage):
    """Serve again, planned afresh."""

    http_method_names = ["post"]
    action = Action.ORDER

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        done = services.endpoint_resume(endpoint=self.endpoint, actor=self.actor, asked_by=request.user)
        self.say(f"{self.endpoint.name} {told_of(done, 'is being resumed.')}")
        return redirect(self.link("endpoint"))


class Delete(EndpointPage):
    """Delete it, once its name was typed."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show()

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        typed = request.POST.get("confirm", "")
        if typed.strip() != self.endpoint.name:
            return self._show(typed=typed, error="This is not the name of the endpoint.", status=422)
        services.endpoint_delete(endpoint=self.endpoint, actor=self.actor)
        self.say(f"{self.endpoint.name} is being deleted.")
        return redirect(self.url("endpoints"))

    def _show(self, *, typed: str = "", error: str = "", status: int = 200) -> HttpResponse:
        context: dict[str, Any] = {
            "typed": typed,
            "error": error,
            "consequences": _consequences(self.endpoint, self.tenant.currency),
            "cancel_url": self.link("endpoint"),
        }
        return self.render("tenant/endpoint/delete.html", context, status=status)


def _consequences(endpoint: Endpoint, currency: str) -> list[str]:
    lines = [
        "Requests to it are refused at once; those under way are cut off.",
        "Its usage and cost stay on your statements.",
    ]
    revision = next(iter(endpoint.current_revisions), None)
    if endpoint.wanted == Wanted.RUNNING and revision:
        lines.insert(
            1,
            f"Its {revision.replicas * revision.gpus_per_replica} GPUs are released, "
            f"which saves {money(revision_price(revision), currency)} per hour.",
        )
    return lines
