"""``trtllm-serve``: TensorRT-LLM's own OpenAI server.

It has no door-keeper of its own and answers paths that change its memory and its weights: only the
gateway may reach it, and the gateway asks it for completions and nothing else.
"""

from __future__ import annotations

from typing import Final

from clusters.specs import DeploymentSpec, EngineContainer
from clusters.triton.runtimes import container, group, weights
from clusters.triton.runtimes.llmapi.options import check_version, options_of, to_yaml

CONFIG: Final = "config.yaml"


def engine_of(spec: DeploymentSpec) -> EngineContainer:
    """Say how a checkpoint is served by ``trtllm-serve``.

    Raises:
        InvalidDeployment: it can never run; the message says what to change.
    """
    container.check_parallelism(spec)
    container.check_parameters(spec)
    check_version(spec)
    checkpoint, jobs = weights.checkpoint_of(spec)
    options = options_of(spec, model=checkpoint)
    # The command line says these, and wins over the file.
    told = ("model", "backend", "tensor_parallel_size", "pipeline_parallel_size", "max_batch_size",
            "max_num_tokens", "max_seq_len", "moe_expert_parallel_size")  # fmt: skip
    extra = {name: value for name, value in options.items() if name not in told}
    # Without these it serves no Prometheus metrics.
    extra |= {"return_perf_metrics": True, "perf_metrics_max_requests": 1000}
    # Without it a request with a response_format is refused.
    extra["guided_decoding_backend"] = "xgrammar"
    command: tuple[str, ...] = (
        "trtllm-serve", checkpoint,
        "--host", "0.0.0.0", "--port", str(container.HTTP_PORT),  # noqa: S104 - one pod's own address
        "--backend", "pytorch",
        "--tp_size", str(spec.tensor_parallel), "--pp_size", str(spec.pipeline_parallel),
        *(("--ep_size", str(spec.expert_parallel)) if spec.expert_parallel > 1 else ()),
        *(("--tool_parser", spec.tool_parser) if spec.tool_parser else ()),
        "--max_batch_size", str(options["max_batch_size"]),
        "--max_num_tokens", str(options["max_num_tokens"]),
        "--max_seq_len", str(options["max_seq_len"]),
        "--config", f"{container.FILES_AT}/{CONFIG}",
    )  # fmt: skip
    files = {CONFIG: to_yaml(extra)}
    worker: tuple[str, ...] = ()
    if spec.nodes_per_replica > 1:
        files |= group.FILES
        command = group.leader(spec, command)
        worker = group.worker()
    gpus = container.gpus_per_pod(spec)
    return EngineContainer(
        image=container.image_of(spec),
        command=command,
        env={**container.PYTHON_ENV, **container.OFFLINE_ENV},
        files=files,
        files_at=container.FILES_AT,
        engine_model=checkpoint.rstrip("/").rpartition("/")[2],
        protocol="openai-http",
        http_port=container.HTTP_PORT,
        readiness_path="/health",
        liveness_path="/health",
        weights_at=weights.WEIGHTS_AT,
        cache_at=weights.CACHE_AT,
        # One port serves all of its paths.
        metrics_port=container.HTTP_PORT,
        metrics_path="/prometheus/metrics",
        shm_bytes=container.shm_bytes(gpus),
        memory_bytes=container.host_memory_bytes(spec, gpus),
        cpus=4 * gpus,
        worker_command=worker,
        jobs=jobs,
    )
