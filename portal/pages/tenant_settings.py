"""What a tenant chooses of gateways: how long it is served without Berth, how long files are kept."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from portal.pages.base import TenantPage, put_on_form
from portal.pages.limits_form import rates_told, served_for
from tenants.errors import BerthError
from tenants.limits import tenant_choices_set
from tenants.models import Tenant
from tenants.models.tenants import MOST_FILES_DAYS
from tenants.roles import Action

#: How long to go on, in seconds, and what it means.
USUAL: Final = {
    "": ("For ever", "Nothing stops. A key that was revoked meanwhile goes on working there."),
    "3600": ("One hour", "Then it refuses, until it hears of Berth again."),
    "900": ("15 minutes", "Short outages pass unseen; a revoked key works no longer than that."),
    "own": ("Another time", "As many minutes as you say below."),
}


class SettingsForm(forms.Form):
    """The tenant's choices."""

    refuse_after = forms.ChoiceField(
        choices=[(key, label) for key, (label, _) in USUAL.items()], required=False
    )
    minutes = forms.IntegerField(
        min_value=1, max_value=366 * 1440, required=False, label="Minutes",
        help_text="For another time only.",
    )  # fmt: skip
    files_days = forms.IntegerField(
        min_value=1, max_value=MOST_FILES_DAYS, label="Keep files and batches for",
        help_text="Then a gateway deletes what was uploaded and what came of it.",
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        chosen = super().clean() or self.cleaned_data
        if chosen.get("refuse_after") == "own" and not chosen.get("minutes") and "minutes" not in self.errors:
            self.add_error("minutes", "Say how many minutes.")
        return chosen

    def choices(self) -> dict[str, int | None]:
        """Give what was chosen as it is kept."""
        chosen = self.cleaned_data
        after = chosen["refuse_after"]
        seconds = chosen["minutes"] * 60 if after == "own" else int(after) if after else None
        return {"refuse_after_s": seconds, "files_days": chosen["files_days"]}


class Settings(TenantPage):
    """The form, and what operators have set beside it."""

    write_action = Action.MANAGE_SETTINGS

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._show(SettingsForm(initial=_initial(self.tenant)))

    def post(self, request: HttpRequest, slug: str) -> HttpResponse:
        form = SettingsForm(request.POST)
        if form.is_valid():
            try:
                tenant_choices_set(tenant=self.tenant, choices=form.choices())
            except BerthError as error:
                put_on_form(form, error)
            else:
                self.say("The settings are saved; gateways follow within a second.")
                return redirect(self.url("settings"))
        return self._show(form, status=422)

    def _show(self, form: SettingsForm, *, status: int = 200) -> HttpResponse:
        chosen = form["refuse_after"].value() or ""
        context = {
            "form": form,
            "tiles": [
                {"value": value, "label": label, "text": text, "checked": chosen == value}
                for value, (label, text) in USUAL.items()
            ],
            "facts": _facts(self.tenant),
            "choices": [
                {"label": "At a gateway cut off from Berth", "value": served_for(self.tenant)},
                {"label": "Files and batches", "value": f"kept {self.tenant.files_days} days"},
            ],
        }
        return self.render("tenant/settings.html", context, status=status)


def _initial(tenant: Tenant) -> dict[str, Any]:
    after = tenant.refuse_after_s
    usual = "" if after is None else str(after)
    return {
        "refuse_after": usual if usual in USUAL else "own",
        "minutes": None if usual in USUAL else -(-(after or 0) // 60),
        "files_days": tenant.files_days,
    }


def _facts(tenant: Tenant) -> list[dict[str, Any]]:
    return [
        {"label": "Name", "value": tenant.name},
        {"label": "Short name", "value": tenant.slug, "code": True},
        {"label": "Time zone", "value": tenant.time_zone},
        {"label": "Currency", "value": tenant.currency},
        {"label": "Limits of all keys together", "value": ", ".join(rates_told(tenant)) or "none"},
        {"label": "Weight on shared endpoints", "value": f"{tenant.share:g}"},
    ]
