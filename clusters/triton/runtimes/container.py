"""What the runtimes share: the image, how Triton is started in it, where things lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clusters.specs import GIB, DeploymentSpec
from clusters.triton.errors import InvalidDeployment
from clusters.triton.server import ADMIN_HEADER, RESTRICTED

FILES_AT: Final = "/berth"
# One level below the mount: in the mount itself lie the kubelet's own hidden folders, which Triton
# would take for models.
REPOSITORY: Final = f"{FILES_AT}/repository"
HTTP_PORT: Final = 8000
METRICS_PORT: Final = 8002
INPUT_LIMIT_BYTES: Final = 8 * 1024 * 1024

#: For the one process tree of an engine whose root folder is read-only.
PYTHON_ENV: Final = {
    "HOME": "/tmp",  # noqa: S108 - the container's own
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
#: Nothing may be fetched and nobody may be told: an engine has no way out of its namespace.
OFFLINE_ENV: Final = {
    "HF_HOME": "/tmp/huggingface",  # noqa: S108
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRTLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def image_of(spec: DeploymentSpec) -> str:
    """Give the image reference with its digest.

    Raises:
        InvalidDeployment: the spec names no image.
    """
    if spec.image is None:
        raise InvalidDeployment(
            f"the runtime {spec.runtime} has no engine image here; pin one by digest in the catalog"
        )
    return spec.image.pinned


def readiness_path(model: str) -> str:
    """Give where Triton says that ``model`` itself takes requests.

    That it lives is asked there too: of the server alone it is said when the model's process is long dead.
    """
    return f"/v2/models/{model}/ready"


def tritonserver(*, exit_timeout_s: int, repository: str = REPOSITORY) -> tuple[str, ...]:
    """Give the command line of the server in a container.

    Administration is behind a header whose value is the pod's own uid and given to nobody: it is there
    to close those doors. gRPC is off, as nobody speaks it.
    """
    return (
        "tritonserver",
        f"--model-repository={repository}",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={exit_timeout_s}",
        f"--http-port={HTTP_PORT}",
        f"--http-max-input-size={INPUT_LIMIT_BYTES}",
        f"--http-restricted-api={RESTRICTED}:{ADMIN_HEADER}=$(ADMIN_KEY)",
        "--allow-grpc=false",
        f"--metrics-port={METRICS_PORT}",
        "--metrics-interval-ms=1000",
        "--allow-cpu-metrics=false",
        "--log-format=ISO8601",
    )


def shm_bytes(gpus: int) -> int:
    """Give the size of /dev/shm: NCCL's and the worker processes' share for each GPU of one pod."""
    return (1 if gpus <= 1 else 2 * gpus) * GIB


def host_memory_bytes(spec: DeploymentSpec, gpus: int) -> int:
    """Give the main memory of one pod: each rank's process, the weights passing through, /dev/shm."""
    weights = -(-spec.weights.size_gib // spec.nodes_per_replica)
    return int(8 + 12 * gpus + weights) * GIB + shm_bytes(gpus)


def gpus_per_pod(spec: DeploymentSpec) -> int:
    """Give how many GPUs one pod of a replica holds.

    Raises:
        InvalidDeployment: the replica's GPUs do not spread evenly over its nodes.
    """
    nodes = spec.nodes_per_replica
    if spec.gpus_per_replica % nodes:
        raise InvalidDeployment(
            f"{spec.gpus_per_replica} GPUs cannot be spread evenly over {nodes} nodes; choose a multiple"
        )
    return spec.gpus_per_replica // nodes


def check_parallelism(spec: DeploymentSpec) -> None:
    """Check that the ways a model is split fit its GPUs and each other.

    Raises:
        InvalidDeployment: they do not.
    """
    ways = spec.tensor_parallel * spec.pipeline_parallel
    if ways != spec.gpus_per_replica:
        raise InvalidDeployment(
            f"tensor_parallel {spec.tensor_parallel} x pipeline_parallel {spec.pipeline_parallel} needs"
            f" {ways} GPUs, but a replica has {spec.gpus_per_replica}"
        )
    if spec.expert_parallel < 1 or spec.tensor_parallel % spec.expert_parallel:
        raise InvalidDeployment(
            f"expert_parallel {spec.expert_parallel} must divide tensor_parallel {spec.tensor_parallel}"
        )
    gpus_per_pod(spec)


def check_parameters(spec: DeploymentSpec, known: Sequence[str] = ()) -> None:
    """Refuse parameters that a runtime does not know.

    Raises:
        InvalidDeployment: there is one.
    """
    if unknown := sorted(set(spec.parameters) - set(known)):
        allowed = ", ".join(known) or "no parameters"
        raise InvalidDeployment(f"{spec.runtime} knows {allowed}, not {', '.join(unknown)}")
