"""API keys: the list, making one (its text is shown once), changing and revoking one."""

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
from portal.pages.limits_form import KeyLimitsForm, key_limits_told
from tenants import roles
from tenants.errors import BerthError
from tenants.keys import key_mint, key_revoke
from tenants.limits import KEY_LIMITS, key_change
from tenants.models import ApiKey, KeyScope, Project, Role
from tenants.roles import Action

PER_PAGE: Final = 50
LOOK_BACK: Final = dt.timedelta(days=90)
LIVES: Final = {"7": "A week", "30": "30 days", "90": "90 days", "365": "A year"}
_PURPOSES: Final = {
    KeyScope.INFERENCE: ("Inference", "Calls models at the gateway; a project pays."),
    KeyScope.MANAGEMENT: ("Management", "Calls Berth's API with a role of this tenant."),
}


class KeyForm(KeyLimitsForm):
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

    @property
    def is_limited(self) -> bool:
        """Whether a limit was typed or is wrong."""
        return any(self[name].value() or name in self.errors for name in KEY_LIMITS)


class KeyChangeForm(KeyLimitsForm):
    """What may be changed of a key."""

    name = forms.CharField(max_length=80)

    field_order = ("name", *KEY_LIMITS)

    def __init__(self, *args: Any, inference: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not inference:
            for name in KEY_LIMITS:
                del self.fields[name]


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
                    "changeable": self._may_change(key),
                    "limits": key_limits_told(key),
                    "used_on": key.last_used_at.date() if key.last_used_at else used.get(key.id),
                }
                for key in page
            ],
            "newer_url": self.url("keys", page=page.previous_page_number()) if page.has_previous() else "",
            "older_url": self.url("keys", page=page.next_page_number()) if page.has_next() else "",
        }
        return self.render("tenant/keys/list.html", context)

    def _may_change(self, key: ApiKey) -> bool:
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
            limits={name: chosen[name] for name in KEY_LIMITS} if inference else None,
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


class KeyPage(TenantPage):
    """A screen of one key."""

    action = Action.MINT_KEYS

    def key(self) -> ApiKey:
        """Give the key that the address names."""
        found = ApiKey.objects.filter(id=self.kwargs["id"], ephemeral=False).select_related("project").first()
        if found is None:
            raise Http404
        return found


class EditKey(KeyPage):
    """Change a key's name and limits; its text, purpose and expiry stay."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key = self.key()
        initial = {name: getattr(key, name) for name in ("name", *KEY_LIMITS)}
        return self._show(key, self._form(key, initial=initial))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key = self.key()
        form = self._form(key, request.POST)
        if form.is_valid():
            limits = {name: form.cleaned_data[name] for name in KEY_LIMITS if name in form.fields}
            try:
                key_change(
                    key=key, name=form.cleaned_data["name"], limits=limits, granter_role=self.membership.role
                )
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say(f"The key {key.name} is changed; gateways follow within a second.")
                return redirect(self.url("keys"))
        return self._show(key, form, status=422)

    def _form(self, key: ApiKey, *args: Any, **kwargs: Any) -> KeyChangeForm:
        return KeyChangeForm(*args, inference=key.scope == KeyScope.INFERENCE, **kwargs)

    def _show(self, key: ApiKey, form: KeyChangeForm, *, status: int = 200) -> HttpResponse:
        return self.render("tenant/keys/edit.html", {"key": key, "form": form}, status=status)


class RevokeKey(KeyPage):
    """Revoke a key for ever, once confirmed."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key = self.key()
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
        key = self.key()
        key_revoke(key=key, granter_role=self.membership.role)
        self.say(f"The key {key.name} is revoked.")
        return redirect(self.url("keys"))
