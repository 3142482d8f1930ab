"""Tenants: who they are, what they hold of their quotas, what they cost; opening one, setting its GPU quota."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import Counter
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.budgets.selectors import budget_states
from billing.costs import cost_summary
from billing.models import Budget
from billing.reports.costs import costs_by_tenant
from clusters.endpoints.selectors import endpoint_list
from clusters.inventory.selectors import gpus_held_by_tenant
from clusters.models import Endpoint
from portal.pages.base import ConsolePage
from portal.pages.budgets import shown
from portal.pages.console.forms import ConsoleForm, FormPage
from portal.pages.limits_form import RatesForm, rates_of, rates_told, served_for
from tenants import scope, services
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.limits import RATES, tenant_limits_set
from tenants.models import Membership, Quota, Tenant
from tenants.roles import PlatformAction

MOST_GPUS = 1_000_000


class TenantForm(ConsoleForm):
    name = forms.CharField(max_length=120, help_text="The organisation.")
    slug = forms.CharField(
        max_length=40, help_text="In its addresses: lower-case letters, digits and hyphens."
    )
    time_zone = forms.ChoiceField(
        choices=[(zone, zone) for zone in sorted(zoneinfo.available_timezones())],
        initial="UTC",
        help_text="Its statements follow the months of this zone.",
    )
    gpus = forms.IntegerField(min_value=0, max_value=MOST_GPUS, initial=0, label="GPU quota")
    owner_email = forms.EmailField(
        label="Owner's e-mail address",
        help_text="An account is made where there is none. The owner adds the others.",
    )
    owner_name = forms.CharField(max_length=120, required=False, label="Owner's name")
    password = forms.CharField(
        max_length=128, required=False, strip=False, label="First password",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="For a new account only. Empty: the owner chooses one by way of a password reset.",
    )  # fmt: skip

    groups = (
        ("Tenant", "", ("name", "slug", "time_zone", "gpus")),
        ("Owner", "", ("owner_email", "owner_name", "password")),
    )


class QuotaForm(ConsoleForm):
    gpus = forms.IntegerField(
        min_value=0, max_value=MOST_GPUS, label="GPU quota",
        help_text="What is held already goes on, even above it; only new GPUs are refused.",
    )  # fmt: skip


class TenantLimitsForm(RatesForm, ConsoleForm):
    share = forms.FloatField(
        min_value=0.01, max_value=100, initial=1, label="Weight on shared endpoints",
        help_text="Beside other tenants when a shared endpoint is full: with 2 it gets twice what one with 1 gets.",
    )  # fmt: skip

    groups = (
        ("Limits", "Of all its keys together, over all gateways; what is above is refused with 429.", RATES),
        ("Shared endpoints", "", ("share",)),
    )


class Tenants(ConsolePage):
    action = PlatformAction.VIEW_TENANTS
    reason = "list tenants with what they hold and cost"

    def get(self, request: HttpRequest) -> HttpResponse:
        now = timezone.now()
        held = gpus_held_by_tenant()
        limits = dict(Quota.objects.filter(resource="gpus").values_list("tenant_id", "limit"))
        endpoints = Counter(Endpoint.objects.live().values_list("tenant_id", flat=True))
        costs = costs_by_tenant(month=_month(now).date())
        rows = [
            {
                "tenant": tenant,
                "held": held[tenant.id],
                "limit": limits.get(tenant.id),
                "endpoints": endpoints[tenant.id],
                "cost": costs.get(tenant.id),
            }
            for tenant in Tenant.objects.all()
        ]
        return self.render("console/tenants.html", {"rows": rows, "month": _month(now)})


class TenantDetail(ConsolePage):
    action = PlatformAction.VIEW_TENANTS
    reason = "show a tenant to an operator"

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        tenant = find_tenant(slug)
        now = timezone.now()
        with scope.tenant(tenant.id):
            cost = cost_summary(start=_month(now), end=now, now=now).total
        context = {
            "breadcrumbs": [_crumb(), {"label": tenant.name}],
            "tenant": tenant,
            "facts": [
                {"label": "Slug", "value": tenant.slug, "code": True},
                {"label": "Time zone", "value": tenant.time_zone},
                {"label": "Currency", "value": tenant.currency},
                {"label": "Limits", "value": ", ".join(rates_told(tenant)) or "none"},
                {"label": "Weight on shared endpoints", "value": f"{tenant.share:g}"},
                {"label": "At a gateway cut off from Berth", "value": served_for(tenant)},
                {"label": "Files and batches", "value": f"kept {tenant.files_days} days"},
            ],
            "budgets": [
                shown(state)
                for state in budget_states(Budget.objects.filter(tenant=tenant).order_by("name"), now=now)
            ],
            "held": gpus_held_by_tenant()[tenant.id],
            "limit": Quota.objects.filter(tenant=tenant, resource="gpus")
            .values_list("limit", flat=True)
            .first(),
            "cost": cost,
            "endpoints": endpoint_list().live().filter(tenant=tenant).order_by("name"),
            "members": Membership.objects.filter(tenant=tenant)
            .select_related("user")
            .order_by("user__email"),
        }
        return self.render("console/tenant.html", context)


class TenantOpen(FormPage):
    action = PlatformAction.MANAGE_TENANTS
    reason = "open a tenant"
    form_class = TenantForm
    title = "Open a tenant"
    submit_label = "Open tenant"

    def crumbs(self) -> list[dict[str, str]]:
        return [_crumb()]

    def save(self, form: TenantForm) -> HttpResponse:
        tenant = services.tenant_open(**form.cleaned_data, currency=settings.CURRENCY)
        audit(
            self.request.user, "tenant.open", tenant=tenant.slug, owner=form.cleaned_data["owner_email"],
            gpus=form.cleaned_data["gpus"],
        )  # fmt: skip
        self.say(f"Tenant {tenant.name} is open. Its owner is {form.cleaned_data['owner_email']}.")
        return redirect("console:tenant", tenant.slug)


class TenantQuota(FormPage):
    action = PlatformAction.MANAGE_TENANTS
    reason = "set a tenant's GPU quota"
    form_class = QuotaForm
    title = "GPU quota"
    submit_label = "Set quota"

    def heading(self) -> str:
        return f"GPU quota of {find_tenant(self.kwargs['slug']).name}"

    def crumbs(self) -> list[dict[str, str]]:
        tenant = find_tenant(self.kwargs["slug"])
        return [_crumb(), {"label": tenant.name, "url": reverse("console:tenant", args=[tenant.slug])}]

    def initial(self) -> dict[str, Any]:
        quota = Quota.objects.filter(tenant=find_tenant(self.kwargs["slug"]), resource="gpus").first()
        return {"gpus": quota.limit if quota else 0}

    def save(self, form: QuotaForm) -> HttpResponse:
        tenant = find_tenant(self.kwargs["slug"])
        with scope.tenant(tenant.id):
            services.quota_set(resource="gpus", limit=form.cleaned_data["gpus"])
        audit(
            self.request.user,
            "quota.set",
            tenant=tenant.slug,
            resource="gpus",
            limit=form.cleaned_data["gpus"],
        )
        self.say(f"{tenant.name} may hold {form.cleaned_data['gpus']} GPUs.")
        return redirect("console:tenant", tenant.slug)


class TenantLimits(FormPage):
    action = PlatformAction.MANAGE_TENANTS
    reason = "limit a tenant at gateways"
    form_class = TenantLimitsForm
    title = "Limits"
    submit_label = "Set limits"

    def heading(self) -> str:
        return f"Limits of {find_tenant(self.kwargs['slug']).name}"

    def crumbs(self) -> list[dict[str, str]]:
        tenant = find_tenant(self.kwargs["slug"])
        return [_crumb(), {"label": tenant.name, "url": reverse("console:tenant", args=[tenant.slug])}]

    def initial(self) -> dict[str, Any]:
        tenant = find_tenant(self.kwargs["slug"])
        return {**rates_of(tenant), "share": tenant.share}

    def save(self, form: TenantLimitsForm) -> HttpResponse:
        tenant = find_tenant(self.kwargs["slug"])
        tenant_limits_set(tenant=tenant, limits=form.taken(), share=form.cleaned_data["share"])
        audit(self.request.user, "tenant.limits", tenant=tenant.slug, **form.cleaned_data)
        self.say(f"The limits of {tenant.name} are set; gateways follow within a second.")
        return redirect("console:tenant", tenant.slug)


def find_tenant(slug: str) -> Tenant:
    """Find a tenant by its slug.

    Raises:
        NotFound: there is none.
    """
    tenant = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise NotFound("There is no such tenant.")
    return tenant


def _crumb() -> dict[str, str]:
    return {"label": "Tenants", "url": reverse("console:tenants")}


def _month(now: dt.datetime) -> dt.datetime:
    return now.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
