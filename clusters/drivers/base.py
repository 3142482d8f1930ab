"""What Berth asks of a cluster, whatever drives it.

Plain Python, no framework: a driver gets frozen specs and gives frozen observations. All calls
block, return within ``timeout`` of the driver's own choosing, and may be repeated safely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from clusters.specs import DeploymentSpec, DeploymentStatus, GatewaySpec, GatewayStatus


class DriverError(Exception):
    """Something a cluster could not do. Use one of the two subclasses."""


class TryLater(DriverError):
    """The cluster is away or busy; the same call may succeed after ``delay`` seconds."""

    def __init__(self, message: str, *, delay: float = 5.0) -> None:
        super().__init__(message)
        self.delay = delay


class Away(TryLater):
    """The cluster does not answer at all: nobody else need try before it has been seen again."""


class GiveUp(DriverError):
    """The cluster will never accept this; the message says what to change."""


class Driver(Protocol):
    """The one door to a cluster."""

    def apply(self, spec: DeploymentSpec) -> bool:
        """Make the cluster want ``spec``; return whether anything had to be written.

        Raises:
            TryLater: the cluster cannot be reached now.
            GiveUp: the spec can never run there.
        """

    def render(self, spec: DeploymentSpec) -> Mapping[str, str]:
        """Give what the cluster would be told for ``spec``, as named texts; asks the cluster nothing.

        Raises:
            GiveUp: the spec can never run there.
        """

    def drifted(self, specs: Sequence[DeploymentSpec]) -> Mapping[str, Sequence[str] | DriverError]:
        """Compare many deployments with what they are to be, reading the cluster as a whole; nothing is written.

        Gives for each name what differs, for people: empty where applying would write nothing; or why it cannot
        be told.

        Raises:
            TryLater: the cluster cannot be reached now.
        """

    def replace(self, name: str, replica_id: str) -> bool:
        """End one replica, so that another takes its place elsewhere; False when it is not there any more.

        Raises:
            TryLater: the cluster cannot be reached now.
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

    def apply_gateway(self, spec: GatewaySpec) -> bool:
        """Make the cluster run a gateway so; return whether anything had to be written.

        Raises:
            TryLater: the cluster cannot be reached now.
            GiveUp: this cluster runs no gateways, or refuses this one for good.
        """

    def observe_gateway(self, name: str) -> GatewayStatus | None:
        """Show a gateway as the cluster sees it, None when there is none.

        Raises:
            TryLater: the cluster cannot be reached now.
            GiveUp: this cluster runs no gateways.
        """

    def delete_gateway(self, name: str) -> bool:
        """Ask for a gateway's end, volumes included; return True once nothing of it is left.

        Deleting what is not there is success. Call again until True.

        Raises:
            TryLater: the cluster cannot be reached now.
            GiveUp: this cluster runs no gateways.
        """
