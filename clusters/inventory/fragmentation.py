"""Free GPUs that lie apart: what of them replicas of one, two, four or eight GPUs could still use."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from clusters.inventory.capacity import PoolCapacity

#: GPUs of one replica on one node that are looked at.
SIZES: Final = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fragmentation:
    """Free GPUs of one pool. ``largest`` is how many are free on one node at most, ``whole`` how many a node has.

    ``fits_N`` counts the replicas of N GPUs that find room, one node each. ``stranded`` are the free GPUs left when the
    pool was filled with the largest replicas that fit an empty node of it; ``stranded_share`` is their part of
    ``free``, None where nothing is free. ``nodes`` says how many nodes have so many GPUs free.
    """

    cluster: str
    region: str
    pool: str
    gpu_type: str
    total: int
    free: int
    whole: int
    largest: int
    fits_1: int
    fits_2: int
    fits_4: int
    fits_8: int
    stranded: int
    stranded_share: Decimal | None
    nodes: str


def fragmentation(found: Iterable[PoolCapacity]) -> list[Fragmentation]:
    """Tell how the free GPUs of each pool lie, those with the most stranded first."""
    rows = [_of_pool(each) for each in found]
    return sorted(rows, key=lambda row: (-row.stranded, row.cluster, row.pool))


def _of_pool(each: PoolCapacity) -> Fragmentation:
    free = each.free_per_node
    whole = each.pool.gpus_per_node
    fits = {size: sum(left // size for left in free) for size in SIZES}
    size = max((size for size in SIZES if size <= whole), default=1)
    stranded = each.free - size * fits[size]
    return Fragmentation(
        cluster=each.pool.cluster.name,
        region=each.pool.cluster.region.code,
        pool=each.pool.name,
        gpu_type=each.pool.gpu_type.name,
        total=each.total,
        free=each.free,
        whole=whole,
        largest=max(free, default=0),
        fits_1=fits[1],
        fits_2=fits[2],
        fits_4=fits[4],
        fits_8=fits[8],
        stranded=stranded,
        stranded_share=round(Decimal(stranded) / each.free, 6) if each.free else None,
        nodes=", ".join(
            f"{free.count(left)} x {left}" for left in sorted({left for left in free if left}, reverse=True)
        ),
    )
