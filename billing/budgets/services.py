"""What can be done to budgets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from billing.budgets import lending
from billing.budgets.ledger import CHANNEL
from billing.models import Budget, BudgetLease, BudgetWindow
from tenants import notices, scope
from tenants.announcements import announce
from tenants.errors import Invalid
from tenants.models import ApiKey, KeyScope, Project, Tenant
from tenants.validation import clean


@transaction.atomic
def budget_create(
    *,
    name: str,
    unit: str,
    limit: Decimal,
    period: str,
    owner_kind: str = Budget.OwnerKind.TENANT,
    owner_id: uuid.UUID | None = None,
    alert_percents: Sequence[int] | None = None,
    active: bool = True,
) -> Budget:
    """Make a budget in the open tenant, in the tenant's currency. ``owner_id`` may be left out for the tenant.

    Raises:
        Invalid: the name is taken, the owner is none of the tenant's, or a value is out of range.
    """
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    budget = Budget(
        tenant_id=tenant.id,
        name=name,
        owner_kind=owner_kind,
        owner_id=_owner(owner_kind, owner_id, tenant),
        unit=unit,
        currency=tenant.currency if unit == Budget.Unit.MONEY else "",
        limit=limit,
        period=period,
        active=active,
    )
    if alert_percents is not None:
        budget.alert_percents = sorted(set(alert_percents))
    clean(budget)
    budget.save()
    announce()
    return budget


@transaction.atomic
def budget_change(
    *,
    budget: Budget,
    name: str | None = None,
    limit: Decimal | None = None,
    alert_percents: Sequence[int] | None = None,
    active: bool | None = None,
) -> Budget:
    """Change what is given. A new limit holds for the windows that run; what is spent already stays spent.

    Raises:
        Invalid: the name is taken or a value is out of range.
    """
    wishes = {
        "name": name,
        "limit": limit,
        "alert_percents": None if alert_percents is None else sorted(set(alert_percents)),
        "active": active,
    }
    changed = [field for field, wish in wishes.items() if wish is not None and wish != getattr(budget, field)]
    for field in changed:
        setattr(budget, field, wishes[field])
    if not changed:
        return budget
    clean(budget)
    budget.save(update_fields=changed)
    announce()
    if "limit" in changed:
        _apply_limit(budget)
    return budget


@transaction.atomic
def budget_delete(*, budget: Budget) -> None:
    """Remove a budget with its history; what gateways hold of it holds up nobody any more."""
    budget.delete()
    announce()


def _apply_limit(budget: Budget) -> None:
    now = timezone.now()
    windows = list(
        BudgetWindow.objects.select_for_update().filter(budget=budget, end__gt=now).order_by("start")
    )
    for window in windows:
        lending.limit_to(window, budget.limit, now=now)
    BudgetWindow.objects.bulk_update(windows, ["limit", "excess", "recalls", "recalled_at"])
    exceeded = [window for window in windows if window.excess]
    for lessee in (
        BudgetLease.objects.filter(window__in=exceeded, granted__gt=F("settled"))
        .order_by()
        .values_list("lessee", flat=True)
        .distinct()
    ):
        notices.announce(CHANNEL, lessee)


def _owner(kind: str, owner_id: uuid.UUID | None, tenant: Tenant) -> uuid.UUID:
    if kind == Budget.OwnerKind.TENANT:
        found = owner_id in (None, tenant.id)
        owner_id = tenant.id
    elif kind == Budget.OwnerKind.PROJECT:
        found = Project.objects.filter(id=owner_id).exists()
    elif kind == Budget.OwnerKind.KEY:
        found = ApiKey.objects.filter(id=owner_id, scope=KeyScope.INFERENCE, ephemeral=False).exists()
    else:
        raise Invalid(
            f"{kind!r} owns no budgets.",
            errors={"owner_kind": [f"Choose one of {', '.join(Budget.OwnerKind.values)}."]},
        )
    if not found or owner_id is None:
        raise Invalid(
            f"There is no such {kind} in this tenant.",
            errors={"owner_id": [f"Give the id of one of the tenant's {kind}s."]},
        )
    return owner_id
