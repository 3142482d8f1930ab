from clusters.models.advice import AdviceMove, AdvicePolicy, AdviceRun
from clusters.models.applied import AppliedObject, AppliedPlatformObject
from clusters.models.approvals import ApprovalRequest, ApprovalRule, ApprovalSignature, Decides
from clusters.models.autoscaling import EndpointScaling, ScaleSchedule, ScalingDecision
from clusters.models.catalog import CatalogModel, ModelSecret
from clusters.models.clusters import Cluster, GpuType, Node, NodePool, Region
from clusters.models.conditions import Condition, EndpointEvent
from clusters.models.endpoints import Endpoint, EndpointState, Wanted
from clusters.models.engines import ClassTuning, EngineImage
from clusters.models.evaluations import EvaluationRun, EvaluationSet, EvaluationVersion
from clusters.models.gateways import Gateway
from clusters.models.load import LoadObservation
from clusters.models.measurements import PoolMeasurement
from clusters.models.operators import OperatorCluster
from clusters.models.policies import PolicyException, TenantPolicy
from clusters.models.replicas import Replica, Reservation
from clusters.models.revisions import RenderedConfiguration, Revision
from clusters.models.rollouts import Rollout
from clusters.models.routes import NamedRoute
from clusters.models.savings import Saving
from clusters.models.signals import EndpointSignal
from clusters.models.slo import OnLittleTraffic, OnOverload, RolloutWay, SloClass
from clusters.models.tokenizers import Tokenizer
from clusters.models.waiting import CapacityWait

__all__ = [
    "AdviceMove",
    "AdvicePolicy",
    "AdviceRun",
    "AppliedObject",
    "AppliedPlatformObject",
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
    "EndpointScaling",
    "EndpointSignal",
    "EndpointState",
    "EngineImage",
    "EvaluationRun",
    "EvaluationSet",
    "EvaluationVersion",
    "Gateway",
    "GpuType",
    "LoadObservation",
    "ModelSecret",
    "NamedRoute",
    "Node",
    "NodePool",
    "OnLittleTraffic",
    "OnOverload",
    "OperatorCluster",
    "PolicyException",
    "PoolMeasurement",
    "Region",
    "RenderedConfiguration",
    "Replica",
    "Reservation",
    "Revision",
    "Rollout",
    "RolloutWay",
    "Saving",
    "ScaleSchedule",
    "ScalingDecision",
    "SloClass",
    "TenantPolicy",
    "Tokenizer",
    "Wanted",
]
