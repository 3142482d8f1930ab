"""One endpoint: how it stands, how to call it, what it holds, what it was."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse

from clusters.endpoints.selectors import endpoint_detail, endpoint_history, endpoint_urls
from clusters.endpoints.states import NEXT_ACTION
from clusters.models import Condition, Endpoint, Wanted
from portal.pages.approvals_shown import endpoint_waits
from portal.pages.base import Live, TenantPage
from portal.pages.capacity import endpoint_capacity
from portal.pages.endpoints import every_s, revision_price
from portal.pages.load_shown import load_alert
from portal.pages.orders_shown import limit_facts, load_facts, overload_facts
from portal.pages.quotes import running_plan
from portal.pages.rollouts_shown import rollout_card
from portal.pages.signals_shown import now_shown
from portal.templatetags.berth import residency
from tenants.roles import Action

EVENTS_SHOWN: Final = 30

#: How a line of the history is marked; lines of other kinds are plain.
_TONES: Final = {
    "ready": "ok", "placed": "info", "ordered": "info", "resumed": "info", "scaled": "info",
    "failed": "danger", "degraded": "warn", "unreachable": "warn", "waiting-for-capacity": "warn",
    "waiting-for-approval": "warn", "replaced": "ok", "rolled-back": "danger", "canary": "info", "rollout": "info",
}  # fmt: skip

CURL = """\
curl {base_url}/chat/completions \\
  -H "Authorization: Bearer $BERTH_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{name}", "stream": true,
       "messages": [{{"role": "user", "content": "Hello"}}]}}'"""

OPENAI = """\
import os

from openai import OpenAI

client = OpenAI(
    base_url="{base_url}",
    api_key=os.environ["BERTH_KEY"],
)
answer = client.chat.completions.create(
    model="{name}",
    messages=[{{"role": "user", "content": "Hello"}}],
    stream=True,
)
for chunk in answer:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="")"""


class EndpointPage(TenantPage):
    """A screen of one endpoint; ``self.endpoint`` is set, with what ``endpoint_detail`` reads of it."""

    tab: ClassVar[str] = ""

    endpoint: Endpoint

    def admit(self) -> None:
        super().admit()
        found = endpoint_detail().filter(id=self.kwargs["id"]).first()
        if found is None:
            raise Http404
        self.endpoint = found

    def link(self, name: str, **query: Any) -> str:
        """Give the path of another screen of this endpoint."""
        return self.url(name, self.endpoint.id, **query)

    @property
    def base_url(self) -> str:
        """Give what OpenAI clients are told: a gateway that the endpoint's residency allows."""
        found = endpoint_urls(self.endpoint)
        return found[0].base_url if found else f"{settings.GATEWAY_PUBLIC_URL.rstrip('/')}/v1"

    def extra_context(self) -> dict[str, Any]:
        context = super().extra_context()
        if not hasattr(self, "endpoint"):
            return context
        tabs = [
            ("endpoint", "Overview", True),
            ("endpoint-playground", "Playground", True),
            ("endpoint-logs", "Logs", True),
            ("endpoint-cost", "Cost", self.may(Action.VIEW_COST)),
            ("endpoint-load", "Load", True),
            ("endpoint-replicas", "Replicas", True),
            ("endpoint-what-if", "What if", self.may(Action.VIEW_COST)),
            ("endpoint-rollouts", "Rollouts", True),
            ("endpoint-revisions", "Revisions", True),
            ("endpoint-evaluations", "Evaluations", True),
            ("endpoint-evidence", "Evidence", self.may(Action.VIEW_AUDIT)),
        ]
        return context | {
            "endpoint": self.endpoint,
            "tabs": [
                {"label": label, "url": self.link(name), "current": name == self.tab}
                for name, label, shown in tabs
                if shown
            ],
            "breadcrumbs": [
                {"label": "Endpoints", "url": self.url("endpoints")},
                {"label": self.endpoint.name},
            ],
        }


class OverviewPage(EndpointPage):
    """What the overview and its live part share."""

    tab = "endpoint"

    def status(self) -> Live:
        """Give the live part: state, reason, replicas, conditions, history."""
        endpoint = self.endpoint
        return self.live(
            "tenant/endpoint/status.html",
            {
                "next_action": NEXT_ACTION.get(endpoint.state, ""),
                "capacity": endpoint_capacity(endpoint),
                "approval": endpoint_waits(endpoint, self.url),
                "shown": rollout_card(endpoint, self.tenant.currency),
                "now": now_shown(endpoint),
                "conditions": [
                    {"condition": each, "tone": _condition_tone(each)} for each in endpoint.conditions.all()
                ],
                "events": [
                    {
                        "title": event.message,
                        "at": event.created_at,
                        "text": f"by {event.actor}" if event.actor else "",
                        "tone": _TONES.get(event.kind, ""),
                        "icon": "" if event.kind in _TONES else "info",
                    }
                    for event in endpoint_history(endpoint)[:EVENTS_SHOWN]
                ],
            },
            name="endpoint-status",
            url=self.link("endpoint-status", generation=endpoint.generation),
            every_s=every_s(endpoint),
        )


class Overview(OverviewPage):
    """How it stands now, how to call it, what it runs on."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint
        revision = next(iter(endpoint.current_revisions), None)
        hourly = revision_price(revision) if revision else None
        names = {"base_url": self.base_url, "name": endpoint.name}
        context = {
            "status": self.status(),
            "load_alert": load_alert(endpoint, self.tenant.currency, self.link("endpoint-load")),
            "facts": self._facts(),
            **overload_facts(endpoint),
            "revision": revision,
            "hourly": hourly,
            **(running_plan(revision, endpoint) if revision else {}),
            "curl": CURL.format(**names),
            "openai": OPENAI.format(**names),
            "keys_url": self.url("key-new", project=endpoint.project.slug),
            "running": endpoint.wanted == Wanted.RUNNING,
            "paused": endpoint.wanted == Wanted.PAUSED,
        }
        return self.render("tenant/endpoint/overview.html", context)

    def _facts(self) -> list[dict[str, Any]]:
        endpoint = self.endpoint
        return [
            {"label": "Model", "value": endpoint.model.title, "url": self.url("model", endpoint.model.name)},
            {"label": "Service class", "value": endpoint.slo_class.title},
            {"label": "Residency", "value": residency(endpoint.residency)},
            {"label": "Certifications", "value": ", ".join(endpoint.certifications) or "none demanded"},
            *load_facts(endpoint),
            *limit_facts(endpoint),
            {
                "label": "Project",
                "value": endpoint.project.name,
                "url": self.url("endpoints", project=endpoint.project.slug),
            },
            {"label": "Ordered by", "value": endpoint.created_by and endpoint.created_by.email},
        ]


class Status(OverviewPage):
    """The live part of the overview, for htmx."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        if request.GET.get("generation") != str(self.endpoint.generation):
            # Somebody paused, scaled or deleted it: what the page offers to do has changed as well.
            return HttpResponse(headers={"HX-Refresh": "true"})
        return self.live_answer(self.status())


def _condition_tone(condition: Condition) -> str:
    if condition.type == Condition.Type.LOAD_DRIFT and not condition.good:
        return "warn"
    return {True: "ok", False: "danger", None: "info"}[condition.good]
