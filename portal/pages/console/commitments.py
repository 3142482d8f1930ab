"""What operators agree on with a tenant: its commitments, and credits granted to it."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from billing.commitments import MOST_GPUS, commitment_create, commitment_end_early
from billing.credits import credit_grant
from billing.models import Commitment
from clusters.models import GpuType, Region
from portal.pages.base import ConsolePage
from portal.pages.commitments_shown import agreements_shown
from portal.pages.console.forms import ConsoleForm, FormPage, MomentInput
from portal.pages.console.tenants import find_tenant
from tenants import scope
from tenants.audit import audit
from tenants.errors import NotFound
from tenants.models import Tenant
from tenants.roles import PlatformAction


class CommitmentForm(ConsoleForm):
    name = forms.CharField(max_length=80, help_text="Its statements call it so.")
    gpu_type = forms.ModelChoiceField(
        GpuType.objects.all(), to_field_name="name", empty_label="Choose", label="GPU type"
    )
    region = forms.ModelChoiceField(
        Region.objects.all(), to_field_name="code", required=False, empty_label="Every region"
    )
    gpus = forms.IntegerField(min_value=1, max_value=MOST_GPUS, label="GPUs")
    rate = forms.DecimalField(
        min_value=0, max_digits=20, decimal_places=10, label="Rate per GPU-hour",
        help_text="In the tenant's currency, for every hour, held or not.",
    )  # fmt: skip
    starts_at = forms.DateTimeField(
        widget=MomentInput(), label="From (UTC)", help_text="In the tenant's running month, or later."
    )
    ends_at = forms.DateTimeField(
        widget=MomentInput(), label="Until (UTC)", help_text="This moment not included."
    )
    note = forms.CharField(
        max_length=200, required=False, help_text="For operators; the tenant does not see it."
    )

    groups = (
        ("What", "", ("name", "gpu_type", "region", "gpus")),
        ("For how much and how long", "", ("rate", "starts_at", "ends_at", "note")),
    )


class EndForm(ConsoleForm):
    ends_at = forms.DateTimeField(
        widget=MomentInput(), label="Ends at (UTC)", help_text="Earlier than agreed, and not in the past."
    )


class CreditForm(ConsoleForm):
    amount = forms.DecimalField(max_digits=20, decimal_places=4, help_text="In the tenant's currency.")
    reason = forms.CharField(max_length=200, help_text="Its statements show it.")
    available_from = forms.DateTimeField(
        required=False, widget=MomentInput(), label="Available from (UTC)", help_text="Empty: from now."
    )
    expires_at = forms.DateTimeField(
        required=False, widget=MomentInput(), label="Expires at (UTC)", help_text="Empty: never."
    )


class TenantCommitments(ConsolePage):
    action = PlatformAction.VIEW_MONEY
    reason = "show what is agreed with a tenant"

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        tenant = find_tenant(slug)
        with scope.tenant(tenant.id):
            shown = agreements_shown(now=timezone.now())
        context = {
            "tenant": tenant,
            **shown,
            "breadcrumbs": [*tenant_crumbs(tenant), {"label": "Commitments and credits"}],
        }
        return self.render("console/commitments.html", context)


class OfTenant(FormPage):
    """A form about the tenant in the path."""

    action = PlatformAction.MANAGE_MONEY

    @property
    def tenant(self) -> Tenant:
        return find_tenant(self.kwargs["slug"])

    def crumbs(self) -> list[dict[str, str]]:
        url = reverse("console:tenant-commitments", args=[self.kwargs["slug"]])
        return [*tenant_crumbs(self.tenant), {"label": "Commitments and credits", "url": url}]

    def done(self, text: str) -> HttpResponse:
        """Say what was done and show what is agreed."""
        self.say(text)
        return redirect("console:tenant-commitments", self.kwargs["slug"])


class CommitmentAdd(OfTenant):
    reason = "agree on a commitment with a tenant"
    form_class = CommitmentForm
    title = "Add a commitment"
    submit_label = "Add commitment"
    lede = (
        "GPUs that are paid for every hour, held or not; what is held beyond them is at list price. "
        "Nothing of it can be changed later but its end, to an earlier time."
    )

    def save(self, form: CommitmentForm) -> HttpResponse:
        chosen, tenant = dict(form.cleaned_data), self.tenant
        chosen["gpu_type"] = chosen["gpu_type"].name
        chosen["region"] = chosen["region"].code if chosen["region"] else ""
        made = commitment_create(tenant=tenant, **chosen)
        audit(
            self.request.user,
            "commitment.create",
            tenant=tenant.slug,
            commitment=str(made.id),
            gpus=made.gpus,
        )
        return self.done(f"{tenant.name} has committed to {made.gpus} x {made.gpu_type}.")


class CommitmentEnd(OfTenant):
    reason = "let a tenant's commitment end early"
    form_class = EndForm
    title = "End early"
    submit_label = "Set the end"
    lede = (
        "What it covered until then stays as it was charged. It cannot be made longer again: add another one."
    )

    @property
    def commitment(self) -> Commitment:
        found = Commitment.objects.filter(tenant=self.tenant, id=self.kwargs["id"]).first()
        if found is None:
            raise NotFound("There is no such commitment.")
        return found

    def heading(self) -> str:
        return f"End {self.commitment.name} early"

    def initial(self) -> dict[str, Any]:
        soon = timezone.now().replace(second=0, microsecond=0) + dt.timedelta(hours=1)
        return {"ends_at": max(soon, self.commitment.starts_at)}

    def save(self, form: EndForm) -> HttpResponse:
        ended = commitment_end_early(commitment=self.commitment, **form.cleaned_data)
        audit(
            self.request.user, "commitment.end", tenant=self.kwargs["slug"], commitment=str(ended.id),
            ends_at=ended.ends_at.isoformat(),
        )  # fmt: skip
        return self.done(f"{ended.name} ends at {ended.ends_at:%Y-%m-%d %H:%M} UTC.")


class CreditGrant(OfTenant):
    reason = "grant a tenant a credit"
    form_class = CreditForm
    title = "Grant a credit"
    submit_label = "Grant credit"
    lede = "Its statements take it off until it is used up or expires. A grant is never edited or taken back."

    def save(self, form: CreditForm) -> HttpResponse:
        tenant = self.tenant
        made = credit_grant(tenant=tenant, **form.cleaned_data)
        audit(
            self.request.user,
            "credit.grant",
            tenant=tenant.slug,
            credit=str(made.id),
            amount=f"{made.amount:f}",
        )
        return self.done(f"{tenant.name} has a credit of {made.amount.normalize():f} {made.currency}.")


def tenant_crumbs(tenant: Tenant) -> list[dict[str, str]]:
    """Give the way to a tenant's page."""
    return [
        {"label": "Tenants", "url": reverse("console:tenants")},
        {"label": tenant.name, "url": reverse("console:tenant", args=[tenant.slug])},
    ]
