"""Filter: the replicas that may serve at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set

from gateway.contract import Replica


def resides(replica: Replica, residency: str) -> bool:
    """Say whether ``replica`` stands where ``residency`` demands.

    ``region:R`` demands its region, ``zone:Z`` one of its zones; ``global`` allows all. Anything
    else, and an empty name, allows nothing.
    """
    if residency == "global":
        return True
    kind, _, place = residency.partition(":")
    if not place:
        return False
    if kind == "region":
        return replica.region == place
    if kind == "zone":
        return place in replica.zones
    return False


def eligible(
    replicas: Iterable[Replica],
    *,
    residency: str,
    excluded: Collection[str] = (),
    needs: Set[str] = frozenset(),
) -> tuple[Replica, ...]:
    """Keep the replicas that satisfy ``residency``, have all features of ``needs``, and are not in ``excluded``."""
    return tuple(
        replica
        for replica in replicas
        if replica.replica_id not in excluded
        and (not needs or needs <= set(replica.features))
        and resides(replica, residency)
    )
