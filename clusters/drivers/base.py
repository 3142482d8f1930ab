"""What Berth asks of a cluster, whatever drives it.

Plain Python, no framework: a driver gets frozen specs and gives frozen observations. All calls
block, return within ``timeout`` of the driver's own choosing, and may be repeated safely.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from typing import Protocol


class DriverError(Exception):
    """Something a cluster could not do. Use one of the two subclasses."""


class TryLater(DriverError):
    """The cluster is away or busy; the same call may succeed after ``delay`` seconds."""

    def __init__(self, message: str, *, delay: float = 5.0) -> None:
        super().__init__(message)
        self.delay = delay


class GiveUp(DriverError):
    """The cluster will never accept this; the message says what to change."""


class Phase(enum.StrEnum):
    """Where one replica stands, as the cluster shows it."""

    PENDING = "pending"  # accepted, no GPU held yet
    STARTING = "starting"  # holds its GPUs; the engine is not ready
    READY = "ready"  # the engine answers
    DRAINING = "draining"  # finishing its streams, gets no new ones
    FAILED = "failed"  # stopped and not coming back without a change


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentSpec:
    """One revision of one endpoint as a cluster is to run it.

    ``name`` is unique in the cluster and stable for the revision; ``labels`` say whose it is
    (``tenant``, ``endpoint``, ``revision`` at least) and come back in the observation.
    """

    name: str
    labels: Mapping[str, str]
    runtime: str  # "triton-python", "triton-llmapi", …
    model: str  # catalog name
    replicas: int
    gpu_type: str
    gpus_per_replica: int
    context_tokens: int
    max_output_tokens: int
    max_batch_size: int
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplicaStatus:
    """One replica as seen now. ``replica_id`` never returns for another process or pod."""

    replica_id: str
    index: int
    phase: Phase
    url: str | None  # where its engine answers, once it has an address
    engine_model: str
    message: str
    started_at: dt.datetime | None  # since when it holds its GPUs
    ready_at: dt.datetime | None
    restarts: int = 0

    @property
    def holds_gpus(self) -> bool:
        """Whether GPUs are taken by this replica now: what allocation and cost follow."""
        return self.phase in (Phase.STARTING, Phase.READY, Phase.DRAINING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentStatus:
    """What a cluster shows of one deployment. ``spec`` is what it was last told."""

    name: str
    labels: Mapping[str, str]
    spec: DeploymentSpec
    replicas: Sequence[ReplicaStatus]
    deleting: bool = False


class Driver(Protocol):
    """The one door to a cluster."""

    def apply(self, spec: DeploymentSpec) -> bool:
        """Make the cluster want ``spec``; return whether anything had to be written.

        Raises:
            TryLater: the cluster cannot be reached now.
            GiveUp: the spec can never run there.
        """

    def observe(self, name: str) -> DeploymentStatus | None:
        """Show the deployment as the cluster sees it, None when there is none.

        Raises:
            TryLater: the cluster cannot be reached now.
        """

    def delete(self, name: str) -> bool:
        """Ask for the deployment's end; return True once nothing of it is left.

        Deleting what is not there is success. Call again until True.

        Raises:
            TryLater: the cluster cannot be reached now.
        """

    def deployments(self) -> Sequence[DeploymentStatus]:
        """List every deployment that Berth made here, for the sweep of leaks.

        Raises:
            TryLater: the cluster cannot be reached now.
        """

    def logs(self, name: str, replica_id: str, *, lines: int = 100) -> str:
        """Give the last lines of an engine's own log, without request texts.

        Raises:
            TryLater: the cluster cannot be reached now.
        """
