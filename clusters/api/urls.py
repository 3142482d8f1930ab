"""Paths of the clusters room under /api/v1."""

from django.urls import path, register_converter

from clusters.api.advice import AdvicePolicyViewSet, AdviceRunViewSet
from clusters.api.approvals import (
    ApprovalViewSet,
    AskAgainViewSet,
    OperatorApprovalViewSet,
    RuleViewSet,
)
from clusters.api.asset_rates import AssetRateViewSet
from clusters.api.autoscaling import AutoscalingViewSet, ScheduleViewSet
from clusters.api.budgets import TenantBudgetViewSet
from clusters.api.catalog import CatalogModelViewSet, ProfileView, RegionViewSet, SloClassViewSet
from clusters.api.clusters import ClusterViewSet
from clusters.api.endpoints import EndpointViewSet
from clusters.api.engines import ImageViewSet, TuningViewSet
from clusters.api.evaluations import (
    EndpointEvaluationViewSet,
    EvaluationSetViewSet,
    EvaluationViewSet,
    OperatorEvaluationViewSet,
    PlatformEvaluationSetViewSet,
)
from clusters.api.evidence import EvidenceViewSet, evidence_keys
from clusters.api.gate import GateViewSet
from clusters.api.loads import LoadViewSet
from clusters.api.measurements import PoolMeasurementViewSet
from clusters.api.people import PersonViewSet
from clusters.api.policy import ExceptionViewSet, PolicyFloorViewSet, PolicyViewSet
from clusters.api.reports import (
    FragmentationView,
    PlatformCostView,
    RecoveryView,
    SavingDismissView,
    SavingsView,
    ThroughputView,
    UtilizationView,
)
from clusters.api.revisions import MoveViewSet, RevisionViewSet
from clusters.api.rollouts import RolloutViewSet
from clusters.api.routes import RouteViewSet, SharedEndpointView
from clusters.api.secrets import ModelSecretViewSet
from clusters.api.signals import SignalViewSet
from clusters.api.statements import TenantStatementViewSet
from clusters.api.tokenizers import ModelTokenizerViewSet
from clusters.api.traces import TraceViewSet
from clusters.api.usage_checks import ReconciliationView, SequenceGapViewSet, UsageRefusalViewSet


class NameConverter:
    """A name of the catalog: letters, digits, dots, hyphens."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._-]*"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(NameConverter, "name")

READ_LIST, READ_ONE = {"get": "list"}, {"get": "retrieve"}
READ_AND_MAKE = {**READ_LIST, "post": "create"}
EDIT_ONE = {**READ_ONE, "patch": "partial_update", "delete": "destroy"}

urlpatterns = [
    path("models", CatalogModelViewSet.as_view(READ_LIST)),
    path("models/<name:name>", CatalogModelViewSet.as_view(READ_ONE)),
    path(
        "models/<name:name>/secret",
        ModelSecretViewSet.as_view({"get": "retrieve", "put": "update", "delete": "destroy"}),
    ),
    path("models/<name:name>/tokenizer", ModelTokenizerViewSet.as_view({"put": "update"})),
    path("slo-classes", SloClassViewSet.as_view(READ_LIST)),
    path("slo-classes/<name:name>", SloClassViewSet.as_view(READ_ONE)),
    path("regions", RegionViewSet.as_view(READ_LIST)),
    path("regions/<name:code>", RegionViewSet.as_view(READ_ONE)),
    path("profiles", ProfileView.as_view()),
    path("endpoints", EndpointViewSet.as_view({"get": "list", "post": "create"})),
    path("endpoints:plan", EndpointViewSet.as_view({"post": "plan"})),
    path(
        "endpoints/<uuid:id>",
        EndpointViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("endpoints/<uuid:id>:pause", EndpointViewSet.as_view({"post": "pause"})),
    path("endpoints/<uuid:id>:resume", EndpointViewSet.as_view({"post": "resume"})),
    path("endpoints/<uuid:id>/evidence", EvidenceViewSet.as_view({"get": "evidence"})),
    path("evidence-keys", evidence_keys),
    path("endpoints/<uuid:id>/evaluations", EndpointEvaluationViewSet.as_view({"post": "evaluate"})),
    path("endpoints/<uuid:id>:gate", GateViewSet.as_view({"post": "gate"})),
    path("evaluations", EvaluationViewSet.as_view(READ_LIST)),
    path("evaluations/<uuid:id>", EvaluationViewSet.as_view(READ_ONE)),
    path("evaluations/<uuid:id>:accept", EvaluationViewSet.as_view({"post": "accept"})),
    path("evaluation-sets", EvaluationSetViewSet.as_view(READ_AND_MAKE)),
    path("evaluation-sets/<uuid:id>", EvaluationSetViewSet.as_view(EDIT_ONE)),
    path("platform/evaluation-sets", PlatformEvaluationSetViewSet.as_view(READ_AND_MAKE)),
    path("platform/evaluation-sets/<uuid:id>", PlatformEvaluationSetViewSet.as_view(EDIT_ONE)),
    path("platform/evaluations/<uuid:id>:accept", OperatorEvaluationViewSet.as_view({"post": "accept"})),
    path("endpoints/<uuid:id>/events", EndpointViewSet.as_view({"get": "events"})),
    path("endpoints/<uuid:id>/revisions", EndpointViewSet.as_view({"get": "revisions"})),
    path("endpoints/<uuid:id>/logs", EndpointViewSet.as_view({"get": "logs"})),
    path("endpoints/<uuid:id>/signals", SignalViewSet.as_view({"get": "signals"})),
    path("endpoints/<uuid:id>/autoscaling", AutoscalingViewSet.as_view({"get": "read", "put": "set"})),
    path("endpoints/<uuid:id>/scaling-decisions", AutoscalingViewSet.as_view({"get": "decisions"})),
    path("endpoints/<uuid:id>/schedules", ScheduleViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "endpoints/<uuid:id>/schedules/<uuid:schedule_id>",
        ScheduleViewSet.as_view({"get": "retrieve", "put": "update", "delete": "destroy"}),
    ),
    path("endpoints/<uuid:id>/load", LoadViewSet.as_view({"get": "load"})),
    path("endpoints/<uuid:id>/trace", TraceViewSet.as_view({"get": "trace"})),
    path("endpoints/<uuid:id>:replan", LoadViewSet.as_view({"post": "replan"})),
    path("endpoints/<uuid:id>:keep-order", LoadViewSet.as_view({"post": "keep_order"})),
    path("endpoints/<uuid:id>:plan-change", RolloutViewSet.as_view({"post": "plan_change"})),
    path("endpoints/<uuid:id>:change", RolloutViewSet.as_view({"post": "change"})),
    path("endpoints/<uuid:id>/rollouts", RolloutViewSet.as_view({"get": "rollouts"})),
    path("endpoints/<uuid:id>/rollouts/<uuid:rollout_id>", RolloutViewSet.as_view({"get": "rollout"})),
    path(
        "endpoints/<uuid:id>/rollouts/<uuid:rollout_id>:promote", RolloutViewSet.as_view({"post": "promote"})
    ),
    path(
        "endpoints/<uuid:id>/rollouts/<uuid:rollout_id>:rollback",
        RolloutViewSet.as_view({"post": "roll_back"}),
    ),
    path("endpoints/<uuid:id>/rollouts/<uuid:rollout_id>:retry", RolloutViewSet.as_view({"post": "retry"})),
    path(
        "endpoints/<uuid:id>/rollouts/<uuid:rollout_id>:dismiss", RolloutViewSet.as_view({"post": "dismiss"})
    ),
    path("endpoints/<uuid:id>:what-if", LoadViewSet.as_view({"post": "what_if"})),
    path("endpoints/<uuid:id>:ask-again", AskAgainViewSet.as_view({"post": "ask_again"})),
    path("endpoints/<uuid:id>:move", MoveViewSet.as_view({"post": "move"})),
    path("endpoints/<uuid:id>:share", MoveViewSet.as_view({"post": "share"})),
    path("policy", PolicyViewSet.as_view({"get": "retrieve", "put": "update"})),
    path("policy/versions", PolicyViewSet.as_view({"get": "versions"})),
    path("policy-exceptions", ExceptionViewSet.as_view({"get": "list", "post": "create"})),
    path("policy-exceptions/<uuid:id>", ExceptionViewSet.as_view(READ_ONE)),
    path("policy-exceptions/<uuid:id>:end", ExceptionViewSet.as_view({"post": "end"})),
    path("approval-rules", RuleViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "approval-rules/<uuid:id>",
        RuleViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("approval-requests", ApprovalViewSet.as_view(READ_LIST)),
    path("approval-requests/<uuid:id>", ApprovalViewSet.as_view(READ_ONE)),
    *(
        path(f"approval-requests/<uuid:id>:{name}", ApprovalViewSet.as_view({"post": name}))
        for name in ("approve", "refuse", "change", "withdraw")
    ),
    path("platform/approval-requests", OperatorApprovalViewSet.as_view(READ_LIST)),
    *(
        path(f"platform/approval-requests/<uuid:id>:{name}", OperatorApprovalViewSet.as_view({"post": name}))
        for name in ("approve", "refuse")
    ),
    path("platform/policies/<name:slug>/floor", PolicyFloorViewSet.as_view({"put": "update"})),
    path("shared-endpoints", SharedEndpointView.as_view()),
    path("routes", RouteViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "routes/<uuid:id>",
        RouteViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("routes/<uuid:id>/costs", RouteViewSet.as_view({"get": "costs"})),
    path(
        "endpoints/<uuid:id>/revisions/<int:number>/configuration",
        RevisionViewSet.as_view({"get": "configuration"}),
    ),
    path("endpoints/<uuid:id>/revisions/<int:number>:restore", RevisionViewSet.as_view({"post": "restore"})),
    path("clusters", ClusterViewSet.as_view({"get": "list", "post": "create"})),
    path("clusters:check", ClusterViewSet.as_view({"post": "check"})),
    path(
        "clusters/<name:name>",
        ClusterViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("clusters/<name:name>:check", ClusterViewSet.as_view({"post": "check_one"})),
    path("clusters/<name:name>:cordon", ClusterViewSet.as_view({"post": "cordon"})),
    path("clusters/<name:name>:uncordon", ClusterViewSet.as_view({"post": "uncordon"})),
    path("clusters/<name:name>:declare-lost", ClusterViewSet.as_view({"post": "declare_lost"})),
    path("clusters/<name:name>/credentials", ClusterViewSet.as_view({"post": "credentials"})),
    path("clusters/<name:name>/nodes", ClusterViewSet.as_view({"get": "nodes"})),
    path("clusters/<name:name>/pools/<name:pool>/measurements", PoolMeasurementViewSet.as_view(READ_LIST)),
    path(
        "clusters/<name:name>/pools/<name:pool>/measurements/<uuid:id>",
        PoolMeasurementViewSet.as_view({"get": "retrieve", "delete": "destroy"}),
    ),
    path(
        "clusters/<name:name>/pools/<name:pool>:qualify", PoolMeasurementViewSet.as_view({"post": "qualify"})
    ),
    path("tenant-budgets", TenantBudgetViewSet.as_view(READ_LIST)),
    path("tenant-budgets/<uuid:id>", TenantBudgetViewSet.as_view(READ_ONE)),
    path("asset-rates", AssetRateViewSet.as_view({"get": "list", "post": "create"})),
    path("asset-rates/<uuid:id>", AssetRateViewSet.as_view(READ_ONE)),
    path("tenant-statements", TenantStatementViewSet.as_view(READ_LIST)),
    path("tenant-statements/<uuid:id>", TenantStatementViewSet.as_view(READ_ONE)),
    path("tenant-statements/<uuid:id>/pdf", TenantStatementViewSet.as_view({"get": "pdf"})),
    path("tenant-statements/<uuid:id>/csv", TenantStatementViewSet.as_view({"get": "csv"})),
    path("tenant-statements/<uuid:id>/focus.csv", TenantStatementViewSet.as_view({"get": "focus_csv"})),
    path(
        "tenant-statements/<uuid:id>/focus.parquet", TenantStatementViewSet.as_view({"get": "focus_parquet"})
    ),
    path("engine-images", ImageViewSet.as_view(READ_LIST)),
    path("engine-images/<name:use>", ImageViewSet.as_view({"get": "retrieve", "put": "update"})),
    path("engine-settings", TuningViewSet.as_view(READ_LIST)),
    path(
        "engine-settings/<name:slo_class>",
        TuningViewSet.as_view({"get": "retrieve", "patch": "partial_update"}),
    ),
    path("usage-reconciliation", ReconciliationView.as_view()),
    path("usage-gaps", SequenceGapViewSet.as_view(READ_LIST)),
    path("usage-refusals", UsageRefusalViewSet.as_view(READ_LIST)),
    path("advice-runs", AdviceRunViewSet.as_view({"get": "list", "post": "create"})),
    path("advice-runs/<uuid:id>", AdviceRunViewSet.as_view(READ_ONE)),
    path("advice-runs/<uuid:id>:apply", AdviceRunViewSet.as_view({"post": "apply"})),
    path("advice-runs/<uuid:id>:dismiss", AdviceRunViewSet.as_view({"post": "dismiss"})),
    path("platform/people", PersonViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "platform/people/<uuid:id>",
        PersonViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("platform/utilization", UtilizationView.as_view()),
    path("platform/throughput", ThroughputView.as_view()),
    path("platform/costs", PlatformCostView.as_view()),
    path("platform/recovery", RecoveryView.as_view()),
    path("platform/savings", SavingsView.as_view()),
    path("platform/savings/<uuid:id>:dismiss", SavingDismissView.as_view()),
    path("platform/fragmentation", FragmentationView.as_view()),
    path("advice-policy", AdvicePolicyViewSet.as_view({"get": "retrieve", "patch": "partial_update"})),
]
