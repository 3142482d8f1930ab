"""The rollouts of an endpoint: the list, one with its numbers, and what people decide of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints.rollouts import deciding
from clusters.endpoints.rollouts.selectors import rollout_list
from clusters.models import Endpoint, Rollout
from portal.pages.approvals_shown import told_of
from portal.pages.endpoint import EndpointPage
from portal.pages.rollouts_shown import rollout_shown
from tenants.errors import NotFound
from tenants.roles import Action

MOST = 100


class Rollouts(EndpointPage):
    """Every change of what it runs, newest first."""

    tab = "endpoint-rollouts"

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        rows = [rollout_shown(each, self.tenant.currency) for each in rollout_list(self.endpoint)[:MOST]]
        return self.render("tenant/endpoint/rollouts.html", {"rollouts": rows})


class OneRollout(EndpointPage):
    """One change: its steps, the numbers of both revisions, the policy it keeps to."""

    tab = "endpoint-rollouts"

    def get(self, request: HttpRequest, slug: str, id: str, rollout_id: str) -> HttpResponse:
        shown = rollout_shown(self.rollout(), self.tenant.currency)
        context: dict[str, Any] = {"shown": shown, "breadcrumbs": [*self.crumbs(), {"label": shown["title"]}]}
        return self.render("tenant/endpoint/rollout.html", context)

    def rollout(self) -> Rollout:
        try:
            return deciding.rollout_get(self.endpoint, self.kwargs["rollout_id"])
        except NotFound as error:
            raise Http404 from error

    def crumbs(self) -> list[dict[str, str]]:
        return [
            {"label": "Endpoints", "url": self.url("endpoints")},
            {"label": self.endpoint.name, "url": self.link("endpoint")},
            {"label": "Rollouts", "url": self.link("endpoint-rollouts")},
        ]


class _Decide(OneRollout):
    """A button of a rollout."""

    http_method_names = ["post"]
    action = Action.ORDER
    doing: ClassVar[str]

    def post(self, request: HttpRequest, slug: str, id: str, rollout_id: str) -> HttpResponse:
        rollout = self.rollout()
        done = self.decide(endpoint=self.endpoint, rollout_id=rollout.id, actor=self.actor)
        self.say(f"{self.endpoint.name} {told_of(done, self.doing)}")
        return redirect(self.link("endpoint"))

    decide: ClassVar[Callable[..., Endpoint]]


class Promote(_Decide):
    """Let the new revision serve alone now."""

    doing = "is served by its new revision alone."
    decide = staticmethod(deciding.rollout_promote_now)


class RollBack(_Decide):
    """Go back to what ran before."""

    doing = "goes back to what ran before."
    decide = staticmethod(deciding.rollout_roll_back)


class Dismiss(_Decide):
    """Say no more of a failed update."""

    doing = "no longer shows the failed update."
    decide = staticmethod(deciding.rollout_dismiss)


class Retry(_Decide):
    """Ask for the change again."""

    doing = "is being changed again."

    def decide(self, **wishes: Any) -> Endpoint:  # type: ignore[override]
        return deciding.rollout_retry(asked_by=self.request.user, **wishes)
