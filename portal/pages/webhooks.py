"""Webhooks of a tenant: the list, making one (its secret is shown once), its deliveries, test, rotation, removal."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.paginator import Paginator
from django.db.models import Max, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.dateparse import parse_datetime

from portal.pages.base import TenantPage, put_on_form
from tenants.errors import BerthError
from tenants.models import OutboxState, WebhookDelivery, WebhookEndpoint
from tenants.roles import Action
from tenants.webhooks import services
from tenants.webhooks.events import EVENT_TYPES
from tenants.webhooks.signing import message_id

PER_PAGE: Final = 25
#: States of deliveries as badges know them.
_BADGES: Final = {
    OutboxState.PENDING: "pending",
    OutboxState.SENT: "completed",
    OutboxState.GIVEN_UP: "failed",
}


class WebhookForm(forms.Form):
    """A webhook to be made or changed."""

    name = forms.CharField(max_length=80, help_text="Who listens there, for instance finance-bot.")
    url = forms.CharField(
        max_length=500, label="Address", help_text="Begins with https://. Events are posted to it.",
        widget=forms.URLInput,
    )  # fmt: skip
    event_types = forms.MultipleChoiceField(
        choices=[(key, f"{key}: {text}") for key, text in EVENT_TYPES.items()],
        label="Is told of",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one event."},
    )
    active = forms.BooleanField(required=False, initial=True, label="Active")


class WebhookPage(TenantPage):
    """A screen about webhooks: for owners and admins, as an address may be a secret."""

    action = Action.MANAGE_SETTINGS

    def endpoint(self) -> WebhookEndpoint:
        """Give the webhook that the address names."""
        found = WebhookEndpoint.objects.filter(id=self.kwargs["id"]).first()
        if found is None:
            raise Http404
        return found

    def crumbs(self, *more: dict[str, Any]) -> list[dict[str, Any]]:
        """Give the way here."""
        return [
            {"label": "Settings", "url": self.url("settings")},
            {"label": "Webhooks", "url": self.url("webhooks")},
            *more,
        ]

    def show_secret(self, endpoint: WebhookEndpoint, secret: str, *, rotated: bool) -> HttpResponse:
        """Answer a POST with a secret, which no redirect could carry."""
        answer = self.render(
            "tenant/webhooks/made.html", {"endpoint": endpoint, "secret": secret, "rotated": rotated}
        )
        answer["Cache-Control"] = "no-store"
        return answer


class Webhooks(WebhookPage):
    """All webhooks by name."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        rows = WebhookEndpoint.objects.annotate(
            last=Max("deliveries__sent_at", filter=Q(deliveries__state=OutboxState.SENT))
        )
        context = {
            "rows": [{"endpoint": each, "url": self.url("webhook", each.id)} for each in rows],
            "breadcrumbs": [*self.crumbs()[:1], {"label": "Webhooks"}],
        }
        return self.render("tenant/webhooks/list.html", context)


class NewWebhook(WebhookPage):
    """Make a webhook. The answer to the POST itself shows its secret."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._show(WebhookForm(initial={"active": True, "event_types": list(EVENT_TYPES)}))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = WebhookForm(request.POST)
        if form.is_valid():
            try:
                endpoint, secret = services.webhook_create(**form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                return self.show_secret(endpoint, secret, rotated=False)
        return self._show(form, status=422)

    def _show(self, form: WebhookForm, *, status: int = 200) -> HttpResponse:
        context = {
            "form": form,
            "endpoint": None,
            "cancel_url": self.url("webhooks"),
            "breadcrumbs": self.crumbs({"label": "New"}),
        }
        return self.render("tenant/webhooks/form.html", context, status=status)


class WebhookDetail(WebhookPage):
    """How one webhook stands, and its deliveries with each attempt."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint()
        rows = WebhookDelivery.objects.filter(endpoint=endpoint)
        page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
        here = (endpoint.id,)
        context = {
            "endpoint": endpoint,
            "facts": [
                {"label": "Address", "value": endpoint.url, "code": True},
                {"label": "Is told of", "value": ", ".join(endpoint.event_types)},
            ],
            "deliveries": [_shown(each) for each in page],
            "newer_url": self.url("webhook", *here, page=page.previous_page_number())
            if page.has_previous()
            else "",
            "older_url": self.url("webhook", *here, page=page.next_page_number()) if page.has_next() else "",
            "breadcrumbs": self.crumbs({"label": endpoint.name}),
        }
        return self.render("tenant/webhooks/detail.html", context)


class EditWebhook(WebhookPage):
    """Change a webhook."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint()
        values = {name: getattr(endpoint, name) for name in WebhookForm.base_fields}
        return self._show(endpoint, WebhookForm(initial=values))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint, form = self.endpoint(), WebhookForm(request.POST)
        if form.is_valid():
            try:
                services.webhook_change(endpoint=endpoint, **form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The webhook {endpoint.name} is changed.")
                return redirect(self.url("webhook", endpoint.id))
        return self._show(self.endpoint(), form, status=422)

    def _show(self, endpoint: WebhookEndpoint, form: WebhookForm, *, status: int = 200) -> HttpResponse:
        here = self.url("webhook", endpoint.id)
        context = {
            "form": form,
            "endpoint": endpoint,
            "cancel_url": here,
            "breadcrumbs": self.crumbs({"label": endpoint.name, "url": here}, {"label": "Edit"}),
        }
        return self.render("tenant/webhooks/form.html", context, status=status)


class TestWebhook(WebhookPage):
    """Send a test event."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint()
        services.webhook_test(endpoint=endpoint)
        self.say("A test is on its way. What becomes of it is told below.")
        return redirect(self.url("webhook", endpoint.id))


class RedeliverWebhook(WebhookPage):
    """Send an event again."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        delivery = WebhookDelivery.objects.filter(id=id).first()
        if delivery is None:
            raise Http404
        services.delivery_redeliver(delivery=delivery)
        self.say("It is sent again, under the same id.")
        return redirect(self.url("webhook", delivery.endpoint_id))


class RotateWebhook(WebhookPage):
    """Give a webhook another secret, once confirmed."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint()
        context = {
            "endpoint": endpoint,
            "intro": "It gets another secret, which is shown once.",
            "consequences": [
                "For a day both secrets sign, so that the receiver can be changed without losing anything.",
                "After that the old one signs nothing.",
            ],
            "cancel_url": self.url("webhook", endpoint.id),
        }
        return self.render("tenant/webhooks/rotate.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint()
        secret = services.webhook_rotate(endpoint=endpoint)
        return self.show_secret(endpoint, secret, rotated=True)


class RemoveWebhook(WebhookPage):
    """Remove a webhook with its deliveries, once confirmed."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint()
        context = {
            "endpoint": endpoint,
            "consequences": [
                "Nothing is sent there any more, not what waits to be sent either.",
                "What became of its deliveries is forgotten.",
            ],
            "cancel_url": self.url("webhook", endpoint.id),
        }
        return self.render("tenant/webhooks/remove.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        endpoint = self.endpoint()
        services.webhook_remove(endpoint=endpoint)
        self.say(f"The webhook {endpoint.name} is removed.")
        return redirect(self.url("webhooks"))


def _shown(delivery: WebhookDelivery) -> dict[str, Any]:
    attempts = [
        {
            "at": parse_datetime(entry["at"]),
            "answer": "No answer" if entry["status"] is None else f"Answered {entry['status']}",
            "took_ms": entry["took_ms"] if entry["status"] is not None else None,
            "note": entry["note"],
        }
        for entry in reversed(delivery.log)
    ]
    return {
        "delivery": delivery,
        "badge": _BADGES[OutboxState(delivery.state)],
        "message_id": message_id(delivery.event_id),
        "waits": delivery.state == OutboxState.PENDING,
        "attempts": attempts,
    }
