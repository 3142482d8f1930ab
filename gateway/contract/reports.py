"""What a gateway sees of replicas and endpoints, told to the control plane."""

from __future__ import annotations

from typing import Final

from gateway.contract.base import Message

REPLICAS_PATH: Final = "/api/gateway/v1/replicas"
WAKES_PATH: Final = "/api/gateway/v1/wakes"

#: What a gateway passes on of a replica's Prometheus text: the lines of metrics that begin so.
REPORTED_METRICS: Final = (
    "nv_gpu_memory_",
    "nv_trt_llm_kv_cache_block_metrics",
    "nv_trt_llm_runtime_memory_metrics",
    "trtllm_kv_cache_",
    "trtllm_gpu_memory_",
    "trtllm_prompt_tokens_total",
    "trtllm_generation_tokens_total",
    "nv_llm_input_token_len_sum",
    "nv_llm_output_token_len_sum",
    "berth_",
)
MOST_REPORTED_BYTES: Final = 16 * 1024  # of one replica
MOST_REPORTS: Final = 100  # in one message
MOST_WAKES: Final = 1_000  # in one message


class ReplicaReport(Message, frozen=True):
    """What a replica shows of its memory and the tokens it ran: its lines of :data:`REPORTED_METRICS`, unchanged."""

    replica_id: str
    metrics: str


class ReplicaReports(Message, frozen=True):
    """One POST of reports, each about a replica of the gateway's region and snapshot."""

    reports: tuple[ReplicaReport, ...]


class Wakes(Message, frozen=True):
    """Endpoints without a replica that requests ask for: each wants a look, for it may be scaled to zero."""

    endpoint_ids: tuple[str, ...]
