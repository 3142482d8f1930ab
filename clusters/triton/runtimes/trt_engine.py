"""``triton-engine``: a compiled TensorRT engine, for images up to 26.07 with TensorRT-LLM up to 1.2.

The engine is served through the LLM API by the same front model as ``triton-llmapi``. The classic C++
backend would need an ensemble, through which a departed client's request runs to its end, or calls
between models, which end the server when many run at a time (triton-inference-server/server#8882).
"""

from __future__ import annotations

from typing import Any, Final

from clusters.specs import DeploymentSpec, EngineContainer, EngineJob
from clusters.triton.errors import InvalidDeployment
from clusters.triton.runtimes import container, llmapi, weights
from clusters.triton.runtimes.llmapi.options import options_of

LAST: Final = (1, 2)
#: Options that the PyTorch backend alone has; the engine was built with the others.
_PYTORCH_ONLY: Final = (
    "dtype", "tensor_parallel_size", "pipeline_parallel_size", "enable_attention_dp", "max_input_len",
    "attn_backend", "cuda_graph_config", "disable_overlap_scheduler", "stream_interval",
    "enable_iter_perf_stats", "max_num_tokens", "max_seq_len", "moe_expert_parallel_size",
    "moe_tensor_parallel_size",
)  # fmt: skip


def engine_of(spec: DeploymentSpec) -> EngineContainer:
    """Say how a model is compiled and served.

    Raises:
        InvalidDeployment: it can never run; the message says what to change.
    """
    container.check_parallelism(spec)
    container.check_parameters(spec)
    _check_image(spec)
    if spec.nodes_per_replica > 1:
        raise InvalidDeployment(
            "triton-engine runs on one node; choose triton-llmapi for models that span nodes"
        )
    if spec.expert_parallel > 1 or spec.attention_dp:
        raise InvalidDeployment("triton-engine splits by tensor and pipeline only; choose triton-llmapi")
    source, jobs = weights.source_of(spec)
    options = options_of(spec, model=source)
    convert = weights.quantize_job(spec, checkpoint=source, export="tensorrt_llm")
    build = _build_job(spec, checkpoint=convert.output, options=options)
    served: dict[str, Any] = {
        **{name: value for name, value in options.items() if name not in _PYTORCH_ONLY},
        "model": f"{weights.CACHE_AT}/{build.output}",
        "tokenizer": source,
        "backend": "tensorrt",
        "kv_cache_config": {
            name: value for name, value in options["kv_cache_config"].items() if name != "dtype"
        },
    }
    return llmapi.serve(spec, options=served, jobs=(*jobs, convert, build))


def _build_job(spec: DeploymentSpec, *, checkpoint: str, options: dict[str, Any]) -> EngineJob:
    limits = {
        name: options[name] for name in ("max_batch_size", "max_num_tokens", "max_seq_len", "max_input_len")
    }
    # An engine fits one type of GPU and one version of TensorRT-LLM; the checkpoint's name says the rest.
    shapes = {
        "checkpoint": checkpoint,
        "limits": limits,
        "gpu": spec.gpu_type,
        "resource": spec.placement.resource,
        "engine": weights.engine_version(spec),
    }
    return weights.make(
        spec,
        kind="build",
        output=f"engine-{weights.digest(shapes)}",
        command=(
            "trtllm-build",
            "--checkpoint_dir", f"{weights.CACHE_AT}/{checkpoint}",
            "--output_dir", weights.OUTPUT,
            *(part for name, value in limits.items() for part in (f"--{name}", str(value))),
            "--max_beam_width", "1",
            "--kv_cache_type", "paged",
            # Block reuse and chunked prefill need it.
            "--use_paged_context_fmha", "enable",
            "--workers", str(container.gpus_per_pod(spec)),
        ),
    )  # fmt: skip


def _check_image(spec: DeploymentSpec) -> None:
    version = spec.image.engine_version if spec.image is not None else ""
    container.image_of(spec)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) != 2 or numbers > LAST:
        raise InvalidDeployment(
            f"triton-engine needs an image with TensorRT-LLM up to {LAST[0]}.{LAST[1]} (Triton 26.07 or older),"
            f" not {version or 'an unnamed version'}; choose triton-llmapi"
        )
