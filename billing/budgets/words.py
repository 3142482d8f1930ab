"""What people read of budgets: amounts with their unit, whose a budget is, and where its page is."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.conf import settings

from billing.models import Budget
from tenants.models import ApiKey, Project, Tenant


def amount_text(budget: Budget, amount: Decimal) -> str:
    """Write an amount of a budget with its unit, for instance ``1,250.00 EUR`` or ``12.50 GPU-hours``."""
    if budget.unit == Budget.Unit.MONEY:
        return f"{amount:,.2f} {budget.currency}"
    if budget.unit == Budget.Unit.GPU_HOURS:
        return f"{amount:,.2f} GPU-hours"
    return f"{amount:,.0f} tokens"


def owner_text(budget: Budget) -> str:
    """Say whose a budget is, for instance ``project Search``; one query."""
    models = {
        Budget.OwnerKind.TENANT: Tenant,
        Budget.OwnerKind.PROJECT: Project,
        Budget.OwnerKind.KEY: ApiKey,
    }
    model = models[Budget.OwnerKind(budget.owner_kind)]
    name = model.objects.filter(id=budget.owner_id).values_list("name", flat=True).first()
    return f"{budget.owner_kind} {name or budget.owner_id}"


def budget_url(slug: str, budget_id: uuid.UUID) -> str:
    """Give the address of a budget's page, empty where the portal's own is not set."""
    return f"{settings.PORTAL_PUBLIC_URL}/t/{slug}/budgets/{budget_id}" if settings.PORTAL_PUBLIC_URL else ""
