"""Rollouts in tests: a class's policy, the requests that both revisions get, and looks at given times."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from typing import Any

from django.utils import timezone

from billing.models import UsageHour
from billing.quantities import HOUR, round_down
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.rollouts.changing import endpoint_change
from clusters.endpoints.signals import keep_signals
from clusters.endpoints.snapshot import build_snapshot
from clusters.models import Endpoint, Gateway, NodePool, Revision, Rollout, SloClass
from gateway import contract
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, Outcome
from tenants import scope
from tests.clusters.autoscaling.conftest import World
from tests.clusters.endpoints.conftest import fresh


def canary(**changes: Any) -> None:
    """Let every class have a canary of three steps that is told by 200 requests a step."""
    values = {"rollout_steps": [5, 25, 50], "rollout_step_s": 60, "rollout_requests": 200} | changes
    SloClass.objects.update(**values)


#: The policy of a class that replaces only in the small hours.
NIGHT = {"rollout_from_hour": 2, "rollout_until_hour": 5}


def at(hour: int) -> dt.datetime:
    """Give that hour of UTC on a day to come."""
    return (timezone.now() + dt.timedelta(days=1)).replace(hour=hour, minute=30, second=0, microsecond=0)


def crowd(revision: Revision, free: int = 0) -> None:
    """Leave no GPU free beside what a revision holds, but for ``free``."""
    for pool in NodePool.objects.all():
        held = revision.replicas * revision.gpus_per_replica if pool.id == revision.pool_id else 0
        NodePool.objects.filter(id=pool.id).update(reserve=pool.total_gpus - held - free)


@dataclasses.dataclass
class Rolling:
    """An endpoint that is being changed, and the time that passes."""

    estate: Any
    cluster: Any
    endpoint: Endpoint
    now: dt.datetime = dataclasses.field(default_factory=timezone.now)

    def change(self, **changes: Any) -> Endpoint:
        with scope.tenant(self.endpoint.tenant_id):
            rows = Endpoint.objects.select_related("tenant", "project", "model", "slo_class", "cluster")
            return endpoint_change(endpoint=rows.get(id=self.endpoint.id), changes=changes, actor="ann")

    def look(self, seconds: float = 0, *, passes: int = 8, ready: bool = True) -> Rollout | None:
        """Let time pass, then look until nothing changes at once."""
        self.now += dt.timedelta(seconds=seconds)
        for _ in range(passes):
            again = reconcile_endpoint(self.endpoint.id, self.now)
            if ready:
                self.cluster.make_ready()
            self.estate.confirm_gateway()
            if again is None:
                break
        return self.rollout

    def sleep(self) -> World:
        """Let it be scaled to zero, as what no request asks for; give the world in which requests may wake it."""
        world = World(self.estate)
        world.autoscale(self.endpoint, floor=0, ceiling=3, idle_s=600)
        self.look()
        world.tell(self.endpoint)
        world.look(self.endpoint)
        world.since(self.endpoint, minutes=11)
        assert world.look(self.endpoint) == 0
        self.look()
        assert self.shown.state == "scaled-to-zero"
        return world

    @property
    def rollout(self) -> Rollout | None:
        with scope.tenant(self.endpoint.tenant_id):
            return Rollout.objects.select_related("revision", "before").order_by("-id").first()

    @property
    def shown(self) -> Endpoint:
        return fresh(self.endpoint)

    def weights(self) -> dict[int, int]:
        """Give the weight of each revision that a gateway may send requests to, by its number."""
        with scope.tenant(self.endpoint.tenant_id):
            numbers = {str(each.id): each.number for each in Revision.objects.all()}
        (told,) = build_snapshot(self.estate.gateway).endpoints
        return {
            numbers[route.revision_id]: route.weight
            for route in told.routes
            if any(not replica.draining for replica in route.replicas)
        }

    def tell_tried_again(self, **revisions: int) -> None:
        """Let the gateway tell how many requests revisions failed that it tried again, by number: ``r2=3``."""
        with scope.tenant(self.endpoint.tenant_id):
            ids = {f"r{each.number}": str(each.id) for each in Revision.objects.all()}
        told = {ids[number]: count for number, count in revisions.items()}
        signal = contract.EndpointSignal(endpoint_id=str(self.endpoint.id), tried_again=told)
        message = contract.EndpointSignals(gateway="gw-de/1", signals=(signal,))
        gateway = Gateway.objects.select_related("region").get(id=self.estate.gateway.id)
        keep_signals(gateway=gateway, message=message, now=self.now)

    def serve(
        self,
        revision: Revision,
        requests: int = 400,
        *,
        failed: int = 0,
        ttft_ms: float = 90,
        itl_ms: float = 18,
    ) -> None:
        """Count requests of a revision, as the rollups would."""
        asked = [(Outcome.COMPLETED, requests - failed), (Outcome.FAILED, failed)]
        with scope.tenant(self.endpoint.tenant_id):
            for outcome, count in asked:
                if not count:
                    continue
                done = count if outcome == Outcome.COMPLETED else 0
                row, _ = UsageHour.objects.get_or_create(
                    tenant_id=self.endpoint.tenant_id,
                    project_id=self.endpoint.project_id,
                    endpoint_id=self.endpoint.id,
                    revision_id=revision.id,
                    key_id=uuid.UUID(int=1),
                    route_id=None,
                    model="guide",
                    slo_class="standard",
                    region="de-1",
                    outcome=outcome,
                    bucket=round_down(self.now, HOUR),
                )
                row.requests += count
                row.input_tokens += 100 * done
                row.output_tokens += 50 * done
                row.ttft_ms = _added(row.ttft_ms, done, ttft_ms, LATENCY_BOUNDS_MS)
                row.itl_ms = _added(row.itl_ms, done, itl_ms, ITL_BOUNDS_MS)
                row.save()

    def both(self, **new: Any) -> None:
        """Count requests of both revisions; the keywords are of the new one."""
        rollout = self.rollout
        self.serve(rollout.before)
        self.serve(rollout.revision, **new)


def _added(kept: list[int], count: int, value: float, bounds: tuple[float, ...]) -> list[int]:
    histogram = list(kept) or [0] * (len(bounds) + 1)
    histogram[next((i for i, bound in enumerate(bounds) if value <= bound), len(bounds))] += count
    return histogram
