"""One day of usage, as each part of the pipe counted it, and what is missing between them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.metering.reconciliation import (
    EngineCheck,
    Reconciliation,
    Sums,
    Verdict,
    reconcile,
)
from billing.metering.sequences import gap_accept, gaps_of
from billing.models import SequenceGap, UsageRefusal, UsageSegment
from clusters.models import Endpoint, Gateway
from portal.pages.base import ConsolePage
from portal.pages.console.gateways import find_gateway
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.roles import PlatformAction

#: So many refusals and endpoints are shown; the others are counted.
MOST_SHOWN = 50
_DAY = dt.timedelta(days=1)
_TONES = {
    Verdict.AGREES: "ok",
    Verdict.ARRIVING: "info",
    Verdict.LOST: "danger",
    Verdict.UNEXPLAINED: "danger",
    Verdict.MISCOUNTED: "danger",
    Verdict.NOT_TOLD: "",
}
_WORDS = {
    Verdict.AGREES: "Agrees",
    Verdict.ARRIVING: "Arriving",
    Verdict.LOST: "Lost",
    Verdict.UNEXPLAINED: "More than logged",
    Verdict.MISCOUNTED: "Miscounted",
    Verdict.NOT_TOLD: "Nothing told",
}
_DIFFERS = {"tone": "danger", "label": "Does not reconcile"}


class DayForm(forms.Form):
    day = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        error_messages={"invalid": "Write the day as YYYY-MM-DD."},
    )


class ReconciliationPage(ConsolePage):
    action = PlatformAction.VIEW_USAGE_CHECKS
    reason = "reconcile usage"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        form = DayForm(request.GET)
        day = form.cleaned_data["day"] if form.is_valid() else None
        day = min(day or now.date() - _DAY, now.date())
        found = reconcile(day=day, now=now)
        refusals = UsageRefusal.objects.filter(day=day)
        context = {
            "day": day,
            "form_error": form.errors.get("day", [""])[0],
            "earlier_url": _url(day - _DAY),
            "later_url": _url(day + _DAY) if day < now.date() else "",
            "steps": _steps(found),
            "verdict": _DIFFERS if found.is_bad else badge(found.verdict),
            "chain": badge(found.verdict),
            "trouble": found.is_bad,
            "gateways": _rows(found, linked=self.operator.may(PlatformAction.VIEW_ESTATE)),
            "engines": _engines(
                found.engines[:MOST_SHOWN], linked=self.operator.may(PlatformAction.VIEW_ENDPOINTS)
            ),
            "more_engines": max(0, len(found.engines) - MOST_SHOWN),
            "refusals": refusals[:MOST_SHOWN],
            "more_refusals": max(0, refusals.count() - MOST_SHOWN),
        }
        return self.render("console/reconciliation.html", context, status=200 if form.is_valid() else 422)


class GapAccept(ConsolePage):
    """Notes that missing sequences will not come any more."""

    action = PlatformAction.MANAGE_ESTATE
    reason = "accept a gap in a gateway's usage"
    http_method_names = ["post"]

    def post(self, request: HttpRequest, name: str, id: int) -> HttpResponse:
        gateway = find_gateway(name)
        gap = next((each for each in gaps_of(gateway.name) if each.id == id), None)
        if gap is None:
            raise NotFound("This gap is not there any more; it may have filled.")
        gap_accept(gap=gap)
        audit(request.user, "gateway.accept-gap", gateway=gap.gateway, first=gap.first, last=gap.last)
        self.say("The gap is noted as lost. Segments that come after all are counted as ever.")
        return redirect("console:gateway", gateway.name)


def badge(verdict: Verdict) -> dict[str, str]:
    """Give a verdict as a badge."""
    return {"tone": _TONES[verdict], "label": _WORDS[verdict]}


def gateway_usage(gateway: Gateway, *, checked: bool) -> dict[str, Any]:
    """Give what a gateway's page shows of how its usage arrived; ``checked``: with the way to the reconciliation."""
    ours = UsageRefusal.objects.filter(gateway__startswith=f"{gateway.name}/")
    return {
        "gaps": [{"gap": gap, "size": gap.last - gap.first + 1} for gap in gaps_of(gateway.name)],
        "refusals": ours[:MOST_SHOWN],
        "more_refusals": max(0, ours.count() - MOST_SHOWN),
        "reconciliation_url": reverse("console:reconciliation") if checked else "",
    }


def gap_words(gap: SequenceGap) -> str:
    """Say which sequences are missing."""
    return f"{gap.first:,}" if gap.first == gap.last else f"{gap.first:,} to {gap.last:,}"


def _url(day: dt.date) -> str:
    return f"{reverse('console:reconciliation')}?day={day}"


def _steps(found: Reconciliation) -> list[dict[str, Any]]:
    logged = Sums()
    for each in found.gateways:
        # What tells no totals of its own is taken at its word.
        logged += next(sums for sums in (each.logged, each.stored, each.counted) if sums is not None)
    parts = [
        ("Logged by gateways", logged),
        ("Segments stored", found.stored),
        ("Counted by gateway", found.counted),
        ("Rolled up by hour", found.hours),
        ("Rolled up by day", found.days),
        ("Rated by statements", found.rated),
    ]
    return [{"name": name, "sums": sums} for name, sums in parts]


def _rows(found: Reconciliation, *, linked: bool) -> list[dict[str, Any]]:
    there = set(Gateway.objects.values_list("name", flat=True)) if linked else set()
    events = UsageSegment.objects.filter(day=found.day).exclude(event="")
    sources = dict(events.values_list("gateway", "source").distinct())
    rows = []
    for check in found.gateways:
        name = check.gateway.partition("/")[0]
        rows.append(
            {
                "check": check,
                "name": sources.get(check.gateway, check.gateway),
                "verdict": badge(check.verdict),
                "have": check.counted if check.stored is None else check.stored,
                "url": reverse("console:gateway", args=[name]) if name in there else "",
            }
        )
    return rows


def _engines(checks: Sequence[EngineCheck], *, linked: bool) -> list[dict[str, Any]]:
    ids = [check.endpoint_id for check in checks]
    there = set(Endpoint.objects.filter(id__in=ids).values_list("id", flat=True)) if linked else set()
    return [
        {
            "check": check,
            "off": None if check.counted is None else check.counted - check.metered,
            "url": reverse("console:endpoint", args=[check.endpoint_id])
            if check.endpoint_id in there
            else "",
        }
        for check in checks
    ]
