"""Revoking many keys, looked at first; and a key that has leaked."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from portal.pages.base import TenantPage, put_on_form
from tenants import key_sweeps
from tenants.errors import BerthError, Invalid
from tenants.keys import may_end
from tenants.models import ApiKey, KeyScope, Project, ServiceAccount
from tenants.roles import Action

UNUSED: Final = {"7": "A week", "30": "30 days", "90": "90 days", "180": "180 days"}


class SweepForm(forms.Form):
    """Which keys are meant."""

    purpose = forms.ChoiceField(choices=[("", "Any"), *KeyScope.choices], required=False)
    project = forms.ChoiceField(required=False)
    service_account = forms.ChoiceField(required=False, label="Service account")
    created_by = forms.EmailField(
        required=False, label="Made by", max_length=254, help_text="The e-mail address of a person."
    )
    name = forms.CharField(required=False, max_length=80, label="Name", help_text="A part of it.")
    unused = forms.ChoiceField(
        choices=[("", "Whenever"), *UNUSED.items()], required=False, label="Not used for"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        projects = [(project.slug, project.name) for project in Project.objects.order_by("name")]
        accounts = ServiceAccount.objects.filter(removed_at=None).values_list("name", flat=True)
        self.fields["project"].choices = [("", "Any"), *projects]
        self.fields["service_account"].choices = [("", "Any"), *((name, name) for name in accounts)]

    def sweep(self) -> key_sweeps.Sweep:
        """Give what was asked; the form must have been cleaned."""
        asked = self.cleaned_data
        days = asked["unused"]
        return key_sweeps.Sweep(
            scope=asked["purpose"],
            project=Project.objects.filter(slug=asked["project"]).first() if asked["project"] else None,
            service_account=ServiceAccount.objects.filter(
                name=asked["service_account"], removed_at=None
            ).first()
            if asked["service_account"]
            else None,
            created_by=asked["created_by"],
            name=asked["name"],
            unused_since=timezone.now() - dt.timedelta(days=int(days)) if days else None,
        )


class RevokeKeys(TenantPage):
    """Keys found by filters, of which those that are ticked are revoked, once that was confirmed."""

    action = Action.MINT_KEYS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        asked = any(request.GET.get(name) for name in SweepForm.base_fields)
        form = SweepForm(request.GET if asked else None)
        keys: list[ApiKey] | None = None
        if asked and form.is_valid():
            try:
                keys = key_sweeps.keys_swept(form.sweep())
            except BerthError as error:
                put_on_form(form, error)
        return self._show(form, keys, status=422 if form.errors else 200)

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        ids = _ids(request.POST.getlist("key"))
        if not ids:
            raise Invalid("Tick at least one key.")
        role = self.membership.role
        if request.POST.get("confirmed") == "yes":
            keys = key_sweeps.keys_revoke(ids=ids, granter_role=role)
            self.say(
                f"{len(keys)} keys are revoked." if len(keys) > 1 else f"The key {keys[0].name} is revoked."
            )
            return redirect(self.url("keys"))
        return self.render("tenant/keys/revoke_confirm.html", {"keys": key_sweeps.keys_named(ids)})

    def _show(self, form: SweepForm, keys: list[ApiKey] | None, *, status: int) -> HttpResponse:
        rows = None
        if keys is not None:
            rows = [{"key": key, "revocable": may_end(key, self.membership.role)} for key in keys]
        context = {"form": form, "rows": rows, "any": rows and any(row["revocable"] for row in rows)}
        return self.render("tenant/keys/revoke_many.html", context, status=status)


class LeakedForm(forms.Form):
    """The text of a key that others know. It is never written back."""

    key = forms.CharField(
        max_length=200, label="The key", strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}, render_value=False),
        help_text="The whole text. It is looked up, kept nowhere, and not shown again.",
    )  # fmt: skip


class LeakedKey(TenantPage):
    """Revoke the key with a text that was found where it should not be."""

    action = Action.MINT_KEYS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._show(LeakedForm())

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = LeakedForm(request.POST)
        if form.is_valid():
            try:
                key = key_sweeps.key_leaked(text=form.cleaned_data["key"])
            except BerthError as error:
                form.add_error("key", error.message)
            else:
                self.say(f"The key {key.name} is revoked; gateways refuse it within seconds.")
                return redirect(self.url("keys"))
        return self._show(form, status=422)

    def _show(self, form: LeakedForm, *, status: int = 200) -> HttpResponse:
        return self.render("tenant/keys/leaked.html", {"form": form}, status=status)


def _ids(texts: list[str]) -> list[uuid.UUID]:
    try:
        return [uuid.UUID(text) for text in texts]
    except ValueError:
        raise Invalid("That is no key's id; go back and tick the keys again.") from None
