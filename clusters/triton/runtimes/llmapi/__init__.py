"""``triton-llmapi``: TensorRT-LLM's LLM API in Triton's python backend, with a front model of Berth's own.

The front model that ships with Triton tells no token counts and repeats all text in every chunk; this one
counts, streams what is new, ends what nobody reads, and has the tensors of the classic front model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from clusters.specs import DeploymentSpec, EngineContainer, EngineJob
from clusters.triton import front
from clusters.triton.runtimes import container, group, weights
from clusters.triton.runtimes.llmapi.options import check_version, options_of, to_yaml

MODEL: Final = "tensorrt_llm"
_SOURCE: Final = Path(__file__).parent
TRITON_CONFIG: Final = {"max_batch_size": 0, "decoupled": True}


def engine_of(spec: DeploymentSpec) -> EngineContainer:
    """Say how a checkpoint is served through the LLM API.

    Raises:
        InvalidDeployment: it can never run; the message says what to change.
    """
    container.check_parallelism(spec)
    container.check_parameters(spec)
    check_version(spec)
    checkpoint, jobs = weights.checkpoint_of(spec)
    options = {**options_of(spec, model=checkpoint), "triton_config": TRITON_CONFIG}
    return serve(spec, options=options, jobs=jobs)


def serve(spec: DeploymentSpec, *, options: dict[str, Any], jobs: tuple[EngineJob, ...]) -> EngineContainer:
    """Say how Triton serves an LLM made of ``options``, once ``jobs`` are done.

    Raises:
        InvalidDeployment: the spec names no image, or an option is unknown.
    """
    folder = f"repository/{MODEL}"
    files = {
        f"{folder}/config.pbtxt": config_pbtxt(spec),
        f"{folder}/1/model.yaml": to_yaml(options),
        **{
            f"{folder}/1/{path.name}": path.read_text("utf-8")
            for path in sorted((_SOURCE / "model").glob("*.py"))
        },
    }
    command = container.tritonserver(exit_timeout_s=spec.tuning.drain_s)
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
        engine_model=MODEL,
        protocol="triton-generate",
        http_port=container.HTTP_PORT,
        readiness_path=container.readiness_path(MODEL),
        liveness_path=container.readiness_path(MODEL),
        weights_at=weights.WEIGHTS_AT,
        cache_at=weights.CACHE_AT,
        metrics_port=container.METRICS_PORT,
        shm_bytes=container.shm_bytes(gpus),
        memory_bytes=container.host_memory_bytes(spec, gpus),
        cpus=4 * gpus,
        worker_command=worker,
        jobs=jobs,
    )


def config_pbtxt(spec: DeploymentSpec) -> str:
    """Write the front model's configuration."""
    return front.config_pbtxt(
        MODEL,
        inputs=(*front.INPUTS, front.CACHE_SALT),
        parameters={
            "context_tokens": str(spec.context_tokens),
            "max_output_tokens": str(spec.max_output_tokens),
        },
    )
