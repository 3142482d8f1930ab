"""``triton-python``: the shipped small model under Triton's python backend, in a container.

Needs an image with tritonserver, its python backend, numpy and tokenizers.
"""

from __future__ import annotations

import base64
import bz2
import functools
import tempfile
from pathlib import Path
from typing import Final

from clusters.specs import GIB, DeploymentSpec, EngineContainer, WeightsKind
from clusters.triton import ENGINE_MODEL
from clusters.triton.errors import InvalidDeployment
from clusters.triton.language_model.artifact import ensure_artifact
from clusters.triton.repository import ENGINE, EngineSpec, config_pbtxt
from clusters.triton.runtimes import container

_START: Final = Path(__file__).parent / "unpack.py"
UNPACKED_AT: Final = "/tmp/repository"  # noqa: S108 - the container's own
PACKED: Final = ".bz2.b64"
"""Ending of a file that is not text. bzip2, because one input gives one output on every machine."""


def engine_of(spec: DeploymentSpec) -> EngineContainer:
    """Say how the shipped model runs in a container.

    Raises:
        InvalidDeployment: it can never run; the message says what to change.
    """
    if spec.weights.kind is not WeightsKind.BUILT_IN:
        raise InvalidDeployment("triton-python ships its own weights; choose weights of kind built-in")
    if spec.nodes_per_replica > 1:
        raise InvalidDeployment("triton-python runs on one node; ask for fewer GPUs per replica")
    engine = EngineSpec.parse(
        model=spec.model,
        context_tokens=spec.context_tokens,
        max_output_tokens=spec.max_output_tokens,
        max_batch_size=spec.max_batch_size,
        parameters=spec.parameters,
    )
    version = f"repository/{ENGINE_MODEL}/1"
    files = {
        f"repository/{ENGINE_MODEL}/config.pbtxt": config_pbtxt(engine),
        **{f"{version}/{path.name}": path.read_text("utf-8") for path in sorted(ENGINE.glob("*.py"))},
        **{f"{version}/{name}": text for name, text in _artifact().items()},
        "unpack.py": _START.read_text("utf-8"),
    }
    return EngineContainer(
        image=container.image_of(spec),
        command=(
            "python3",
            f"{container.FILES_AT}/unpack.py",
            container.REPOSITORY,
            UNPACKED_AT,
            *container.tritonserver(exit_timeout_s=spec.tuning.drain_s, repository=UNPACKED_AT),
        ),
        env={**container.PYTHON_ENV, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        files=files,
        files_at=container.FILES_AT,
        engine_model=ENGINE_MODEL,
        protocol="triton-generate",
        http_port=container.HTTP_PORT,
        readiness_path=container.readiness_path(ENGINE_MODEL),
        liveness_path=container.readiness_path(ENGINE_MODEL),
        metrics_port=container.METRICS_PORT,
        shm_bytes=GIB // 4,
        memory_bytes=2 * GIB,
        cpus=1,
    )


@functools.cache
def _artifact() -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="berth-model-") as folder:
        artifact = ensure_artifact(Path(folder))
        ngrams = bz2.compress((artifact / "ngrams.npz").read_bytes(), 9)
        return {
            "tokenizer.json": (artifact / "tokenizer.json").read_text("utf-8"),
            f"ngrams.npz{PACKED}": base64.b64encode(ngrams).decode("ascii"),
        }
