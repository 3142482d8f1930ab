from clusters.models.advice import AdviceMove, AdvicePolicy, AdviceRun
from clusters.models.approvals import ApprovalRequest, ApprovalRule, ApprovalSignature, Decides
from clusters.models.catalog import CatalogModel, ModelSecret
from clusters.models.clusters import Cluster, GpuType, Node, NodePool, Region
from clusters.models.conditions import Condition, EndpointEvent
from clusters.models.endpoints import Endpoint, EndpointState, Wanted
from clusters.models.engines import ClassTuning, EngineImage
from clusters.models.gateways import Gateway
from clusters.models.load import LoadObservation
from clusters.models.operators import OperatorCluster
from clusters.models.policies import PolicyException, TenantPolicy
from clusters.models.replicas import Replica, Reservation
from clusters.models.revisions import RenderedConfiguration, Revision
from clusters.models.routes import NamedRoute
from clusters.models.savings import Saving
from clusters.models.signals import EndpointSignal
from clusters.models.slo import OnOverload, SloClass
from clusters.models.tokenizers import Tokenizer
from clusters.models.waiting import CapacityWait

__all__ = [
    "AdviceMove",
    "AdvicePolicy",
    "AdviceRun",
    "ApprovalRequest",
    "ApprovalRule",
    "ApprovalSignature",
    "CapacityWait",
    "CatalogModel",
    "ClassTuning",
    "Cluster",
    "Condition",
    "Decides",
    "Endpoint",
    "EndpointEvent",
    "EndpointSignal",
    "EndpointState",
    "EngineImage",
    "Gateway",
    "GpuType",
    "LoadObservation",
    "ModelSecret",
    "NamedRoute",
    "Node",
    "NodePool",
    "OnOverload",
    "OperatorCluster",
    "PolicyException",
    "Region",
    "RenderedConfiguration",
    "Replica",
    "Reservation",
    "Revision",
    "Saving",
    "SloClass",
    "TenantPolicy",
    "Tokenizer",
    "Wanted",
]
