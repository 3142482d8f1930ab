"""Reading how an endpoint's replicas are chosen: by whom, between what, and what that costs."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

from django.db.models import QuerySet

from billing.budgets.counting import Gpus
from billing.budgets.reserving import BudgetEffect, budget_effects
from billing.models import GpuClaim
from clusters.endpoints import placement
from clusters.endpoints.autoscaling.bounds import Bounds, DecidedBy, bounds_now, decided_by, planned_bounds
from clusters.endpoints.autoscaling.decisions import price_of_one
from clusters.endpoints.autoscaling.setting import scaling_of, schedules_of
from clusters.inventory.drivers import autoscaler_of
from clusters.models import Condition, Endpoint, EndpointScaling, Revision, ScalingDecision


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingShown:
    """How an endpoint's replicas are chosen. Prices are per hour at today's prices, None while it has no place.

    ``planned_floor`` and ``planned_ceiling`` stand where nothing else is said; ``budgets`` are what the ceiling would
    reserve beyond what is reserved for it now. ``should_have`` are the replicas that were right when it was looked at
    last and that it could not get, 0 where it has them.
    """

    endpoint: Endpoint
    scaling: EndpointScaling
    revision: Revision | None
    by: DecidedBy
    bounds: Bounds
    planned_floor: int
    planned_ceiling: int
    price_each: Decimal | None
    budgets: list[BudgetEffect]
    should_have: int

    @property
    def lacks(self) -> int:
        """Replicas that it should have besides, for want of GPUs or of anything else."""
        return max(0, self.should_have - self.replicas)

    @property
    def replicas(self) -> int:
        return self.revision.replicas if self.revision else 0

    @property
    def autoscaler(self) -> str:
        return autoscaler_of(self.revision.cluster) if self.revision else "none"

    @property
    def price_now(self) -> Decimal | None:
        return self._price(self.replicas)

    @property
    def price_at_floor(self) -> Decimal | None:
        return self._price(self.bounds.floor)

    @property
    def price_at_ceiling(self) -> Decimal | None:
        return self._price(self.bounds.ceiling)

    def _price(self, replicas: int) -> Decimal | None:
        return None if self.price_each is None else self.price_each * replicas


def scaling_shown(endpoint: Endpoint, *, now: dt.datetime) -> ScalingShown:
    """Read how an endpoint's replicas are chosen now."""
    scaling, revision = scaling_of(endpoint), placement.current_revision(endpoint)
    bounds = bounds_now(endpoint, scaling, revision, schedules_of(endpoint), now=now)
    floor, ceiling = planned_bounds(revision, endpoint)
    return ScalingShown(
        endpoint=endpoint,
        scaling=scaling,
        revision=revision,
        by=decided_by(scaling, revision),
        bounds=bounds,
        planned_floor=floor,
        planned_ceiling=ceiling,
        price_each=price_of_one(endpoint, revision) if revision else None,
        budgets=_at_ceiling(endpoint, revision, bounds.ceiling),
        should_have=max(scaling.wants, _refused(endpoint) if scaling.enabled else 0),
    )


def scaling_decisions(endpoint: Endpoint) -> QuerySet[ScalingDecision]:
    """Give what was decided of an endpoint's replicas, newest first."""
    return ScalingDecision.objects.filter(endpoint=endpoint).order_by("-id")


def _refused(endpoint: Endpoint) -> int:
    """Give how many replicas were refused it, 0 where nothing is refused now."""
    held = Condition.objects.filter(
        endpoint=endpoint, type=Condition.Type.SCALING, status=Condition.Status.FALSE
    )
    newest = scaling_decisions(endpoint).first()
    if newest is None or newest.outcome != ScalingDecision.Outcome.REFUSED or not held.exists():
        return 0
    return newest.after


def _at_ceiling(endpoint: Endpoint, revision: Revision | None, ceiling: int) -> list[BudgetEffect]:
    if revision is None:
        return []
    claim = GpuClaim.objects.filter(endpoint_id=endpoint.id).first()
    more = ceiling * revision.gpus_per_replica - (claim.gpus if claim else 0)
    if more <= 0:
        return []
    gpus = Gpus(
        project_id=endpoint.project_id,
        endpoint_id=endpoint.id,
        region=revision.cluster.region.code,
        gpu_type=revision.gpu_type,
        gpus=more,
        price_factor=revision.price_factor,
    )
    return budget_effects(project=endpoint.project, gpus=gpus)
