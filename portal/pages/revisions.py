"""The revisions of an endpoint: what each was, what its cluster was told, running an earlier one again."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from clusters.endpoints import restoring
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.selectors import endpoint_revisions
from portal.pages.approvals_shown import told_of
from portal.pages.endpoint import EndpointPage
from portal.pages.quotes import kept_plan, show_kept
from portal.pages.refusals import refusal_rows
from portal.pages.revisions_shown import (
    configuration_context,
    find_revision,
    may_be_restored,
    restore_consequences,
    revision_state,
)
from tenants.errors import BerthError
from tenants.roles import Action


class Revisions(EndpointPage):
    """What it was: every revision with the whole plan that it came of."""

    tab = "endpoint-revisions"

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        revisions = [
            {
                "revision": revision,
                "plan": show_kept(
                    revision, currency=self.tenant.currency, terms=OrderTerms.of(self.endpoint)
                ),
                "state": revision_state(revision),
                "restorable": may_be_restored(self.endpoint, revision),
            }
            for revision in endpoint_revisions(self.endpoint)
        ]
        return self.render("tenant/endpoint/revisions.html", {"revisions": revisions})


class RevisionConfiguration(EndpointPage):
    """What the cluster was told for a revision, and what that changed."""

    tab = "endpoint-revisions"

    def get(self, request: HttpRequest, slug: str, id: str, number: int) -> HttpResponse:
        revision = find_revision(self.endpoint, number)
        context = configuration_context(self.endpoint, revision, request.GET.get("against", ""))
        plan = kept_plan(revision)
        context["candidates"] = refusal_rows(plan.refusals) if plan else []
        context["breadcrumbs"] = [*self.crumbs(), {"label": f"Revision {number}"}]
        return self.render("tenant/endpoint/revision.html", context)

    def crumbs(self) -> list[dict[str, str]]:
        return [
            {"label": "Endpoints", "url": self.url("endpoints")},
            {"label": self.endpoint.name, "url": self.link("endpoint")},
            {"label": "Revisions", "url": self.link("endpoint-revisions")},
        ]


class Restore(RevisionConfiguration):
    """Run an earlier revision's configuration again, once confirmed."""

    action = Action.ORDER

    def get(self, request: HttpRequest, slug: str, id: str, number: int) -> HttpResponse:
        return self._ask(number)

    def post(self, request: HttpRequest, slug: str, id: str, number: int) -> HttpResponse:
        find_revision(self.endpoint, number)
        try:
            done = restoring.endpoint_restore(
                endpoint=self.endpoint,
                number=number,
                actor=self.actor,
                asked_by=request.user,
                in_place="in_place" in request.POST,
            )
        except BerthError as error:
            return self._ask(number, error=error)
        doing = f"is being brought back to the configuration of revision {number}."
        self.say(f"{self.endpoint.name} {told_of(done, doing)}")
        return redirect(self.link("endpoint"))

    def _ask(self, number: int, *, error: BerthError | None = None) -> HttpResponse:
        revision = find_revision(self.endpoint, number)
        context: dict[str, Any] = {
            "revision": revision,
            "consequences": restore_consequences(self.endpoint, revision, self.tenant.currency),
            "error": error,
            "cancel_url": self.link("endpoint-revisions"),
            "breadcrumbs": [*self.crumbs(), {"label": f"Restore revision {number}"}],
        }
        return self.render("tenant/endpoint/restore.html", context, status=error.status if error else 200)
