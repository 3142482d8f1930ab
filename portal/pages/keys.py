"""API keys: the list, making one (its text is shown once), changing, replacing and revoking one."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from portal.api.keys import check_key_endpoints
from portal.pages.base import TenantPage, put_on_form
from portal.pages.key_forms import KeyChangeForm, KeyForm, KeyReachForm, RotationForm, reach_told
from portal.pages.limits_form import key_limits_told
from tenants.errors import BerthError, Invalid
from tenants.key_sweeps import listed
from tenants.keys import key_mint, key_revoke, key_rotate, may_end
from tenants.limits import KEY_LIMITS, key_change
from tenants.models import ApiKey, KeyScope, Project, ServiceAccount
from tenants.roles import Action

PER_PAGE: Final = 50
_PURPOSES: Final = {
    KeyScope.INFERENCE: ("Inference", "Calls models at the gateway; a project pays."),
    KeyScope.MANAGEMENT: ("Management", "Calls Berth's API with a role of this tenant."),
}


class Keys(TenantPage):
    """All keys but those of playgrounds, newest first."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        rows = listed()
        if account := request.GET.get("service_account", ""):
            rows = rows.filter(service_account__name=account)
        page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
        now = timezone.now()
        names = dict(Project.objects.values_list("id", "name"))
        context = {
            "account": account,
            "keys": [
                {
                    "key": key,
                    "state": key.state(now),
                    "changeable": self._may_change(key),
                    "rotatable": self._may_change(key)
                    and key.replaced_by_id is None
                    and key.state(now) == "active",
                    "limits": [*reach_told(key, names), *key_limits_told(key)],
                }
                for key in page
            ],
            "newer_url": self._page_url(page.previous_page_number()) if page.has_previous() else "",
            "older_url": self._page_url(page.next_page_number()) if page.has_next() else "",
        }
        return self.render("tenant/keys/list.html", context)

    def _page_url(self, number: int) -> str:
        asked = (
            {"service_account": account} if (account := self.request.GET.get("service_account", "")) else {}
        )
        return self.url("keys", **asked, page=number)

    def _may_change(self, key: ApiKey) -> bool:
        return key.revoked_at is None and self.may(Action.MINT_KEYS) and may_end(key, self.membership.role)


class NewKey(TenantPage):
    """Make a key. The answer to the POST itself shows its text, which no redirect could carry."""

    action = Action.MINT_KEYS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        initial = {
            "scope": request.GET.get("scope", KeyScope.INFERENCE),
            "project": request.GET.get("project", ""),
            "service_account": request.GET.get("service_account", ""),
            "life": "90",
        }
        return self._show(self._form(initial=initial))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = self._form(request.POST)
        if form.is_valid():
            try:
                key, text = self._mint(form)
            except BerthError as error:
                put_key_error(form, error, form.cleaned_data["scope"])
            else:
                return show_text(self, key, text)
        return self._show(form, status=422)

    def _mint(self, form: KeyForm) -> tuple[ApiKey, str]:
        chosen = form.cleaned_data
        inference = chosen["scope"] == KeyScope.INFERENCE
        project = Project.objects.filter(slug=chosen["project"]).first() if inference else None
        account = ServiceAccount.objects.filter(
            name=chosen.get("service_account") or None, removed_at=None
        ).first()
        narrowed = form.narrowed(chosen["scope"])
        if project is not None:
            check_key_endpoints(project, narrowed["endpoints"])
        return key_mint(
            name=chosen["name"],
            key_scope=chosen["scope"],
            project=project,
            role="" if inference or account else chosen["role"],
            service_account=account,
            created_by=self.request.user,
            granter_role=self.membership.role,
            expires_at=timezone.now() + dt.timedelta(days=int(chosen["life"])),
            limits={name: chosen[name] for name in KEY_LIMITS} if inference else None,
            narrowed=narrowed,
        )

    def _form(self, *args: Any, **kwargs: Any) -> KeyForm:
        return KeyForm(
            *args,
            projects=list(Project.objects.order_by("created_at")),
            accounts=list(ServiceAccount.objects.filter(active=True)),
            granter_role=self.membership.role,
            **kwargs,
        )

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
        found = listed().filter(id=self.kwargs["id"]).first()
        if found is None:
            raise Http404
        return found


class EditKey(KeyPage):
    """Change a key's name, limits and reach; its text, purpose and expiry stay."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key = self.key()
        return self._show(key, self._form(key, initial=KeyChangeForm.begins_with(key)))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key = self.key()
        form = self._form(key, request.POST)
        if form.is_valid():
            limits = {name: form.cleaned_data[name] for name in KEY_LIMITS if name in form.fields}
            narrowed = form.narrowed(key.scope)
            try:
                if key.project is not None:
                    new = [each for each in narrowed["endpoints"] if each not in key.endpoints]
                    check_key_endpoints(key.project, new)
                key_change(
                    key=key, name=form.cleaned_data["name"], limits=limits, narrowed=narrowed,
                    granter_role=self.membership.role,
                )  # fmt: skip
            except BerthError as error:
                put_key_error(form, error, key.scope)
            else:
                self.say(f"The key {key.name} is changed; gateways follow within a second.")
                return redirect(self.url("keys"))
        return self._show(key, form, status=422)

    def _form(self, key: ApiKey, *args: Any, **kwargs: Any) -> KeyChangeForm:
        return KeyChangeForm(*args, key=key, projects=Project.objects.order_by("created_at"), **kwargs)

    def _show(self, key: ApiKey, form: KeyChangeForm, *, status: int = 200) -> HttpResponse:
        return self.render("tenant/keys/edit.html", {"key": key, "form": form}, status=status)


class RotateKey(KeyPage):
    """Put another key in a key's place. The answer to the POST itself shows the new one's text."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self._show(self.key(), RotationForm(initial={"overlap": "86400"}))

    def post(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        key, form = self.key(), RotationForm(request.POST)
        if form.is_valid():
            overlap = dt.timedelta(seconds=int(form.cleaned_data["overlap"]))
            new, text = key_rotate(
                key=key, overlap=overlap, created_by=request.user, granter_role=self.membership.role
            )
            return show_text(self, new, text, replaces=key)
        return self._show(key, form, status=422)

    def _show(self, key: ApiKey, form: RotationForm, *, status: int = 200) -> HttpResponse:
        return self.render("tenant/keys/rotate.html", {"key": key, "form": form}, status=status)


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


def show_text(page: TenantPage, key: ApiKey, text: str, *, replaces: ApiKey | None = None) -> HttpResponse:
    """Answer a POST with a key's text, which no redirect could carry."""
    answer = page.render("tenant/keys/made.html", {"key": key, "text": text, "replaces": replaces})
    answer["Cache-Control"] = "no-store"
    return answer


def put_key_error(form: KeyReachForm, error: BerthError, key_scope: str) -> None:
    """Show an error of a key's service beside the fields of a form on keys."""
    if isinstance(error, Invalid):
        error = Invalid(error.message, errors=form.adopt(error.errors, key_scope))
    put_on_form(form, error)
