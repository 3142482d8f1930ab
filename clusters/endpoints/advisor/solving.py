"""The fleet as the planner's problem, solved one currency after the other."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from clusters.endpoints.advisor.fleet import GPUS, Fleet, Place, Subject
from clusters.models import AdvicePolicy
from clusters.planning.placement.fleet import (
    FleetEndpoint,
    FleetOption,
    FleetPool,
    FleetProblem,
    FleetQuota,
)
from clusters.planning.placement.solve import solve
from clusters.planning.plans import price_text
from clusters.planning.problem import Pool
from clusters.planning.search.fits import NEAR_WORTH

#: What leaving an endpoint without a place counts as: so many times the dearest place in its currency.
PENALTY: Final = 10.0
#: How much more it counts to leave one without that runs now: it stays where it is, at the worst.
RUNS_NOW: Final = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where everything would run, None where it found no place, and how good that is.

    ``objective`` is money per hour with what moving and waiting count as; no placement is below ``bound``.
    """

    places: Mapping[Any, Place | None]
    status: str
    objective: float
    bound: float
    seconds: float

    def to_document(self) -> dict[str, Any]:
        """Give what is told of the solver, as JSON-ready builtins."""
        return {
            "status": self.status,
            "objective": _money(self.objective),
            "bound": _money(self.bound),
            "distance": _money(max(0.0, self.objective - self.bound)),
            "seconds": round(self.seconds, 3),
        }


def replan(
    fleet: Fleet, policy: AdvicePolicy, *, besides: Collection[Any] = ()
) -> Iterator[tuple[str, Outcome]]:
    """Plan each currency's endpoints anew, those of the most GPUs first; prices of two are never compared.

    Endpoints in ``besides`` stay where they are. GPUs that one currency's endpoints would take are not offered to
    the next one's; those that they would leave are not either, as they leave them only once they have moved.
    """
    free = {pool.id: list(pool.free) for pools in fleet.pools.values() for pool in pools.values()}
    limit_s = policy.solve_limit_s / max(1, len(fleet.currencies))
    for currency in fleet.currencies:
        pools = fleet.pools[currency]
        problem = _Problem(fleet, pools, free, policy)
        for subject in fleet.of_currency(currency):
            if subject.endpoint.id not in besides:
                problem.add(subject)
        if problem.endpoints:
            yield currency, problem.solve(limit_s)


class _Problem:
    """One currency's part of the fleet, as the solver takes it.

    Every pool is offered as a GPU type of its own, and every way to serve an endpoint in one of its pools as an
    option: which pools an order may use was judged by all of the planner's rules before.
    """

    def __init__(
        self, fleet: Fleet, pools: Mapping[str, Pool], free: dict[str, list[int]], policy: AdvicePolicy
    ) -> None:
        self.endpoints: list[FleetEndpoint] = []
        self._pools = pools
        self._regions = {pool.region for pool in pools.values()}
        self._price = statistics.median([float(pool.price_per_gpu_hour) for pool in pools.values()] or [0.0])
        #: What each tenant's endpoints of this problem may hold together, where that is limited.
        #: Where less is allowed than is held already, that much.
        self._quotas = {
            str(tenant): max(0, left[GPUS]) for tenant, left in fleet.quota_left.items() if GPUS in left
        }
        self._shared = free
        self._free = {pool_id: list(free[pool_id]) for pool_id in pools}
        self._policy = policy
        self._subjects: dict[str, Subject] = {}
        self._places: dict[str, list[Place]] = {}

    def add(self, subject: Subject) -> None:
        """Add an endpoint that may be moved or waits; what it holds now is to be had by all."""
        places = self._ways(subject)
        if not places:
            return
        name, tenant = str(subject.endpoint.id), str(subject.endpoint.tenant_id)
        near = subject.order.near
        self._subjects[name], self._places[name] = subject, places
        if subject.current is not None:
            _give(self._free[subject.current.pool], subject.current, subject.nodes, 1)
            if tenant in self._quotas:
                self._quotas[tenant] += subject.current.gpus
        self.endpoints.append(
            FleetEndpoint(
                id=name,
                weight=RUNS_NOW if subject.current else 1.0 + 1.0 / subject.endpoint.slo_class.priority,
                residency="global",
                certifications=frozenset(),
                current=subject.current.pool if subject.current else None,
                options=tuple(
                    FleetOption(gpu=place.pool, gpus=place.gpus_per_replica, replicas=place.replicas)
                    for place in places
                ),
                near=f"{'region' if near in self._regions else 'zone'}:{near}" if near else None,
                near_penalty=float(NEAR_WORTH) * self._price,
                quota=tenant if tenant in self._quotas else None,
            )
        )

    def solve(self, limit_s: float) -> Outcome:
        """Solve, and take what the answer needs beyond what is held now from the shared stock."""
        dearest = max(float(place.cost(self._pools)) for places in self._places.values() for place in places)
        answer = solve(
            FleetProblem(
                penalty=PENALTY * dearest,
                move_cost=self._price * float(self._policy.least_saving_percent) / 100,
                pools=tuple(
                    FleetPool(
                        id=pool.id,
                        cluster=pool.cluster,
                        gpu=pool.id,
                        region=pool.region,
                        zones=pool.zones,
                        certifications=pool.certifications,
                        price=float(pool.price_per_gpu_hour),
                        gpus_per_node=pool.gpus_per_node,
                        free=tuple(self._free[pool.id]),
                    )
                    for pool in self._pools.values()
                ),
                endpoints=tuple(self.endpoints),
                quotas=tuple(FleetQuota(id=name, gpus=left) for name, left in self._quotas.items()),
            ),
            limit_s,
        )
        places: dict[Any, Place | None] = dict.fromkeys(
            (subject.endpoint.id for subject in self._subjects.values()), None
        )
        for assignment in answer.assignments:
            subject = self._subjects[assignment.endpoint]
            place = self._places[assignment.endpoint][assignment.option]
            places[subject.endpoint.id] = place
            if place != subject.current:
                _give(self._shared[place.pool], place, assignment.replicas, -1)
        return Outcome(
            places=places,
            status=str(answer.status),
            objective=float(answer.objective),
            bound=float(answer.bound),
            seconds=float(answer.seconds),
        )

    def _ways(self, subject: Subject) -> list[Place]:
        current = subject.current
        places = [] if current is None else [current]
        for option in subject.options:
            for pool_id in option.pools:
                place = Place.in_pool(option, self._pools[pool_id])
                # Other numbers of the same engines in the same pool are scaling, which is not the advisor's.
                same = current and dataclasses.replace(place, replicas=current.replicas) == current
                if not same:
                    places.append(place)
        return places


def _give(free: list[int], place: Place, nodes: Sequence[Sequence[int]], sign: int) -> None:
    for replica in nodes:
        for node in replica:
            # What another currency's endpoints would leave is not counted, so that a node may be asked for twice.
            free[node] = max(0, free[node] + sign * (place.gpus_per_replica // len(replica)))


def _money(amount: float) -> str:
    return price_text(Decimal(str(round(amount, 6))))
