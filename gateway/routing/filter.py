"""Filter: the revisions and replicas that may serve at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Set
from typing import NamedTuple

from gateway.contract import Endpoint, Replica


class Option(NamedTuple):
    """A revision that may be chosen, its weight, and those of its replicas that may serve: never none."""

    revision_id: str
    weight: int
    replicas: tuple[Replica, ...]


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
    replicas: Iterable[Replica],
    *,
    residencies: Collection[str],
    excluded: Collection[str] = (),
    needs: Set[str] = frozenset(),
) -> tuple[Replica, ...]:
    """Keep the replicas that satisfy every one of ``residencies``, have all features of ``needs``, do not drain, and
    are not ``excluded`` by id.

    Without any residency none is kept.
    """
    return tuple(
        replica
        for replica in replicas
        if not replica.draining
        and replica.replica_id not in excluded
        and (not needs or needs <= set(replica.features))
        and residencies
        and all(resides(replica, residency) for residency in residencies)
    )


def options(
    endpoint: Endpoint,
    *,
    residency: str | None = None,
    needs: Set[str] = frozenset(),
    revision_id: str = "",
) -> tuple[Option, ...]:
    """Give what may serve a request to ``endpoint``: revisions with a weight, and replicas that may be given it.

    ``needs`` are the features that a replica must have. ``residency`` is another one to satisfy besides the
    endpoint's own: that of the endpoint which it stands in for. ``revision_id`` leaves that one revision, though its
    weight be 0.
    """
    residencies = (endpoint.residency,) if residency is None else (endpoint.residency, residency)
    return tuple(
        Option(route.revision_id, max(1, route.weight), replicas)
        for route in endpoint.routes
        if (route.revision_id == revision_id if revision_id else route.weight > 0)
        and (replicas := eligible(route.replicas, residencies=residencies, needs=needs))
    )


def narrowed(choices: Iterable[Option], keep: Callable[[Replica], bool]) -> tuple[Option, ...]:
    """Keep the replicas that ``keep`` says yes to, and the revisions that are left with one."""
    return tuple(
        option._replace(replicas=replicas)
        for option in choices
        if (replicas := tuple(filter(keep, option.replicas)))
    )
