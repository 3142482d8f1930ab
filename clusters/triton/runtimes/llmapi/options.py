"""model.yaml: the options of TensorRT-LLM's LLM API, and the table that they are checked against."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import yaml  # type: ignore[import-untyped]

from clusters.specs import DeploymentSpec
from clusters.triton.errors import InvalidDeployment
from clusters.triton.runtimes.container import gpus_per_pod

KEYS: Final = "keys-1.2.json"
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml takes a fifth of the time
POLICIES: Final = ("GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH")
ATTENTION_BACKENDS: Final = ("TRTLLM", "FLASHINFER", "VANILLA")
#: What a checkpoint's weights are computed in; a quantized checkpoint says that itself.
DTYPES: Final = {"bf16": "bfloat16", "fp8": "auto", "int4": "auto", "nvfp4": "auto"}


def options_of(spec: DeploymentSpec, *, model: str) -> dict[str, Any]:
    """Give the LLM API's options for ``spec`` with the checkpoint at ``model``.

    Raises:
        InvalidDeployment: the tuning or the precision is none that the engine knows.
    """
    tuning = spec.tuning
    _one_of("scheduler_policy", tuning.scheduler_policy, POLICIES)
    _one_of("attention_backend", tuning.attention_backend, ATTENTION_BACKENDS)
    _one_of("kv_cache_dtype", tuning.kv_cache_dtype, ("auto", "fp8"))
    _one_of("precision", spec.precision, tuple(DTYPES))
    if not 0 < tuning.kv_cache_fraction < 1:
        raise InvalidDeployment(f"kv_cache_fraction must lie between 0 and 1, got {tuning.kv_cache_fraction}")
    if tuning.stream_interval < 1:
        raise InvalidDeployment(f"stream_interval must be at least 1, got {tuning.stream_interval}")
    batch = min(spec.max_batch_size, tuning.max_batch_size or spec.max_batch_size)
    # Without chunks a prompt must fit one iteration whole.
    tokens = max(tuning.max_num_tokens, batch, 0 if tuning.chunked_prefill else spec.context_tokens)
    options: dict[str, Any] = {
        "model": model,
        "backend": "pytorch",
        "dtype": "auto" if spec.weights.quantize else DTYPES[spec.precision],
        "tensor_parallel_size": spec.tensor_parallel,
        "pipeline_parallel_size": spec.pipeline_parallel,
        "gpus_per_node": gpus_per_pod(spec),
        "enable_attention_dp": spec.attention_dp,
        "max_batch_size": batch,
        "max_num_tokens": tokens,
        "max_seq_len": spec.context_tokens,
        # Left out, it is 1024.
        "max_input_len": spec.context_tokens - 1,
        "kv_cache_config": {
            "free_gpu_memory_fraction": tuning.kv_cache_fraction,
            "dtype": tuning.kv_cache_dtype,
            "enable_block_reuse": tuning.kv_block_reuse,
        },
        "scheduler_config": {"capacity_scheduler_policy": tuning.scheduler_policy},
        "enable_chunked_prefill": tuning.chunked_prefill,
        "attn_backend": tuning.attention_backend,
        "cuda_graph_config": {"max_batch_size": batch, "enable_padding": True}
        if tuning.cuda_graphs
        else None,
        "disable_overlap_scheduler": not tuning.overlap_scheduler,
        "stream_interval": tuning.stream_interval,
        # What the KV cache holds is told nowhere else.
        "enable_iter_perf_stats": True,
    }
    if spec.expert_parallel > 1:
        options["moe_expert_parallel_size"] = spec.expert_parallel
        options["moe_tensor_parallel_size"] = spec.tensor_parallel // spec.expert_parallel
    return options


def to_yaml(options: Mapping[str, Any]) -> str:
    """Write checked options; equal options give equal text.

    Raises:
        InvalidDeployment: one of them is none of the pinned version's.
    """
    if unknown := list(unknown_keys(options)):
        raise InvalidDeployment(
            f"TensorRT-LLM {'/'.join(_table()['versions'])} has no option {', '.join(unknown)}"
        )
    return cast(str, yaml.dump(dict(options), Dumper=_DUMPER, sort_keys=False, default_flow_style=False))


def check_version(spec: DeploymentSpec) -> None:
    """Check that the image's TensorRT-LLM is one whose options are known.

    Raises:
        InvalidDeployment: it is not.
    """
    version = spec.image.engine_version if spec.image is not None else ""
    if version and not version.startswith(tuple(f"{known}." for known in _table()["versions"])):
        raise InvalidDeployment(
            f"the image's TensorRT-LLM {version} is not known here; use one of {', '.join(_table()['versions'])}"
        )


def unknown_keys(options: Mapping[str, Any]) -> Iterator[str]:
    """Give each option that the pinned version does not have, as a dotted path."""
    yield from _unknown(options, _table()["keys"], "")


@functools.cache
def _table() -> dict[str, Any]:
    text = importlib.resources.files("clusters.triton.runtimes.llmapi").joinpath(KEYS).read_text("utf-8")
    return cast("dict[str, Any]", json.loads(text))


def _unknown(options: Mapping[str, Any], known: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in options.items():
        if name not in known:
            yield path + name
        elif isinstance(value, Mapping) and known[name] is not None:
            yield from _unknown(value, known[name], f"{path}{name}.")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidDeployment(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
