"""Filter: the replicas that may serve at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gateway.contract import Replica


def allows(residency: str, *, region: str, zones: Collection[str]) -> bool:
    """Say whether ``residency`` allows a region that belongs to ``zones``.

    ``region:R`` demands the region, ``zone:Z`` one of the zones; ``global`` allows all. Anything
    else, and an empty name, allows nothing.
    """
    if residency == "global":
        return True
    kind, _, place = residency.partition(":")
    if not place:
        return False
    if kind == "region":
        return region == place
    if kind == "zone":
        return place in zones
    return False


def resides(replica: Replica, residency: str) -> bool:
    """Say whether ``replica`` stands where ``residency`` demands."""
    return allows(residency, region=replica.region, zones=replica.zones)


def eligible(
    replicas: Iterable[Replica], *, residency: str, excluded: Collection[str] = ()
) -> tuple[Replica, ...]:
    """Keep the replicas that satisfy ``residency`` and whose id is not in ``excluded``."""
    return tuple(
        replica for replica in replicas if replica.replica_id not in excluded and resides(replica, residency)
    )
