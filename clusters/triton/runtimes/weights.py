"""From where a checkpoint comes to where the engine finds it, and the jobs in between."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from clusters.specs import GIB, DeploymentSpec, EngineJob, WeightsKind
from clusters.triton.errors import InvalidDeployment
from clusters.triton.runtimes import container

WEIGHTS_AT: Final = "/weights"
CACHE_AT: Final = "/cache"
QUANTIZATIONS: Final = ("fp8", "nvfp4", "int4_awq")
#: Ships with the pinned image; its dataset option takes a folder, so that nothing is fetched.
QUANTIZE: Final = "/app/examples/quantization/quantize.py"
CALIBRATION: Final = "/tmp/calibration"  # noqa: S108 - the container's own
_JOBS: Final = Path(__file__).parent / "jobs"
_PATH: Final = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)


def checkpoint_of(spec: DeploymentSpec) -> tuple[str, tuple[EngineJob, ...]]:
    """Give the path of the checkpoint to serve, and the jobs that bring it there.

    Raises:
        InvalidDeployment: the spec has no weights, or they cannot be had so.
    """
    path, jobs = source_of(spec)
    if not spec.weights.quantize:
        return path, jobs
    job = quantize_job(spec, checkpoint=path, export="hf")
    return f"{CACHE_AT}/{job.output}", (*jobs, job)


def source_of(spec: DeploymentSpec) -> tuple[str, tuple[EngineJob, ...]]:
    """Give the path of the checkpoint as it comes, and the job that fetches it where one must.

    Raises:
        InvalidDeployment: the spec has no weights, or they cannot be had so.
    """
    weights = spec.weights
    match weights.kind:
        case WeightsKind.BUILT_IN:
            raise InvalidDeployment(
                f"{spec.runtime} brings no weights; say in the catalog where those of {spec.model} come from"
            )
        case WeightsKind.PVC:
            claim, _, path = weights.uri.partition("/")
            if not claim or (path and not _is_path(path)):
                raise InvalidDeployment("weights of kind pvc need a uri of the form claim/path")
            return (f"{WEIGHTS_AT}/{path}" if path else WEIGHTS_AT), ()
        case WeightsKind.OCI_IMAGE:
            if "@sha256:" not in weights.uri:
                raise InvalidDeployment("weights of kind oci-image need a uri with a digest, name@sha256:…")
            return WEIGHTS_AT, ()
        case WeightsKind.HUGGING_FACE if not weights.revision:
            raise InvalidDeployment(
                "weights of kind hugging-face need a revision: without one they may change"
            )
        case WeightsKind.HUGGING_FACE if not weights.uri.startswith("https://"):
            raise InvalidDeployment(
                "weights of kind hugging-face need a uri https://mirror/organisation/model"
            )
        case WeightsKind.OBJECT_STORE if not weights.uri.startswith(("s3://", "gs://", "https://")):
            raise InvalidDeployment("weights of kind object-store need a uri s3://, gs:// or https://")
    job = _load_job(spec)
    return f"{WEIGHTS_AT}/{job.output}", (job,)


def quantize_job(spec: DeploymentSpec, *, checkpoint: str, export: str) -> EngineJob:
    """Make a quantized checkpoint (or, for ``export`` tensorrt_llm without quantization, a converted one).

    Raises:
        InvalidDeployment: the quantization is not known, or the replica spans nodes.
    """
    wanted = spec.weights.quantize
    if wanted and wanted not in QUANTIZATIONS:
        raise InvalidDeployment(f"quantize must be one of {', '.join(QUANTIZATIONS)}, got {wanted!r}")
    if spec.nodes_per_replica > 1:
        raise InvalidDeployment(
            "a model that spans nodes cannot be quantized here; give a checkpoint that is quantized already"
        )
    hub = export == "hf"
    shapes = {
        "source": source_digest(spec),
        "quantize": wanted,
        "export": export,
        "engine": engine_version(spec),
        "dtype": _DTYPES.get(spec.precision, "auto"),
        "kv": spec.tuning.kv_cache_dtype,
        # A checkpoint in the hub's layout is split when it is loaded.
        "split": [] if hub else [spec.tensor_parallel, spec.pipeline_parallel],
    }
    split = () if hub else ("--tp_size", str(spec.tensor_parallel), "--pp_size", str(spec.pipeline_parallel))
    kv = ("--kv_cache_dtype", "fp8") if spec.tuning.kv_cache_dtype == "fp8" else ()
    output = f"checkpoint-{digest(shapes)}"
    return make(
        spec,
        kind="quantize",
        output=output,
        command=(
            "python3", QUANTIZE, "--model_dir", checkpoint, "--output_dir", OUTPUT,
            "--dtype", _DTYPES.get(spec.precision, "auto"), "--qformat", wanted or "full_prec",
            *kv, "--calib_dataset", CALIBRATION, "--calib_size", "128", *split, "--export_format", export,
        ),
    )  # fmt: skip


OUTPUT: Final = "{output}"
"""Stands in a job's command for where it writes; the folder gets its own name once all went well."""
_DTYPES: Final = {"bf16": "bfloat16"}


def make(spec: DeploymentSpec, *, kind: str, output: str, command: tuple[str, ...]) -> EngineJob:
    """Run ``command`` of the engine's image on the GPUs of one replica, into ``output`` or not at all."""
    return EngineJob(
        kind=kind,
        image=container.image_of(spec),
        command=("python3", "-c", script("make"), f"{CACHE_AT}/{output}", *command),
        env={**container.PYTHON_ENV, **container.OFFLINE_ENV},
        output=output,
        gpus=container.gpus_per_pod(spec),
        memory_bytes=container.host_memory_bytes(spec, container.gpus_per_pod(spec))
        + round(spec.weights.size_gib) * GIB,
    )


def source_digest(spec: DeploymentSpec) -> str:
    """Name the checkpoint as it comes: equal for equal places and revisions."""
    return digest([spec.weights.kind, spec.weights.uri, spec.weights.revision])


def engine_version(spec: DeploymentSpec) -> str:
    """Name what makes results of one image unfit for another: TensorRT-LLM's version, else the image."""
    return (spec.image.engine_version or spec.image.digest) if spec.image is not None else ""


def digest(value: Any) -> str:
    """Twelve hex digits that equal values, and practically only they, share."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


@functools.cache
def script(name: str) -> str:
    """Give the text of a job's script. It is part of the command: jobs outlive what mounts files."""
    return (_JOBS / f"{name}.py").read_text("utf-8")


def _load_job(spec: DeploymentSpec) -> EngineJob:
    weights = spec.weights
    output = f"weights-{source_digest(spec)}"
    return EngineJob(
        kind="load",
        image=container.image_of(spec),
        command=(
            "python3",
            "-c",
            script("load"),
            weights.kind.value,
            weights.uri,
            weights.revision,
            f"{WEIGHTS_AT}/{output}",
        ),
        env=dict(container.PYTHON_ENV),
        output=output,
        memory_bytes=2 * GIB,
        network=True,
    )


def _is_path(path: str) -> bool:
    return bool(_PATH.fullmatch(path)) and ".." not in path.split("/")
