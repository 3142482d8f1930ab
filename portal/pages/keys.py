"""API keys: the list, making one (its text is shown once), revoking one."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from typing import Any, Final

from django import forms
from django.core.paginator import Paginator
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from billing.models import UsageDay
from portal.pages.base import TenantPage, put_on_form
from tenants import roles
from tenants.errors import BerthError
from tenants.models import ApiKey, KeyScope, Project, Role
from tenants.roles import Action
from tenants.services import key_mint, key_revoke

PER_PAGE: Final = 50
LOOK_BACK: Final = dt.timedelta(days=90)
LIVES: Final = {"7": "A week", "30": "30 days", "90": "90 days", "365": "A year"}
_PURPOSES: Final = {
    KeyScope.INFERENCE: ("Inference", "Calls models at the gateway; a project pays."),
    KeyScope.MANAGEMENT: ("Management", "Calls Berth's API with a role of this tenant."),
}


class KeyForm(forms.Form):
    """A key to be made."""

    name = forms.CharField(max_length=80, help_text="What will use it, for instance chat-backend.")
    scope = forms.ChoiceField(choices=KeyScope, label="Purpose")
    project = forms.ChoiceField(required=False, help_text="For inference: the cost centre that pays.")
    role = forms.ChoiceField(required=False, help_text="For management: what the key may do.")
    life = forms.ChoiceField(choices=list(LIVES.items()), label="Expires after")

    def __init__(self, *args: Any, projects: list[Project], granter_role: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].choices = [(project.slug, project.name) for project in projects]
        self.fields["role"].choices = [
            (role.value, role.label) for role in Role if roles.may_grant(granter_role, role)
        ][::-1]


class Keys(TenantPage):
    """All keys but those of playgrounds, newest first."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        rows = ApiKey.objects.filter(ephemeral=False).select_related("project", "created_by")
        page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
        now = timezone.now()
        used = _used_on(page, since=now - LOOK_BACK)
        context = {
            "keys": [
                {
                    "key": key,
                    "state": key.state(now),
                    "revocable": self._may_revoke(key),
                    "used_on": key.last_used_at.date() if key.last_used_at else used.get(key.id),
                }
                for key in page
            ],
            "newer_url": self.url("keys", page=page.previous_page_number()) if page.has_previous() else "",
            "older_url": self.url("keys", page=page.next_page_number()) if page.has_next() else "",
        }
        return self.render("tenant/keys/list.html", context)

    def _may_revoke(self, key: ApiKey) -> bool:
        allowed = not key.role or roles.may_grant(self.membership.role, key.role)
        return key.revoked_at is None and self.may(Action.MINT_KEYS) and allowed


def _used_on(keys: Iterable[ApiKey], *, since: dt.datetime) -> dict[uuid.UUID, dt.date]:
    """Give the last UTC day on which each inference key was used: gateways tell it by their usage alone."""
    rows = UsageDay.objects.filter(key_id__in=[key.id for key in keys], bucket__gte=since)
    return {key_id: last.date() for key_id, last in rows.values_list("key_id").annotate(last=Max("bucket"))}


class NewKey(TenantPage):
    """Make a key. The answer to the POST itself shows its text, which no redirect could carry."""

    action = Action.MINT_KEYS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        initial = {
            "scope": request.GET.get("scope", KeyScope.INFERENCE),
            "project": request.GET.get("project", ""),
            "life": "90",
        }
        return self._show(self._form(initial=initial))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = self._form(request.POST)
        if form.is_valid():
            try:
                key, text = self._mint(form.cleaned_data)
            except BerthError as error:
                put_on_form(form, error)
            else:
                answer = self.render("tenant/keys/made.html", {"key": key, "text": text})
                answer["Cache-Control"] = "no-store"
                return answer
        return self._show(form, status=422)

    def _mint(self, chosen: dict[str, Any]) -> tuple[ApiKey, str]:
        inference = chosen["scope"] == KeyScope.INFERENCE
        return key_mint(
            name=chosen["name"],
            key_scope=chosen["scope"],
            project=Project.objects.filter(slug=chosen["project"]).first() if inference else None,
            role="" if inference else chosen["role"],
            created_by=self.request.user,
            granter_role=self.membership.role,
            expires_at=timezone.now() + dt.timedelta(days=int(chosen["life"])),
        )

    def _form(self, *args: Any, **kwargs: Any) -> KeyForm:
        projects = list(Project.objects.order_by("created_at"))
        return KeyForm(*args, projects=projects, granter_role=self.membership.role, **kwargs)

    def _show(self, form: KeyForm, *, status: int = 200) -> HttpResponse:
        tiles = [
            {"value": value, "label": label, "text": text, "checked": form["scope"].value() == value}
            for value, (label, text) in _PURPOSES.items()
        ]
        return self.render("tenant/keys/new.html", {"form": form, "purposes": tiles}, status=status)


class RevokeKey(TenantPage):
    """Revoke a key for ever, once confirmed."""

    action = Action.MINT_KEYS

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key = self._key(id)
        context = {
            "key": key,
            "consequences": [
                "Gateways refuse it within seconds; whatever still uses it stops working.",
                "It cannot be brought back; a new key has another text.",
            ],
            "cancel_url": self.url("keys"),
        }
        return self.render("tenant/keys/revoke.html", context)

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key = self._key(id)
        key_revoke(key=key, granter_role=self.membership.role)
        self.say(f"The key {key.name} is revoked.")
        return redirect(self.url("keys"))

    def _key(self, id: str) -> ApiKey:
        key = ApiKey.objects.filter(id=id).first()
        if key is None:
            raise Http404
        return key
