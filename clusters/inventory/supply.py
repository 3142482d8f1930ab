"""Telling billing which GPUs clusters have, and how many of them are not Berth's to give."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from billing.gpu_time.supply import NodeSupply, supply_write
from clusters.models import Cluster, Node, NodePool
from clusters.planning.gpus import part_of_whole

log = logging.getLogger(__name__)


@transaction.atomic
def supply_keep(cluster: Cluster, *, now: dt.datetime) -> int:
    """Write down what a cluster's pools and nodes have now, where it changed; give how many intervals did.

    Of a cluster that does not answer nothing new is known, and nothing is written. Its row is locked before pools are.
    """
    row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
    if row.removed_at is not None or row.state == Cluster.State.UNREACHABLE:
        return 0
    pools = NodePool.objects.filter(cluster=row).select_related("gpu_type").prefetch_related("members")
    nodes = [each for pool in pools for each in _of_pool(pool, cordoned=bool(row.cordon_reason))]
    return supply_write(cluster=row.name, region=row.region.code, nodes=nodes, seen_at=now)


def supply_sweep() -> int:
    """Write down what every cluster has, where nobody told of a change; give how many intervals changed."""
    return sum(_keep_one(cluster) for cluster in Cluster.objects.present())


def _keep_one(cluster: Cluster) -> int:
    try:
        return supply_keep(cluster, now=timezone.now())
    except Exception:
        log.exception("what cluster %s has cannot be written down", cluster.name)
        return 0


def _of_pool(pool: NodePool, *, cordoned: bool) -> Iterator[NodeSupply]:
    """Give a pool's nodes. What operators keep back counts on the last of them, and never on GPUs that are held."""
    if pool.discovered:
        members = sorted(pool.members.all(), key=lambda member: member.index)
        shown = [(node.name, node.capacity, _platform(node)) for node in members if not node.gone_at]
    else:
        shown = [(f"{index}", pool.gpus_per_node, 0) for index in range(pool.nodes)]
    profile, share = part_of_whole(pool.gpu_type.name)
    reserve = pool.reserve
    for name, gpus, platform in reversed(shown):
        kept = gpus - platform if cordoned else min(reserve, gpus - platform)
        reserve -= min(reserve, kept)
        if gpus:
            yield NodeSupply(
                pool=pool.name,
                node=name,
                gpu_type=pool.gpu_type.name,
                gpus=gpus,
                platform=platform + kept,
                slice=profile,
                share=round(Decimal(share.numerator) / share.denominator, 8),
            )


def _platform(node: Node) -> int:
    """Count the GPUs of a node that others hold or that nobody can use, besides those that Berth's own pods hold."""
    lent = node.capacity - node.own
    if node.fault or not node.schedulable:
        return max(0, lent)
    return min(max(0, lent), node.foreign + node.capacity - node.usable)
