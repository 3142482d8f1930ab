"""What a cluster's own autoscaler is told, where it decides and Berth does not."""

from __future__ import annotations

from clusters.endpoints.autoscaling.bounds import own_bounds, planned_bounds
from clusters.models import Cluster, EndpointScaling, Revision
from clusters.specs import Scaling


def cluster_scaling(revision: Revision) -> Scaling | None:
    """Give the room that the cluster's autoscaler has, None where Berth says how many replicas run.

    It goes up to the replicas whose GPUs are reserved, and down to the endpoint's floor where it has one of its own:
    KEDA to none too, an HPA never below 1.
    """
    autoscaler = revision.cluster.autoscaler
    if autoscaler == Cluster.Autoscaler.NONE:
        return None
    floor = planned_bounds(revision, revision.endpoint)[0]
    scaling = EndpointScaling.objects.filter(endpoint=revision.endpoint_id, enabled=True).first()
    if scaling is not None:
        floor = own_bounds(scaling, revision, revision.endpoint)[0]
    if autoscaler != Cluster.Autoscaler.KEDA or not revision.endpoint.slo_class.may_scale_to_zero:
        floor = max(1, floor)
    least = min(revision.replicas, floor)
    if least == revision.replicas:
        return None
    return Scaling(least=least, most=revision.replicas, in_flight_per_replica=revision.max_batch_size)


def expected_replicas(revision: Revision, present: int) -> int:
    """Say how many replicas there should be while ``present`` are there: the cluster's autoscaler may want fewer."""
    scaling = cluster_scaling(revision)
    if scaling is None:
        return revision.replicas
    return max(scaling.least, min(scaling.most, present))
