"""What a request passes between its door and an engine: gates that let it in, and settle when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from gateway.demand import Demand
from gateway.replies import Usage


class Permit(Protocol):
    """One request that a gate let in. Exactly one of the two methods is called, once."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the client is told with the answer."""

    def settle(self, usage: Usage) -> Mapping[str, str]:
        """Put what was used in the place of what was held; gives the ``charges`` of the usage record."""

    def withdraw(self) -> None:
        """Undo it, as if the request had never come: another endpoint is tried."""


class Free:
    """The permit of a request that a gate has nothing to say of."""

    headers: Mapping[str, str] = MappingProxyType({})

    def settle(self, usage: Usage) -> Mapping[str, str]:
        """Charge nothing."""
        return self.headers

    def withdraw(self) -> None:
        """Undo nothing."""


FREE: Final = Free()


class Gate(Protocol):
    """Lets requests in or refuses them."""

    async def enter(self, demand: Demand) -> Permit:
        """Let one request in.

        Raises:
            ApiError: it is refused (429 and others), nothing is held.
        """
