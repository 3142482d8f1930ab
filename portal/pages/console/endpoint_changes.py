"""What operators do to an endpoint of a tenant: move it, look into a revision, restore one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from clusters.endpoints import restoring, services
from clusters.endpoints.limits import endpoint_share
from clusters.inventory import remit
from clusters.models import Cluster, Endpoint
from portal.pages.approvals_shown import told_of
from portal.pages.base import ConsolePage
from portal.pages.console.endpoints import endpoints_crumb, find_endpoint
from portal.pages.console.forms import ConsoleForm, FormPage
from portal.pages.revisions_shown import configuration_context, find_revision, restore_consequences
from tenants import scope
from tenants.audit import audit
from tenants.errors import BerthError, Conflict, Invalid
from tenants.roles import PlatformAction


class MoveForm(ConsoleForm):
    cluster = forms.ModelChoiceField(
        Cluster.objects.none(),
        required=False,
        to_field_name="name",
        empty_label="Let Berth choose, and leave it where it is",
        help_text="Residency, certifications and memory are checked as for an order.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["cluster"].queryset = remit.clusters()
        if remit.is_narrowed():
            self.fields["cluster"].required, self.fields["cluster"].empty_label = True, "Choose a cluster"


class EndpointMove(FormPage):
    action = PlatformAction.MANAGE_ENDPOINTS
    reason = "move an endpoint to another cluster"
    form_class = MoveForm
    title = "Move"
    lede = (
        "It is placed there beside what runs, which serves until the new engines do. Meanwhile both hold GPUs "
        "and both are charged; the tenant's quota counts once."
    )
    submit_label = "Move endpoint"

    def heading(self) -> str:
        return f"Move {find_endpoint(self.kwargs['id']).name}"

    def crumbs(self) -> list[dict[str, str]]:
        return endpoint_crumbs(find_endpoint(self.kwargs["id"]))

    def initial(self) -> dict[str, Any]:
        return {"cluster": find_endpoint(self.kwargs["id"]).cluster}

    def more_context(self) -> dict[str, Any]:
        endpoint = find_endpoint(self.kwargs["id"])
        revision = next(iter(endpoint.current_revisions), None)
        if revision is None:
            return {}
        return {
            "alert": {"tone": "info", "text": f"It runs on {revision.cluster.name} now, in {revision.pool}."}
        }

    def save(self, form: MoveForm) -> HttpResponse:
        endpoint, cluster = find_endpoint(self.kwargs["id"]), form.cleaned_data["cluster"]
        remit.check_target(cluster)
        try:
            with scope.tenant(endpoint.tenant_id):
                done = services.endpoint_move(
                    endpoint=endpoint, cluster=cluster, actor=self.actor, asked_by=self.request.user
                )
        except Conflict as error:
            refused = [
                f"{', '.join(each['pools'])}: {each['message']}" for each in error.extra.get("refusals", [])
            ]
            raise Invalid(error.message, errors={"cluster": [error.message, *refused]}) from error
        where = cluster.name if cluster else "wherever Berth chooses"
        audit(self.request.user, "endpoint.move", endpoint=str(endpoint.id), cluster=cluster and cluster.name)
        doing = f"runs on {where} as soon as its engines are ready there."
        self.say(f"{endpoint.name} {told_of(done, doing)}")
        return redirect("console:endpoint", endpoint.id)


class EndpointShare(ConsolePage):
    """Publishes an endpoint to every tenant, or takes it back, once confirmed."""

    action = PlatformAction.MANAGE_OFFER
    reason = "publish an endpoint to every tenant, or take it back"

    def get(self, request: HttpRequest, id: Any) -> HttpResponse:
        return self._ask(find_endpoint(id))

    def post(self, request: HttpRequest, id: Any) -> HttpResponse:
        endpoint = find_endpoint(id)
        shared = request.POST.get("shared") == "yes"
        try:
            with scope.tenant(endpoint.tenant_id):
                endpoint_share(endpoint=endpoint, shared=shared, actor=self.actor)
        except BerthError as error:
            return self._ask(endpoint, error=error)
        audit(request.user, "endpoint.share", endpoint=str(endpoint.id), shared=shared)
        told = "is published to every tenant" if shared else "is no longer published to other tenants"
        self.say(f"{endpoint.name} {told}; gateways follow within a second.")
        return redirect("console:endpoint", endpoint.id)

    def _ask(self, endpoint: Endpoint, *, error: BerthError | None = None) -> HttpResponse:
        context = {
            "endpoint": endpoint,
            "error": error,
            "cancel_url": reverse("console:endpoint", args=[endpoint.id]),
            "breadcrumbs": [*endpoint_crumbs(endpoint), {"label": "Share"}],
        }
        return self.render("console/endpoint_share.html", context, status=error.status if error else 200)


class EndpointRevision(ConsolePage):
    """What the cluster was told for a revision, and what that changed."""

    action = PlatformAction.VIEW_ENDPOINTS
    reason = "show the configuration of a revision"

    def get(self, request: HttpRequest, id: Any, number: int) -> HttpResponse:
        endpoint = find_endpoint(id)
        context = configuration_context(
            endpoint,
            find_revision(endpoint, number, among=remit.revisions()),
            request.GET.get("against", ""),
            among=remit.revisions(),
        )
        context |= {
            "endpoint": endpoint,
            "breadcrumbs": [*endpoint_crumbs(endpoint), {"label": f"Revision {number}"}],
        }
        return self.render("console/revision.html", context)


class EndpointRestore(ConsolePage):
    """Runs an earlier revision's configuration again, once confirmed."""

    action = PlatformAction.MANAGE_ENDPOINTS
    reason = "restore a revision of an endpoint"

    def get(self, request: HttpRequest, id: Any, number: int) -> HttpResponse:
        return self._ask(find_endpoint(id), number)

    def post(self, request: HttpRequest, id: Any, number: int) -> HttpResponse:
        endpoint = find_endpoint(id)
        find_revision(endpoint, number, among=remit.revisions())
        try:
            with scope.tenant(endpoint.tenant_id):
                done = restoring.endpoint_restore(
                    endpoint=endpoint,
                    number=number,
                    actor=self.actor,
                    asked_by=request.user,
                    in_place="in_place" in request.POST,
                )
        except BerthError as error:
            return self._ask(endpoint, number, error=error)
        audit(request.user, "endpoint.restore", endpoint=str(endpoint.id), revision=number)
        doing = f"is being brought back to the configuration of revision {number}."
        self.say(f"{endpoint.name} {told_of(done, doing)}")
        return redirect("console:endpoint", endpoint.id)

    def _ask(self, endpoint: Endpoint, number: int, *, error: BerthError | None = None) -> HttpResponse:
        revision = find_revision(endpoint, number, among=remit.revisions())
        context = {
            "endpoint": endpoint,
            "revision": revision,
            "consequences": restore_consequences(endpoint, revision, endpoint.tenant.currency),
            "error": error,
            "cancel_url": reverse("console:endpoint", args=[endpoint.id]),
            "breadcrumbs": [*endpoint_crumbs(endpoint), {"label": f"Restore revision {number}"}],
        }
        return self.render("console/restore.html", context, status=error.status if error else 200)


def endpoint_crumbs(endpoint: Endpoint) -> list[dict[str, str]]:
    """Give the pages above one about an endpoint."""
    return [
        endpoints_crumb(),
        {"label": endpoint.name, "url": reverse("console:endpoint", args=[endpoint.id])},
    ]
