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
from billing.budgets.settling import budgets_settle
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
    basis: str | None = None,
    policy: str = Budget.Policy.BLOCK_NEW,
    alert_percents: Sequence[int] | None = None,
    mail_alerts: bool = True,
    recipients: Sequence[str] = (),
    active: bool = True,
) -> Budget:
    """Make a budget in the open tenant, in the tenant's currency. ``owner_id`` may be left out for the tenant.

    Without a ``basis`` GPU-hours are counted of GPU time, money and tokens of requests. Of GPU time, what is held
    already counts from the window's beginning.

    Raises:
        Invalid: the name is taken, the owner is none of the tenant's, a value is out of range, or they contradict.
    """
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    budget = Budget(
        tenant_id=tenant.id,
        name=name,
        owner_kind=owner_kind,
        owner_id=_owner(owner_kind, owner_id, tenant),
        unit=unit,
        basis=basis or _basis(unit),
        policy=policy,
        currency=tenant.currency if unit == Budget.Unit.MONEY else "",
        limit=limit,
        period=period,
        mail_alerts=mail_alerts,
        recipients=_addresses(recipients),
        active=active,
    )
    if alert_percents is not None:
        budget.alert_percents = sorted(set(alert_percents))
    _check(budget)
    budget.save()
    announce()
    _count(budget)
    return budget


@transaction.atomic
def budget_change(
    *,
    budget: Budget,
    name: str | None = None,
    limit: Decimal | None = None,
    policy: str | None = None,
    alert_percents: Sequence[int] | None = None,
    mail_alerts: bool | None = None,
    recipients: Sequence[str] | None = None,
    active: bool | None = None,
) -> Budget:
    """Change what is given. A new limit holds for the windows that run; what is spent already stays spent.

    Where a policy that only warned comes to refuse requests, or the other way round, requests of the seconds around
    the change may not be counted: usage arrives by segments, leases by reports.

    Raises:
        Invalid: the name is taken, a value is out of range, or they contradict.
    """
    wishes = {
        "name": name,
        "limit": limit,
        "policy": policy,
        "alert_percents": None if alert_percents is None else sorted(set(alert_percents)),
        "mail_alerts": mail_alerts,
        "recipients": None if recipients is None else _addresses(recipients),
        "active": active,
    }
    changed = [field for field, wish in wishes.items() if wish is not None and wish != getattr(budget, field)]
    for field in changed:
        setattr(budget, field, wishes[field])
    if not changed:
        return budget
    _check(budget)
    if "policy" in changed:
        # What a budget that only warned counted of requests is brought up to date before gateways hold it.
        _count(Budget.objects.get(id=budget.id))
    budget.save(update_fields=changed)
    announce()
    if "limit" in changed:
        _apply_limit(budget)
    _count(budget)
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
        if window.settled < budget.limit:
            # There is room again: that it is spent, or will be, may become true and be told anew.
            window.spent_at = window.forecast_at = None
    columns = ["limit", "excess", "recalls", "recalled_at", "spent_at", "forecast_at"]
    BudgetWindow.objects.bulk_update(windows, columns)
    exceeded = [window for window in windows if window.excess]
    for lessee in (
        BudgetLease.objects.filter(window__in=exceeded, granted__gt=F("settled"))
        .order_by()
        .values_list("lessee", flat=True)
        .distinct()
    ):
        notices.announce(CHANNEL, lessee)


def _basis(unit: str) -> str:
    return Budget.Basis.GPU_TIME if unit == Budget.Unit.GPU_HOURS else Budget.Basis.TOKENS


def _check(budget: Budget) -> None:
    """Refuse what contradicts itself, beside the field to be changed."""
    bases, units = Budget.Basis, Budget.Unit
    if budget.unit == units.TOKENS and budget.basis == bases.GPU_TIME:
        raise _invalid("basis", "GPU time is counted in money or GPU-hours, not in tokens.")
    if budget.unit == units.GPU_HOURS and budget.basis == bases.TOKENS:
        raise _invalid("basis", "GPU-hours are counted of GPU time, not of requests.")
    if budget.owner_kind == Budget.OwnerKind.KEY:
        if budget.basis == bases.GPU_TIME:
            field = "unit" if budget.unit == units.GPU_HOURS else "basis"
            raise _invalid(field, "A key holds no GPUs; make the budget for its project or the tenant.")
        if budget.policy == Budget.Policy.STOP:
            raise _invalid("policy", "A key has no endpoints to stop; choose to block its requests.")
    clean(budget)


def _invalid(field: str, text: str) -> Invalid:
    return Invalid(text, errors={field: [text]})


def _addresses(recipients: Sequence[str]) -> list[str]:
    return sorted({address.strip().lower() for address in recipients})


def _count(budget: Budget) -> None:
    """Count what the control plane counts of a budget now, not a minute later."""
    if budget.active and not budget.leased:
        budgets_settle([budget], now=timezone.now())


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
