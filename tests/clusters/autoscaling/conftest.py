from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from django.utils import timezone

from clusters.endpoints.autoscaling.setting import endpoint_scaling_set
from clusters.endpoints.autoscaling.sweeping import autoscale_one
from clusters.endpoints.placement import current_revision
from clusters.endpoints.signals import keep_signals
from clusters.endpoints.snapshot import build_snapshot
from clusters.models import (
    EndpointScaling,
    EndpointSignal,
    Gateway,
    Reservation,
    Revision,
    ScalingDecision,
)
from gateway import contract
from tenants import scope
from tests.clusters.endpoints.conftest import cluster, estate, fresh, order, settle, tenant
from tests.factories import make_tenant

__all__ = ["cluster", "estate", "order", "settle", "tenant"]


@dataclasses.dataclass
class World:
    """An estate with a gateway that tells, and what the rows say of endpoints."""

    estate: object

    def autoscale(self, endpoint, **bounds) -> None:
        """Let Berth choose an endpoint's replicas."""
        with scope.tenant(endpoint.tenant_id):
            endpoint_scaling_set(endpoint=fresh(endpoint), actor="a test", enabled=True, **bounds)
        self.since(endpoint, hours=1)

    def since(self, endpoint, **ago) -> None:
        """Let what an endpoint remembers have begun so long ago."""
        at = timezone.now() - dt.timedelta(**ago)
        with scope.platform("a test"):
            EndpointScaling.objects.filter(endpoint=endpoint).update(since=at)
            EndpointScaling.objects.filter(endpoint=endpoint).exclude(quiet_since=None).update(quiet_since=at)
            EndpointScaling.objects.filter(endpoint=endpoint).exclude(idle_since=None).update(idle_since=at)
            Revision.objects.filter(endpoint=endpoint).update(created_at=at - dt.timedelta(hours=1))

    def tell(self, endpoint, **values) -> None:
        """Let the gateway tell of an endpoint now."""
        self.estate.confirm_gateway()
        signal = contract.EndpointSignal(endpoint_id=str(endpoint.id), **values)
        message = contract.EndpointSignals(gateway="gw-de/1", signals=(signal,))
        gateway = Gateway.objects.select_related("region").get(id=self.estate.gateway.id)
        keep_signals(gateway=gateway, message=message, now=timezone.now())

    def forget(self, endpoint) -> None:
        """Let nothing be told of an endpoint."""
        with scope.platform("a test"):
            EndpointSignal.objects.filter(endpoint=endpoint).delete()

    def look(self, endpoint, *, after_s: float = 0.0) -> int | None:
        """Look at an endpoint's replicas; give how many it is to have."""
        now = timezone.now() + dt.timedelta(seconds=after_s)
        return autoscale_one(endpoint.tenant_id, endpoint.id, now=now)

    def scaling(self, endpoint) -> EndpointScaling:
        with scope.tenant(endpoint.tenant_id):
            return EndpointScaling.objects.get(endpoint=endpoint)

    def wants(self, endpoint) -> int:
        """How many replicas are wanted of it."""
        with scope.tenant(endpoint.tenant_id):
            return current_revision(fresh(endpoint)).replicas

    def holds(self, endpoint) -> int:
        """How many GPUs it holds."""
        with scope.tenant(endpoint.tenant_id):
            return Reservation.objects.held().filter(endpoint=endpoint).gpus()

    def decisions(self, endpoint) -> list[ScalingDecision]:
        with scope.tenant(endpoint.tenant_id):
            return list(ScalingDecision.objects.filter(endpoint=endpoint))

    def shown(self, endpoint) -> contract.Endpoint:
        """The endpoint as the gateway's snapshot has it."""
        gateway = Gateway.objects.select_related("region").get(id=self.estate.gateway.id)
        return next(e for e in build_snapshot(gateway).endpoints if e.endpoint_id == str(endpoint.id))

    def serving(self, endpoint) -> int:
        """How many replicas a gateway may send new requests to."""
        routes = self.shown(endpoint).routes
        return sum(not replica.draining for route in routes for replica in route.replicas)


@pytest.fixture
def tenant(db):  # noqa: F811 - one with room
    return make_tenant("acme", gpus=40)


@pytest.fixture
def world(estate):
    return World(estate)
