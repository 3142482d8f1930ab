"""What a cluster's own autoscaler is told, and what is reserved for it, where it decides and Berth does not."""

from __future__ import annotations

from typing import Final

from clusters.endpoints.autoscaling.bounds import own_bounds, planned_bounds
from clusters.endpoints.autoscaling.deciding import Decision, Memory, Why
from clusters.inventory.drivers import autoscaler_of
from clusters.kube.manifests import Autoscaler
from clusters.models import EndpointScaling, Revision
from clusters.specs import Scaling

#: How often it is seen whether more or fewer GPUs are to be reserved.
LOOK_S: Final = 60.0


def to_reserve(scaling: EndpointScaling, revision: Revision, memory: Memory) -> Decision:
    """Say for how many replicas GPUs are to be reserved for the cluster to hand out: up to the endpoint's ceiling."""
    ceiling = own_bounds(scaling, revision, revision.endpoint)[1]
    chooser = autoscaler_of(revision.cluster).upper()
    reason = (
        f"{chooser} of {revision.cluster.name} chooses, up to the ceiling of {ceiling}: so many are reserved."
    )
    return Decision(replicas=ceiling, why=Why.CLUSTER, reason=reason, look_again_s=LOOK_S, memory=memory)


def cluster_scaling(revision: Revision) -> Scaling | None:
    """Give the room that the cluster's autoscaler has, None where Berth says how many replicas run.

    It goes up to the replicas whose GPUs are reserved, not above the endpoint's ceiling, and down to its floor where it
    has one of its own: KEDA to none too, an HPA never below 1.
    """
    autoscaler = autoscaler_of(revision.cluster)
    if autoscaler is Autoscaler.NONE:
        return None
    floor, most = planned_bounds(revision, revision.endpoint)[0], revision.replicas
    scaling = EndpointScaling.objects.filter(endpoint=revision.endpoint_id, enabled=True).first()
    if scaling is not None:
        floor, ceiling = own_bounds(scaling, revision, revision.endpoint)
        most = min(most, ceiling)
    if autoscaler is not Autoscaler.KEDA or not revision.endpoint.slo_class.may_scale_to_zero:
        floor = max(1, floor)
    least = min(most, floor)
    if least == revision.replicas:
        return None
    return Scaling(least=least, most=most, in_flight_per_replica=revision.max_batch_size)


def expected_replicas(revision: Revision, present: int) -> int:
    """Say how many replicas there should be while ``present`` are there: the cluster's autoscaler may want fewer."""
    scaling = cluster_scaling(revision)
    if scaling is None:
        return revision.replicas
    return max(scaling.least, min(scaling.most, present))
