"""Reserving GPU time in budgets before GPUs are reserved, and giving it back. Clusters calls this.

Callers hold the tenant's row and a transaction, so that GPUs and money are reserved together or not at all.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from decimal import Decimal

from django.db.models import F, Q
from django.utils import timezone

from billing.budgets.counting import Gpus, GpuTime
from billing.budgets.settling import budgets_settle
from billing.budgets.words import amount_text, owner_text
from billing.errors import OverBudget
from billing.models import Budget, BudgetWindow, GpuClaim
from gateway import contract
from tenants import scope
from tenants.models import Project, Tenant


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetEffect:
    """What an order would do to one budget, in its unit, until ``resets_at``.

    ``asked`` is what the order reserves beside what is ``spent`` and ``reserved`` already. Where it does not ``fit``, a
    budget that blocks or stops refuses it.
    """

    budget: Budget
    limit: Decimal
    spent: Decimal
    reserved: Decimal
    asked: Decimal
    resets_at: dt.datetime

    @property
    def fits(self) -> bool:
        return self.spent + self.reserved + self.asked <= self.limit

    @property
    def refuses(self) -> bool:
        """Whether the order would be refused for it."""
        return not self.fits and self.budget.policy != Budget.Policy.WARN


def gpus_claim(
    *,
    project: Project,
    endpoint_id: uuid.UUID,
    region: str,
    gpu_type: str,
    gpus: int,
    price_factor: Decimal,
    now: dt.datetime | None = None,
    refuse: bool = True,
) -> None:
    """Reserve what ``gpus`` devices of an endpoint cost until each window ends, in place of what it reserved before.

    What asks for no more than before is never refused, nor anything without ``refuse``, which is for going back to
    what runs.

    Raises:
        OverBudget: it does not fit into a budget of its project or tenant that blocks or stops.
    """
    now = now or timezone.now()
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    held = GpuClaim.objects.filter(endpoint_id=endpoint_id).first()
    before = Gpus.of(held) if held else None
    facts = {
        "project_id": project.id,
        "region": region,
        "gpu_type": gpu_type,
        "gpus": gpus,
        "price_factor": price_factor,
    }
    after = Gpus(endpoint_id=endpoint_id, **facts)
    if after == before:
        return
    if refuse and (before is None or after.gpus > before.gpus):
        _refuse_where_stopped(project, now)
    GpuClaim.objects.update_or_create(tenant_id=tenant.id, endpoint_id=endpoint_id, defaults=facts)
    budgets = list(_reserving(project.id))
    if not budgets:
        return
    windows = budgets_settle(budgets, now=now)
    if not refuse:
        return
    time = GpuTime(tenant_id=tenant.id, currency=tenant.currency)
    for window in windows:
        if window.budget.policy == Budget.Policy.WARN or window.granted <= window.limit:
            continue
        asked = time.amount(window.budget, time.ahead(after, now, window.end))
        held_before = (
            time.amount(window.budget, time.ahead(before, now, window.end)) if before else Decimal(0)
        )
        if asked > held_before:
            reserved = window.granted - window.settled - asked + held_before
            raise _over(window, tenant, reserved=reserved, asked=asked - held_before)


def gpus_unclaim(*, endpoint_id: uuid.UUID, now: dt.datetime | None = None) -> None:
    """Give back what an endpoint reserved, once it holds no GPUs any more. Repeating it changes nothing."""
    claim = GpuClaim.objects.filter(endpoint_id=endpoint_id).first()
    if claim is None:
        return
    claim.delete()
    budgets_settle(list(_reserving(claim.project_id)), now=now or timezone.now())


def budget_effects(
    *, project: Project | None, gpus: Gpus | None, now: dt.datetime | None = None
) -> list[BudgetEffect]:
    """Give what reserving ``gpus`` for a new endpoint would do to the budgets of GPU time, by name.

    Without a ``project`` those of the tenant alone. Nothing is settled for it: what is spent is seconds behind.
    """
    now = now or timezone.now()
    if gpus is None:
        return []
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    budgets = list(_reserving(project.id if project else None).order_by("name"))
    if not budgets:
        return []
    windows = {
        window.budget_id: window
        for window in BudgetWindow.objects.filter(budget__in=budgets, start__lte=now, end__gt=now)
    }
    time = GpuTime(tenant_id=tenant.id, currency=tenant.currency)
    effects = []
    for budget in budgets:
        window = windows.get(budget.id)
        period = contract.BudgetPeriod(budget.period)
        end = window.end if window else contract.budget_window(period, tenant.time_zone, now)[1]
        effects.append(
            BudgetEffect(
                budget=budget,
                limit=window.limit if window else budget.limit,
                spent=window.settled if window else Decimal(0),
                reserved=window.granted - window.settled if window else Decimal(0),
                asked=time.amount(budget, time.ahead(gpus, now, end)),
                resets_at=end,
            )
        )
    return effects


def _reserving(project_id: uuid.UUID | None):
    kinds = Budget.OwnerKind
    of_owner = Q(owner_kind=kinds.TENANT) | Q(owner_kind=kinds.PROJECT, owner_id=project_id)
    return Budget.objects.filter(of_owner, basis=Budget.Basis.GPU_TIME, active=True).order_by("id")


def _refuse_where_stopped(project: Project, now: dt.datetime) -> None:
    """Refuse GPUs to an owner whose endpoints a spent budget of requests has stopped."""
    kinds = Budget.OwnerKind
    of_owner = Q(budget__owner_kind=kinds.TENANT) | Q(
        budget__owner_kind=kinds.PROJECT, budget__owner_id=project.id
    )
    window = (
        BudgetWindow.objects.filter(
            of_owner,
            budget__basis=Budget.Basis.TOKENS,
            budget__policy=Budget.Policy.STOP,
            budget__active=True,
            start__lte=now,
            end__gt=now,
            settled__gte=F("limit"),
        )
        .select_related("budget")
        .first()
    )
    if window is not None:
        tenant = Tenant.objects.get(id=window.tenant_id)
        raise _over(window, tenant, reserved=window.granted - window.settled, asked=Decimal(0))


def _over(window: BudgetWindow, tenant: Tenant, *, reserved: Decimal, asked: Decimal) -> OverBudget:
    budget = window.budget
    owner = owner_text(budget)

    def text(amount: Decimal) -> str:
        return amount_text(budget, amount)

    needs = f"this would reserve {text(asked)} until it resets" if asked else "it stops its owner's endpoints"
    return OverBudget(
        f"The budget {budget.name} of {owner} does not allow it: {text(window.settled)} of {text(window.limit)} are "
        f"spent, {text(reserved)} reserved, and {needs} at {window.end.isoformat()}. Ask for less, give something "
        "back, raise the limit, or wait.",
        budget_id=str(budget.id),
        budget=budget.name,
        owner=owner,
        unit=budget.unit,
        currency=budget.currency,
        limit=_plain(window.limit),
        spent=_plain(window.settled),
        reserved=_plain(reserved),
        asked=_plain(asked),
        resets_at=window.end.isoformat(),
    )


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
