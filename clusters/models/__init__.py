from clusters.models.catalog import CatalogModel
from clusters.models.clusters import Cluster, GpuType, NodePool, Region
from clusters.models.conditions import Condition, EndpointEvent
from clusters.models.endpoints import Endpoint, EndpointState, Wanted
from clusters.models.gateways import Gateway
from clusters.models.replicas import Replica, Reservation
from clusters.models.revisions import Revision
from clusters.models.slo import SloClass

__all__ = [
    "CatalogModel",
    "Cluster",
    "Condition",
    "Endpoint",
    "EndpointEvent",
    "EndpointState",
    "Gateway",
    "GpuType",
    "NodePool",
    "Region",
    "Replica",
    "Reservation",
    "Revision",
    "SloClass",
    "Wanted",
]
