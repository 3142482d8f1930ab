"""What GPUs cost us: rates now, to come and followed, what has none, and where the money of a month went."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.gpu_time.rates import Unrated, asset_rate_set, unrated_gpus
from billing.gpu_time.selectors import AssetCost, asset_costs, gpu_utilization
from billing.models import AssetRate
from clusters.api.asset_rates import rate_facts
from clusters.inventory.reading import gpu_title
from clusters.models import Cluster, GpuType
from portal.pages.base import ConsolePage
from portal.pages.console.forms import ConsoleForm, FormPage, MomentInput
from tenants.audit import audit
from tenants.roles import PlatformAction

SHOWN = dt.timedelta(days=30)
MOST_TOLD = 5


class AssetRateForm(ConsoleForm):
    amount = forms.DecimalField(
        min_value=0, max_digits=20, decimal_places=10, label=f"Amount ({settings.CURRENCY})",
        help_text="For an hour of one whole GPU, used or not: hardware, power, space, people.",
    )  # fmt: skip
    effective_from = forms.DateTimeField(
        required=False, widget=MomentInput(), label="Holds from (UTC)",
        help_text="Empty: from now. It may lie in the past: hours since then are computed anew.",
    )  # fmt: skip
    cluster = forms.ModelChoiceField(
        Cluster.objects.present(), to_field_name="name", required=False, empty_label="Every cluster"
    )
    gpu_type = forms.ModelChoiceField(
        GpuType.objects.all(), to_field_name="name", required=False, empty_label="Every GPU type",
        label="GPU type",
    )  # fmt: skip
    note = forms.CharField(max_length=200, required=False, help_text="Why, for whoever reads the history.")

    groups = (
        ("Rate", "Per GPU-hour.", ("amount", "effective_from", "note")),
        ("For", "The rate that names most holds. MIG parts take their share of it.", ("cluster", "gpu_type")),
    )  # fmt: skip


@dataclasses.dataclass
class Line:
    """All rates for one subject: the one in force, those to come, those followed by another."""

    cluster: str
    gpu_type: str
    now: AssetRate | None = None
    coming: list[AssetRate] = dataclasses.field(default_factory=list)
    followed: list[AssetRate] = dataclasses.field(default_factory=list)

    @property
    def words(self) -> str:
        """Say what it is for."""
        kind = gpu_title(self.gpu_type) if self.gpu_type else "Every GPU type"
        return f"{kind} in {self.cluster or 'every cluster'}"

    @property
    def follow_url(self) -> str:
        """Give the form with this subject chosen."""
        return _form_url(self.cluster, self.gpu_type)


class AssetRates(ConsolePage):
    action = PlatformAction.VIEW_MONEY
    reason = "show what GPUs cost"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        costs = asset_costs(now - SHOWN, now, group_by=["cluster"])
        context = {
            "currency": settings.CURRENCY,
            "lines": rate_lines(now),
            "gap": _gap(unrated_gpus(now=now)),
            "costs": [_row(cost) for cost in costs if cost.currency],
            "notes": [*_unrated(costs), *_excess(now)],
            "days": SHOWN.days,
        }
        return self.render("console/asset_rates.html", context)


class AssetRateAdd(FormPage):
    action = PlatformAction.MANAGE_MONEY
    reason = "add an asset rate"
    form_class = AssetRateForm
    title = "Add an asset rate"
    submit_label = "Add rate"
    lede = "It follows the rate for the same GPUs. Tenants do not see it, and are not charged by it."

    def crumbs(self) -> list[dict[str, str]]:
        return [{"label": "GPU costs", "url": reverse("console:asset-rates")}]

    def initial(self) -> dict[str, Any]:
        return {
            name: self.request.GET[name] for name in AssetRateForm.base_fields if name in self.request.GET
        }

    def save(self, form: AssetRateForm) -> HttpResponse:
        chosen = form.cleaned_data
        rate = asset_rate_set(
            amount=chosen["amount"],
            currency=settings.CURRENCY,
            effective_from=chosen["effective_from"],
            cluster=chosen["cluster"].name if chosen["cluster"] else "",
            gpu_type=chosen["gpu_type"].name if chosen["gpu_type"] else "",
            note=chosen["note"],
        )
        audit(self.request.user, "asset-rate.add", **rate_facts(rate))
        self.say(
            f"{rate.amount.normalize():f} {rate.currency} per GPU-hour holds from "
            f"{rate.effective_from:%Y-%m-%d %H:%M} UTC."
        )
        return redirect("console:asset-rates")


def rate_lines(now: dt.datetime) -> list[Line]:
    """Give all rates, told apart by what they are for."""
    lines: dict[tuple[str, str], Line] = {}
    for rate in AssetRate.objects.order_by("-effective_from", "-id"):
        line = lines.setdefault((rate.cluster, rate.gpu_type), Line(rate.cluster, rate.gpu_type))
        if rate.effective_from > now:
            line.coming.insert(0, rate)
        elif line.now is None:
            line.now = rate
        else:
            line.followed.append(rate)
    return [lines[subject] for subject in sorted(lines)]


def _form_url(cluster: str, gpu_type: str) -> str:
    chosen = [f"{name}={value}" for name, value in (("cluster", cluster), ("gpu_type", gpu_type)) if value]
    return "?".join([reverse("console:asset-rate-add"), *(["&".join(chosen)] if chosen else [])])


def _row(cost: AssetCost) -> dict[str, Any]:
    used = cost.held - cost.idle
    return {
        "cluster": cost.group[0],
        "currency": cost.currency,
        "cost": cost.cost,
        "used": used,
        "idle": cost.idle,
        "free": cost.free,
        "platform": cost.platform,
        "used_percent": round(100 * used / cost.cost) if cost.cost else None,
    }


def _gap(unrated: list[Unrated]) -> dict[str, str] | None:
    """Say in one sentence which GPUs have no rate, and where to give the first of them one."""
    if not unrated:
        return None
    told = [f"{gap.gpus} {gpu_title(gap.gpu_type)} in {gap.cluster}" for gap in unrated[:MOST_TOLD]]
    if len(unrated) > MOST_TOLD:
        told.append(f"and {len(unrated) - MOST_TOLD} more")
    only = unrated[0] if len(unrated) == 1 else None
    return {
        "text": f"GPUs without a rate count as if they cost nothing: {', '.join(told)}.",
        "url": _form_url(only.cluster, only.gpu_type) if only else _form_url("", ""),
    }


def _unrated(costs: list[AssetCost]) -> list[str]:
    told = [f"{round(cost.gpu_seconds / 3600):,} in {cost.group[0]}" for cost in costs if not cost.currency]
    return [f"GPU-hours that had no rate count as 0: {', '.join(told)}."] if told else []


def _excess(now: dt.datetime) -> list[str]:
    told = [
        f"{row.time.excess / 3600:,.2f} in {row.group[0]}"
        for row in gpu_utilization(now - SHOWN, now, group_by=["cluster"])
        if row.time.excess
    ]
    why = "a node was lost or is not read, or clocks differ"
    return (
        [f"GPU-hours that were held although no node showed them ({why}): {', '.join(told)}."] if told else []
    )
