"""Reading the estate across tenants, for operators: who is on which node, who holds how much, what went silent."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from django.db.models import F

from billing.prices import price_book
from billing.rating.prices import MissingPrice
from clusters.inventory.capacity import PoolCapacity
from clusters.inventory.faults import Eviction, eviction, is_blackout
from clusters.models import Gateway, Node, NodePool, Reservation
from tenants import scope

#: A gateway asks for news at least once a minute; after two it is silent.
SILENT_AFTER: Final = dt.timedelta(minutes=2)
#: How long a node may be not ready before its engines are ended: most come back sooner than a model loads.
NOT_READY_GRACE: Final = dt.timedelta(seconds=120)
#: An inventory that was not read for longer says nothing against the nodes that engines run on.
STALE_AFTER: Final = dt.timedelta(minutes=5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    """An endpoint and the GPUs it holds on one node."""

    endpoint_id: uuid.UUID
    endpoint: str
    tenant: str
    gpus: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeUse:
    """One node of a pool: all its GPUs, those held, those kept in reserve, those free.

    Of a discovered node also its ``name``, the GPUs that pods hold which are not Berth's, those that are not
    healthy, and in ``fault`` why nothing new is planned there.
    """

    index: int
    total: int
    held: int
    reserve: int
    free: int
    holders: tuple[Holder, ...]
    name: str = ""
    foreign: int = 0
    faulty: int = 0
    fault: str = ""
    driver_version: str = ""


def node_uses(capacity: PoolCapacity) -> list[NodeUse]:
    """Give the nodes of a pool with who holds GPUs there; one query.

    A node that is gone is shown for as long as somebody holds GPUs on it.
    """
    holders: dict[int, Counter] = defaultdict(Counter)
    with scope.platform("who holds GPUs on the nodes of a pool"):
        rows = Reservation.objects.held().filter(pool=capacity.pool).select_related("endpoint__tenant")
        for row in rows:
            for node in row.nodes:
                holders[node][row.endpoint_id, row.endpoint.name, row.endpoint.tenant.name] += (
                    row.gpus_per_replica
                )
    members = {node.index: node for node in capacity.nodes}
    nodes = []
    for index, free in enumerate(capacity.free_per_node):
        held = sum(holders[index].values())
        node = members.get(index)
        if capacity.pool.discovered and not held and (node is None or node.gone_at):
            continue
        total = node.capacity if node else capacity.pool.gpus_per_node
        foreign = node.foreign if node else 0
        faulty = (total if _is_broken(node) else total - node.usable) if node else 0
        barred = node is not None and node.free_for_berth == 0
        nodes.append(
            NodeUse(
                index=index,
                total=total,
                held=held,
                reserve=0 if barred else max(0, total - held - free - foreign - faulty),
                free=free,
                name=node.name if node else "",
                foreign=foreign,
                faulty=faulty,
                fault=_fault(node) if node else "",
                driver_version=node.driver_version if node else "",
                holders=tuple(
                    Holder(endpoint_id=endpoint_id, endpoint=name, tenant=tenant, gpus=gpus)
                    for (endpoint_id, name, tenant), gpus in sorted(
                        holders[index].items(), key=lambda row: row[0][1:]
                    )
                ),
            )
        )
    return nodes


def _is_broken(node: Node) -> bool:
    return bool(node.fault or node.gone_at)


def _fault(node: Node) -> str:
    if node.gone_at:
        return "Gone: its cluster shows it no more."
    if node.fault:
        return node.fault
    return "" if node.schedulable else "Cordoned there, or tainted: nothing new goes onto it."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unfit:
    """Nodes that engines have to leave, by name and why, and when some of the others may have to be left."""

    faults: Mapping[str, str]
    look_again: dt.timedelta | None = None


def unfit_nodes(cluster_id: uuid.UUID, names: Collection[str], *, now: dt.datetime) -> Unfit:
    """Say which of a cluster's nodes engines have to leave: those at fault, and those that are gone.

    A node that is not ready has :data:`NOT_READY_GRACE`, and for as long as most of them are not ready, none of
    them has to be left.
    """
    there, gone = defaultdict(list), set()
    rows = Node.objects.filter(pool__cluster_id=cluster_id, name__in=names)
    for node in rows.annotate(read_at=F("pool__cluster__read_at")):
        if node.read_at is not None and now - node.read_at > STALE_AFTER:
            continue
        if node.gone_at:
            gone.add(node.name)
        else:
            there[node.name].append(node)
    faults = dict.fromkeys(gone - set(there), "the cluster shows it no more")
    silent: dict[str, Node] = {}
    for name, nodes in there.items():
        if not all(node.fault for node in nodes):  # it is in good health where it belongs now
            continue
        for node in nodes:
            if eviction(node.fault) is Eviction.AT_ONCE:
                faults[name] = node.fault
            elif eviction(node.fault) is Eviction.IF_IT_LASTS:
                silent[name] = node
    silent = {name: node for name, node in silent.items() if name not in faults}
    if not silent:
        return Unfit(faults=faults)
    all_there = Node.objects.filter(pool__cluster_id=cluster_id, gone_at=None)
    if is_blackout(all_there.values_list("name", "fault")):
        return Unfit(faults=faults, look_again=NOT_READY_GRACE)
    left = {name: NOT_READY_GRACE - (now - (node.fault_since or now)) for name, node in silent.items()}
    over = {name for name, time in left.items() if time <= dt.timedelta()}
    faults |= {name: silent[name].fault for name in over}
    return Unfit(faults=faults, look_again=min((left[name] for name in left.keys() - over), default=None))


def gpus_held_by_tenant() -> Counter[uuid.UUID]:
    """Count the GPUs that each tenant's reservations hold now."""
    held: Counter[uuid.UUID] = Counter()
    with scope.platform("GPUs held, by tenant"):
        for row in Reservation.objects.held():
            held[row.tenant_id] += row.gpus
    return held


def unpriced_pools(*, currency: str, now: dt.datetime) -> list[NodePool]:
    """Give the pools that are not for sale, because their GPU type has no price in their region."""
    book = price_book(currency)
    unpriced = []
    for pool in NodePool.objects.select_related("cluster__region", "gpu_type"):
        try:
            book.at("gpu_hour", now, gpu_type=pool.gpu_type.name, region=pool.cluster.region.code)
        except MissingPrice:
            unpriced.append(pool)
    return unpriced


def is_silent(gateway: Gateway, now: dt.datetime) -> bool:
    """Say whether a gateway was not heard of for longer than :data:`SILENT_AFTER`."""
    return gateway.last_seen_at is None or now - gateway.last_seen_at > SILENT_AFTER
