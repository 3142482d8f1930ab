"""Score: how well a replica suits the next request, in 0..1, 1 the best."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.contract import Replica


def least_outstanding(replica: Replica, outstanding: Mapping[str, int]) -> float:
    """Prefer the replica with the fewest requests in flight; ``outstanding`` counts them by replica id."""
    return 1.0 / (1 + max(0, outstanding.get(replica.replica_id, 0)))
