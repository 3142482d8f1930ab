"""What an endpoint's GPUs cost at given prices."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from clusters.models import Revision
from clusters.planning import problem


def held_price(revision: Revision, pools: Iterable[problem.Pool]) -> Decimal:
    """Give the price per hour of what a revision holds, at the prices of ``pools``.

    Where its pool is not for sale any more, the price that it was planned with counts.
    """
    prices = {pool.id: pool.price_per_gpu_hour for pool in pools}
    each = prices.get(str(revision.pool))
    if each is None:
        each = Decimal(revision.plan["configuration"]["price_per_gpu_hour"])
    return each * revision.replicas * revision.gpus_per_replica * revision.price_factor
