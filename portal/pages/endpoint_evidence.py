"""Evidence about one endpoint: a period is chosen, a signed pack comes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from clusters.endpoints.evidence.services import evidence_make, evidence_name
from clusters.models import Endpoint
from portal.pages.endpoint import EndpointPage
from tenants import signing
from tenants.roles import Action


class EvidenceForm(forms.Form):
    """Whole UTC days, the last one included."""

    first = forms.DateField(label="First day", widget=forms.DateInput(attrs={"type": "date"}))
    last = forms.DateField(label="Last day", widget=forms.DateInput(attrs={"type": "date"}))


class Evidence(EndpointPage):
    """Say what evidence is, and for which days it is wanted; with days in the address, the pack itself."""

    http_method_names = ["get"]
    tab = "endpoint-evidence"
    action = Action.VIEW_AUDIT

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        form = evidence_form(request)
        if form.is_bound and form.is_valid():
            return evidence_file(self.endpoint, form, by=self.actor)
        context = evidence_context(form, self.link("endpoint-evidence"))
        return self.render("tenant/endpoint/evidence.html", context, status=422 if form.is_bound else 200)


def evidence_form(request: HttpRequest) -> EvidenceForm:
    """Read the days from the address; without them the running month is proposed."""
    if "first" in request.GET or "last" in request.GET:
        return EvidenceForm(request.GET)
    today = timezone.now().date()
    return EvidenceForm(initial={"first": today.replace(day=1), "last": today})


def evidence_file(endpoint: Endpoint, form: EvidenceForm, *, by: str) -> HttpResponse:
    """Answer with the pack.

    Raises:
        Invalid: the days are none that evidence can be made of.
        SigningNotSetUp: there is no key to sign with.
    """
    days = {"first": form.cleaned_data["first"], "end": form.cleaned_data["last"] + dt.timedelta(days=1)}
    packed = evidence_make(endpoint=endpoint, now=timezone.now(), by=by, **days)
    disposition = f'attachment; filename="{evidence_name(endpoint, **days)}"'
    return HttpResponse(packed, content_type="application/zip", headers={"Content-Disposition": disposition})


def evidence_context(form: EvidenceForm, path: str) -> dict[str, Any]:
    """Give what the page shows."""
    keys = [
        {"id": f"key-{number}", "label": f"Public key {number}", "pem": signing.public_pem(key)}
        for number, key in signing.public_keys().items()
    ]
    return {"form": form, "path": path, "keys": keys}
