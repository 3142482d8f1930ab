"""What of the estate, the offer and endpoints is audited: what people and rules decide, and where engines were placed.

What reconciling observes changes by itself all the time and is not: a pass over a settled endpoint writes nothing.
"""

from __future__ import annotations

from tenants.audit.registry import Audited, register

AUDITED = {
    "clusters.Region": Audited(
        "region", ("code", "name", "country", "zones", "certifications"), name="code", tenant=""
    ),
    "clusters.OperatorCluster": Audited("operator-cluster", ("user_id", "cluster_id"), name="", tenant=""),
    "clusters.Cluster": Audited(
        "cluster",
        (
            "name", "region_id", "driver", "cordon_reason", "runtimes", "declared", "server", "ca_data",
            "credentials_version", "credentials_name", "identity", "namespaces", "drift", "autoscaler",
            "storage_access_mode", "storage_class", "pull_secret", "prometheus_url", "prometheus_namespace",
            "gateway_namespace", "loader_cidrs", "dra", "kueue_queue", "tolerate", "removed_at",
        ),
        tenant="",
        hidden=("credentials",),
        verbs=(("removed_at", "*", "remove"), ("cordon_reason", "", "uncordon"), ("cordon_reason", "*", "cordon")),
    ),
    "clusters.GpuType": Audited(
        "gpu-type", ("name", "title", "memory_gib", "bandwidth_gbs"), tenant=""
    ),
    "clusters.NodePool": Audited(
        "pool",
        (
            "cluster_id", "name", "gpu_type_id", "gpus_per_node", "reserve", "higher_share", "discovered", "resource",
            "selector",
        ),
        tenant="",
    ),
    "clusters.PoolMeasurement": Audited(
        "pool-measurement",
        (
            "pool_id", "model_id", "runtime", "engine_version", "precision", "tensor_parallel", "pipeline_parallel",
            "replicas", "max_batch_size", "max_num_tokens", "digest", "target", "speed", "measured_at", "measured_by",
            "requests", "requests_per_second", "input_tokens", "output_tokens", "in_flight", "ttft_mean_ms",
            "itl_mean_ms",
        ),
        name="target",
        tenant="",
    ),
    "clusters.EngineImage": Audited(
        "image", ("use", "reference", "digest", "engine_version", "min_driver"), name="use", tenant=""
    ),
    "clusters.ClassTuning": Audited(
        "engine-settings",
        (
            "slo_class_id", "max_batch_size", "max_num_tokens", "scheduler_policy", "kv_cache_fraction",
            "kv_cache_dtype", "kv_block_reuse", "chunked_prefill", "attention_backend", "cuda_graphs",
            "overlap_scheduler", "stream_interval", "drain_s", "load_s",
        ),
        name="",
        tenant="",
    ),
    "clusters.CatalogModel": Audited(
        "model",
        (
            "name", "title", "description", "licence", "allowed_zones", "runtimes", "precisions", "architecture",
            "context_tokens", "chat_template", "tool_parser", "derived_from_id", "published", "weights_kind",
            "weights_uri", "weights_revision", "weights_size_gib", "weights_zones", "weights_quantize",
            "precision_notes", "tokenizer_id",
        ),
        tenant="",
        hidden=("weights_secret",),
    ),
    "clusters.ModelSecret": Audited("model-secret", ("model_id",), name="", hidden=("sealed",)),
    "clusters.SloClass": Audited(
        "slo-class",
        (
            "name", "title", "description", "ttft_p95_ms", "itl_p95_ms", "availability", "priority", "price_factor",
            "credit_percent", "cost_target", "spare_replicas", "connect_timeout_s", "first_token_timeout_s",
            "between_tokens_timeout_s", "total_timeout_s", "attempts", "backoff_s", "backoff_most_s", "queue_s",
            "floor", "context_tokens", "on_overload", "degraded_context_tokens", "may_scale_to_zero",
            "idle_to_zero_s", "wake_hold_s", "high_water", "low_water", "quiet_s", "needs_evaluation",
            "rollout_ways", "rollout_days", "rollout_from_hour", "rollout_until_hour", "rollout_steps",
            "rollout_step_s", "rollout_requests", "rollout_patience_s", "rollout_little_traffic", "rollout_start_s",
            "rollout_ttft_factor", "rollout_itl_factor", "rollout_error_points", "rollout_cost_factor",
        ),
        tenant="",
    ),
    "clusters.Endpoint": Audited(
        "endpoint",
        (
            "name", "project_id", "model_id", "slo_class_id", "residency", "certifications", "requests_per_second",
            "input_tokens", "output_tokens", "burstiness", "input_cv", "output_cv", "prefix_share", "profile",
            "context_tokens", "output_limit", "near", "pins", "approved_precisions", "replicas", "fallbacks",
            "shared", "cluster_id", "wanted", "requests_per_minute", "tokens_per_minute",
        ),
        verbs=(
            ("wanted", "deleted", "delete"), ("wanted", "paused", "pause"), ("wanted", "running", "resume"),
            ("cluster_id", "*", "move"), ("shared", "true", "publish"), ("shared", "false", "withdraw"),
        ),
    ),
    "clusters.Revision": Audited(
        "revision",
        (
            "endpoint_id", "number", "cluster_id", "pool_id", "runtime", "gpu_type", "precision", "tensor_parallel",
            "pipeline_parallel", "context_tokens", "max_batch_size", "price_factor", "restored_from",
            "policy_version", "policy_exceptions", "place", "terms",
        ),
        name="number",
    ),
    "clusters.EndpointScaling": Audited(
        "scaling", ("endpoint_id", "enabled", "floor", "ceiling", "idle_s"), name="",
        verbs=(("enabled", "true", "enable"), ("enabled", "false", "disable")),
    ),
    "clusters.ScaleSchedule": Audited(
        "schedule",
        ("endpoint_id", "name", "days", "from_time", "until_time", "time_zone", "floor", "ceiling"),
    ),
    "clusters.Rollout": Audited(
        "rollout",
        (
            "endpoint_id", "revision_id", "before_id", "what", "way", "phase", "started_by", "ended_by", "dismissed_at",
        ),
        name="what",
        verbs=(
            ("phase", "promoted", "promote"), ("phase", "rolled-back", "roll-back"), ("phase", "failed", "fail"),
            ("phase", "cancelled", "cancel"), ("dismissed_at", "*", "dismiss"),
        ),
    ),
    "clusters.NamedRoute": Audited("route", ("project_id", "name", "rules")),
    "clusters.Gateway": Audited(
        "gateway",
        ("name", "region_id", "public_url", "cluster_id", "replicas", "storage_gib"),
        tenant="",
        hidden=("token_digest",),
    ),
    "clusters.TenantPolicy": Audited(
        "policy",
        (
            "version", "effective_from", "set_as", "by_platform", "note", "allowed_zones", "home_zone",
            "certifications", "allowed_models", "allowed_licences", "allowed_classes", "most_per_hour",
            "most_per_month", "four_eyes", "self_approval", "link_decisions", "floor_zones", "floor_certifications",
        ),
        name="version",
    ),
    "clusters.PolicyException": Audited(
        "policy-exception",
        (
            "restriction", "value", "endpoint_id", "project_id", "reason", "starts_at", "ends_at", "approved_as",
            "request_id", "ended_as", "enforced_at",
        ),
        name="value",
        verbs=(("ended_as", "*", "end"), ("enforced_at", "*", "enforce")),
    ),
    "clusters.ApprovalRule": Audited(
        "approval-rule",
        (
            "kind", "amount", "monthly", "gpus", "share", "gpu_types", "pools", "decides", "members", "valid_hours",
            "enabled",
        ),
        name="kind",
    ),
    "clusters.ApprovalRequest": Audited(
        "approval-request",
        (
            "what", "endpoint_id", "title", "wish", "quote", "trips", "round", "asked_by_id", "behind", "asked_as",
            "expires_at", "state", "decided_by_id", "decided_as", "decided_at", "decided_via", "comment", "changed",
        ),
        name="title",
        verbs=(
            ("state", "approved", "approve"), ("state", "changed", "approve"), ("state", "refused", "refuse"),
            ("state", "expired", "expire"), ("state", "withdrawn", "withdraw"), ("state", "superseded", "supersede"),
        ),
    ),
    "clusters.ApprovalSignature": Audited(
        "approval-signature",
        ("request_id", "round", "part", "by_id", "signed_as", "via", "comment"),
        name="part",
    ),
    "clusters.EvaluationSet": Audited(
        "evaluation-set",
        ("name", "model_id", "endpoint_id", "version", "removed_at"),
        verbs=(("removed_at", "*", "remove"),),
    ),
    "clusters.EvaluationVersion": Audited(
        "evaluation-version",
        ("set_id", "number", "prompts", "checks", "pass_percent", "most_drop", "made_as"),
        name="number",
        hidden=("sealed",),
    ),
    "clusters.EvaluationRun": Audited(
        "evaluation",
        (
            "endpoint_id", "revision_id", "before_id", "version_id", "asked_as", "state", "score", "score_before",
            "pass_percent", "most_drop", "decided_by_id", "decided_as", "note",
        ),
        name="",
        hidden=("sealed",),
        verbs=(("state", "waived", "waive"), ("state", "passed", "pass"), ("state", "failed", "fail")),
    ),
    "clusters.AppliedObject": Audited(
        "applied-object", ("kind", "name", "owner", "digest", "object_id", "applied_as")
    ),
    "clusters.AppliedPlatformObject": Audited(
        "applied-platform-object", ("kind", "name", "owner", "digest", "object_id", "applied_as"), tenant=""
    ),
    "clusters.AdvicePolicy": Audited(
        "advice-policy",
        (
            "least_saving_percent", "least_saving_per_hour", "payback_days", "cool_down_hours", "concurrent_moves",
            "solve_limit_s", "automatic", "replan_drift", "days", "from_hour", "until_hour",
            "automatic_saving_per_hour", "moves_per_day", "run_every_hours",
        ),
        name="",
        tenant="",
    ),
    "clusters.AdviceMove": Audited(
        "advice-move",
        ("run_id", "number", "endpoint_id", "decided_by", "begun_at", "begun_unasked"),
        name="number",
        tenant="",
    ),
}  # fmt: skip

_OBSERVED = "what clusters and gateways show: machine state"

UNAUDITED = {
    "clusters.Tokenizer": "named by its digest, which the model's entry tells",
    "clusters.Node": _OBSERVED,
    "clusters.AdviceRun": "a computation; what came of it is audited by move",
    "clusters.Condition": _OBSERVED,
    "clusters.EndpointEvent": "the endpoint's history for people, made from what is audited",
    "clusters.LoadObservation": _OBSERVED,
    "clusters.RenderedConfiguration": "follows from the revision, which is audited",
    "clusters.Replica": _OBSERVED,
    "clusters.Reservation": "follows from the revision, which is audited",
    "clusters.Saving": _OBSERVED,
    "clusters.EndpointSignal": _OBSERVED,
    "clusters.CapacityWait": _OBSERVED,
    "clusters.ScalingDecision": "made by rules that are audited, and the history of itself",
}


def register_tables() -> None:
    """Tell the registry of them."""
    register(AUDITED, UNAUDITED)
