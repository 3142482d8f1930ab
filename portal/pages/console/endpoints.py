"""Endpoints of all tenants: a filtered list, one in all its parts, the log of an engine."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.paginator import Page as Leaf
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from clusters.endpoints import selectors
from clusters.endpoints.states import NEXT_ACTION
from clusters.inventory import remit
from clusters.models import Cluster, Endpoint, EndpointState, Revision, SloClass, Wanted
from portal.pages.base import ConsolePage
from portal.pages.capacity import endpoint_capacity
from portal.pages.orders_shown import limit_facts, load_facts, overload_facts
from portal.pages.quotes import running_plan
from portal.pages.revisions_shown import may_be_restored, revision_state
from tenants.api.caller import Operator
from tenants.errors import BerthError, NotFound
from tenants.models import Tenant
from tenants.roles import PlatformAction

PAGE_SIZE = 50
MOST_EVENTS = 50
LOG_LINES = 300

TONES = {
    EndpointState.FAILED: "danger",
    EndpointState.UNREACHABLE: "danger",
    EndpointState.UPDATE_FAILED: "warn",
    EndpointState.DEGRADED: "warn",
    EndpointState.WAITING_FOR_APPROVAL: "warn",
    EndpointState.WAITING_FOR_CAPACITY: "warn",
    EndpointState.READY: "ok",
}


class EndpointFilters(forms.Form):
    tenant = forms.ModelChoiceField(
        Tenant.objects.none(), to_field_name="slug", required=False, empty_label="All tenants"
    )
    state = forms.ChoiceField(choices=[("", "All but deleted"), *EndpointState.choices], required=False)
    cluster = forms.ModelChoiceField(
        Cluster.objects.none(), to_field_name="name", required=False, empty_label="All clusters"
    )
    slo_class = forms.ModelChoiceField(
        SloClass.objects.all(),
        to_field_name="name",
        required=False,
        empty_label="All classes",
        label="SLO class",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tenant"].queryset = remit.tenants()
        self.fields["cluster"].queryset = remit.clusters()


class Endpoints(ConsolePage):
    action = PlatformAction.VIEW_ENDPOINTS
    reason = "list endpoints of all tenants"

    def get(self, request: HttpRequest) -> HttpResponse:
        filters = EndpointFilters(request.GET)
        wanted = filters.cleaned_data if filters.is_valid() else {}
        rows = remit.endpoints(selectors.endpoint_list()).order_by("-id")
        rows = rows.filter(state=wanted["state"]) if wanted.get("state") else rows.live()
        if tenant := wanted.get("tenant"):
            rows = rows.filter(tenant=tenant)
        if slo_class := wanted.get("slo_class"):
            rows = rows.filter(slo_class=slo_class)
        if cluster := wanted.get("cluster"):
            placed = Revision.objects.filter(cluster=cluster, cleaned_at=None).values("endpoint")
            rows = rows.filter(id__in=placed)
        page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
        context = {
            "filters": filters,
            "filtered": any(wanted.values()),
            "endpoints": page,
            "page_note": f"{page.paginator.count} endpoints, page {page.number} of {page.paginator.num_pages}",
            "newer_url": _leaf(request, page, -1),
            "older_url": _leaf(request, page, +1),
        }
        return self.render("console/endpoints.html", context, status=200 if filters.is_valid() else 422)


class EndpointDetail(ConsolePage):
    action = PlatformAction.VIEW_ENDPOINTS
    reason = "show an endpoint to an operator"

    def get(self, request: HttpRequest, id: Any) -> HttpResponse:
        endpoint = find_endpoint(id)
        revision = next(iter(endpoint.current_revisions), None)
        context = {
            "breadcrumbs": [endpoints_crumb(), {"label": endpoint.name}],
            "endpoint": endpoint,
            "next_action": NEXT_ACTION.get(endpoint.state, ""),
            "tone": TONES.get(EndpointState(endpoint.state), "info"),
            "facts": _facts(endpoint, self.operator),
            **overload_facts(endpoint),
            "capacity": endpoint_capacity(endpoint),
            "revision": revision,
            "deployment": _deployment(revision) if revision else [],
            **(running_plan(revision, endpoint) if revision else {}),
            "revisions": [
                {
                    "revision": each,
                    "state": revision_state(each),
                    "restorable": may_be_restored(endpoint, each),
                }
                for each in selectors.endpoint_revisions(endpoint)
                if remit.holds(each.cluster_id)
            ],
            "movable": endpoint.wanted != Wanted.DELETED,
            "events": [
                {
                    "title": event.message,
                    "at": event.created_at,
                    "text": f"by {event.actor}" if event.actor else "",
                }
                for event in selectors.endpoint_history(endpoint)[:MOST_EVENTS]
            ],
        }
        part = "console/endpoint_now.html" if request.htmx else "console/endpoint.html"
        return self.render(part, context)


class EndpointLog(ConsolePage):
    action = PlatformAction.VIEW_ENDPOINTS
    reason = "show an engine's log to an operator"

    def get(self, request: HttpRequest, id: Any, replica: str) -> HttpResponse:
        endpoint = find_endpoint(id)
        if not remit.revisions().filter(endpoint=endpoint, observed__replica_id=replica).exists():
            raise NotFound(f"There is no replica {replica}.")
        url = reverse("console:endpoint", args=[endpoint.id])
        context: dict[str, Any] = {
            "breadcrumbs": [
                endpoints_crumb(),
                {"label": endpoint.name, "url": url},
                {"label": f"Log of {replica}"},
            ],
            "endpoint": endpoint,
            "replica": replica,
            "endpoint_url": url,
            "lines": LOG_LINES,
        }
        try:
            context["log"] = selectors.endpoint_logs(endpoint, replica_id=replica, lines=LOG_LINES).text
        except NotFound:
            raise
        except BerthError as error:
            context["problem"] = error
        return self.render("console/endpoint_log.html", context)


def find_endpoint(id: Any) -> Endpoint:
    """Find an endpoint of any tenant.

    Raises:
        NotFound: there is none.
    """
    endpoint = remit.endpoints(selectors.endpoint_detail()).filter(id=id).first()
    if endpoint is None:
        raise NotFound("There is no such endpoint.")
    return endpoint


def endpoints_crumb() -> dict[str, str]:
    """Give the list's place in the breadcrumbs."""
    return {"label": "Endpoints", "url": reverse("console:endpoints")}


def _facts(endpoint: Endpoint, operator: Operator) -> list[dict[str, Any]]:
    replicas = endpoint.replicas or "as the load needs"
    return [
        {
            "label": "Tenant",
            "value": endpoint.tenant.name,
            "url": reverse("console:tenant", args=[endpoint.tenant.slug])
            if operator.may(PlatformAction.VIEW_TENANTS)
            else "",
        },
        {"label": "Project", "value": endpoint.project.name},
        {
            "label": "Model",
            "value": endpoint.model.title,
            "url": reverse("console:model", args=[endpoint.model.name]),
        },
        {"label": "SLO class", "value": endpoint.slo_class.title},
        {"label": "Residency", "value": endpoint.residency, "code": True},
        {"label": "Certifications", "value": ", ".join(endpoint.certifications) or "none asked for"},
        {"label": "Cluster", "value": endpoint.cluster.name if endpoint.cluster else "Berth chooses"},
        *load_facts(endpoint),
        *limit_facts(endpoint),
        {"label": "Replicas", "value": replicas},
        {"label": "Wanted", "value": endpoint.get_wanted_display()},
        {"label": "Generation", "value": f"{endpoint.generation}, acted on {endpoint.observed_generation}"},
    ]


def _deployment(revision: Revision) -> list[dict[str, Any]]:
    return [
        {
            "label": "Cluster",
            "value": f"{revision.pool} ({revision.cluster.region.code})",
            "url": reverse("console:cluster", args=[revision.cluster.name])
            if remit.holds(revision.cluster_id)
            else "",
        },
        {
            "label": "GPUs",
            "value": f"{revision.replicas} x {revision.gpus_per_replica} {revision.gpu_type}",
        },
        {
            "label": "Shape",
            "value": f"{revision.precision}, tensor {revision.tensor_parallel}, "
            f"pipeline {revision.pipeline_parallel}, batches of {revision.max_batch_size}",
        },
        {"label": "Runtime", "value": revision.runtime, "code": True},
        {"label": "Deployment", "value": revision.deployment, "code": True},
    ]


def _leaf(request: HttpRequest, page: Leaf, step: int) -> str:
    number = page.number + step
    if not 1 <= number <= page.paginator.num_pages:
        return ""
    kept = {name: value for name, value in request.GET.items() if name != "page" and value}
    return f"?{urlencode({**kept, 'page': number})}"
