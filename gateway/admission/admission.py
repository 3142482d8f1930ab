"""Admission to the replicas of endpoints."""

from __future__ import annotations

from collections.abc import Callable

from gateway import errors
from gateway.contract import Replica
from gateway.demand import Demand


class Admission:
    """Lets requests to replicas in, one limit of concurrency for each replica."""

    def has_room(self, replica: Replica, outstanding: int) -> bool:
        """Say whether ``replica``, which works on ``outstanding`` requests, may get one more."""
        return True

    async def enter(self, demand: Demand, seat: Callable[[], bool]) -> None:
        """Wait for a place. ``seat`` takes one at a replica with room and says whether there was one.

        Raises:
            ApiError: there is none and will be none in time.
        """
        if not seat():
            raise errors.Overloaded("Every replica is busy.", retry_after_s=1)

    def left(self, demand: Demand, replica: Replica) -> None:
        """Note that a request gave its place at ``replica`` up, so that the next one may have it."""
