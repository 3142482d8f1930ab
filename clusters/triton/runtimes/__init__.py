"""How each runtime's engine is started in a container: image, command, files, probes, jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from clusters.specs import DeploymentSpec, EngineContainer
from clusters.triton.errors import InvalidDeployment
from clusters.triton.runtimes import builtin, llmapi, trt_engine, trtllm_serve

RUNTIMES: Final[Mapping[str, Callable[[DeploymentSpec], EngineContainer]]] = MappingProxyType(
    {
        "triton-llmapi": llmapi.engine_of,
        "trtllm-serve": trtllm_serve.engine_of,
        "triton-engine": trt_engine.engine_of,
        "triton-python": builtin.engine_of,
    }
)


def engine_of(spec: DeploymentSpec) -> EngineContainer:
    """Say how the engine of ``spec`` runs in a container; equal specs give equal answers.

    Raises:
        InvalidDeployment: it can never run; the message says what to change.
    """
    try:
        runtime = RUNTIMES[spec.runtime]
    except KeyError:
        known = ", ".join(RUNTIMES)
        raise InvalidDeployment(f"there is no runtime {spec.runtime!r}; choose one of {known}") from None
    return runtime(spec)
