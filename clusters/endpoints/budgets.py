"""What budgets mean for endpoints: those of an owner whose budget stops them are paused once it is spent."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
import zoneinfo

from billing.budgets.counting import Gpus
from billing.budgets.reserving import BudgetEffect, budget_effects
from billing.budgets.selectors import SpentBudget, budgets_that_stop
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.services import endpoint_pause
from clusters.models import Endpoint, Wanted
from clusters.planning.plans import Plan
from tenants import scope
from tenants.models import Project

log = logging.getLogger(__name__)

ACTOR = "Berth"
_NEW = uuid.UUID(int=0)


def endpoints_stop_spent(*, now: dt.datetime) -> int:
    """Pause the endpoints of owners whose stopping budget is spent; gives how many were paused.

    Shared endpoints go on: other tenants use them, and pay for that. A person resumes what was paused.
    """
    with scope.platform("find budgets that stop endpoints"):
        spent = budgets_that_stop(now=now)
    return sum(_stop(each) for each in spent)


def budget_effect(plan: Plan, terms: OrderTerms, *, project: Project | None) -> list[BudgetEffect]:
    """Give what carrying out ``plan`` as a new endpoint would reserve in budgets; none where nothing is placed."""
    chosen = plan.configuration
    if chosen is None:
        return []
    # No endpoint and no project of that id need exist: it stands for the one to be ordered.
    gpus = Gpus(
        project_id=project.id if project else _NEW,
        endpoint_id=_NEW,
        region=chosen.region,
        gpu_type=chosen.gpu,
        gpus=chosen.gpus,
        price_factor=terms.slo_class.price_factor,
    )
    return budget_effects(project=project, gpus=gpus)


def _stop(spent: SpentBudget) -> int:
    with scope.tenant(spent.tenant_id):
        running = Endpoint.objects.live().filter(wanted=Wanted.RUNNING, shared=False)
        if spent.project_id is not None:
            running = running.filter(project=spent.project_id)
        ids = list(running.order_by("id").values_list("id", flat=True))
    resets = spent.resets_at.astimezone(zoneinfo.ZoneInfo(spent.time_zone))
    why = (
        f"Paused: the budget {spent.name} is spent until {resets:%Y-%m-%d %H:%M} ({spent.time_zone}). Resume it then, "
        "or once the limit is raised."
    )
    return sum(_pause(spent.tenant_id, endpoint_id, why) for endpoint_id in ids)


def _pause(tenant_id: uuid.UUID, endpoint_id: uuid.UUID, why: str) -> bool:
    """Pause one endpoint in a transaction of its own: whoever orders meanwhile waits for one pause, not for all."""
    try:
        with scope.tenant(tenant_id):
            endpoint = Endpoint.objects.live().filter(id=endpoint_id).first()
            if endpoint is None or endpoint.wanted != Wanted.RUNNING or endpoint.shared:
                return False
            endpoint_pause(endpoint=endpoint, actor=ACTOR, why=why)
    except Exception:
        log.exception("endpoint %s, whose budget is spent, cannot be paused", endpoint_id)
        return False
    return True
