"""One engine over several nodes: MPI without ssh and without rights in the cluster.

The leader's ``mpirun`` starts its daemons through a small program in place of ssh, which asks a listener
in each worker's pod. Only pods of the same deployment reach that listener (network policy), and only the
leader's own address is answered. MPI's and NCCL's own ports ask nobody who he is: where the cluster's network
does not enforce policies, any pod in it can reach them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clusters.specs import DeploymentSpec
from clusters.triton.runtimes.container import FILES_AT, gpus_per_pod

_FOLDER: Final = Path(__file__).parent
FILES: Final = {
    f"group/{name}.py": (_FOLDER / f"{name}.py").read_text("utf-8")
    for name in ("leader", "worker", "agent", "engine")
}


#: TensorRT-LLM's own launcher: the first process runs the command, the others compute for it.
LAUNCH: Final = ("trtllm-llmapi-launch", "python3", f"{FILES_AT}/group/engine.py")


def leader(spec: DeploymentSpec, command: Sequence[str]) -> tuple[str, ...]:
    """Run ``command`` once, with every GPU of the group behind it, from the leader's pod."""
    return ("python3", f"{FILES_AT}/group/leader.py", str(gpus_per_pod(spec)), *LAUNCH, *command)


def worker() -> tuple[str, ...]:
    """Wait in a worker's pod for the leader."""
    return ("python3", f"{FILES_AT}/group/worker.py")
