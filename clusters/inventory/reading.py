"""Writing down what a cluster's nodes show: pools, their nodes, and what could not be read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django.db import transaction

from clusters.inventory.drivers import installation_of
from clusters.inventory.faults import NOT_READY, RESHAPED, UNREADABLE, Eviction, eviction, is_blackout
from clusters.inventory.nodes import NodeFacts, Reading, Unread, read_nodes
from clusters.inventory.supply import supply_keep
from clusters.inventory.twins import twins_of
from clusters.models import Cluster, GpuType, Node, NodePool, Reservation, Revision
from clusters.planning.problem import GpuSpec
from clusters.planning.versions import version_numbers
from tenants import scope

#: How often ``read_at`` is written where nothing else changed.
NOTE_READ_EVERY: Final = dt.timedelta(seconds=30)
#: For how long the place of a node that went away is kept for it.
PLACE_KEPT: Final = dt.timedelta(days=1)
_MOST_UNREAD: Final = 50

_Shape = tuple[str, str, int, frozenset[tuple[str, str]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """What a reading changed. ``lost`` are nodes, as pool and index, that engines may have to leave since then."""

    rows: int
    lost: frozenset[tuple[uuid.UUID, int]]


@transaction.atomic
def inventory_read(
    cluster: Cluster,
    *,
    nodes: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
    now: dt.datetime,
    unread: Sequence[Unread] = (),
) -> Change:
    """Bring the cluster's discovered pools to what its nodes and pods show at ``now``.

    Only rows that differ are written. A node is gone when the cluster shows it no more; where it is there but
    cannot be read, or has other GPUs than before, nothing new is planned on its old place. ``unread`` are
    troubles of the look itself, told with those of the nodes.
    """
    row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
    # In the order in which orders lock them: see clusters.inventory.capacity.
    list(NodePool.objects.filter(cluster=row).order_by("id").select_for_update(no_key=True).values_list("id"))
    reading = read_nodes(nodes, pods, installation=installation_of(row), tolerate=row.tolerate)
    by_shape: dict[_Shape, list[NodeFacts]] = defaultdict(list)
    for facts in reading.nodes:
        by_shape[_shape_of(facts)].append(facts)
    pools = list(
        NodePool.objects.filter(cluster=row, discovered=True)
        .select_related("gpu_type")
        .prefetch_related("members")
    )
    writer = _Writer(row, now, reading)
    blackout = is_blackout(_faults(row))
    known = {_shape(pool): pool for pool in pools}
    for shape, found in sorted(by_shape.items(), key=lambda item: item[1][0].name):
        pool = known.get(shape) or writer.add_pool(found[0])
        writer.keep_pool(pool, found)
    for shape, pool in known.items():
        if shape not in by_shape:
            writer.keep_pool(pool, [])
    if blackout and not is_blackout(_faults(row)):
        writer.begin_grace()
    writer.note([*unread, *twins_of(row), *reading.unread], read=True)
    if writer.rows:
        supply_keep(row, now=now)
    return Change(rows=writer.rows, lost=frozenset(writer.lost))


@transaction.atomic
def inventory_unread(cluster: Cluster, unread: Sequence[Unread], *, now: dt.datetime) -> None:
    """Write down why a cluster's nodes could not be read; its pools stay as they were last seen, and since when."""
    row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
    _Writer(row, now).note(unread, read=False)


def _faults(cluster: Cluster) -> list[tuple[str, str]]:
    there = Node.objects.filter(pool__cluster=cluster, gone_at=None)
    return list(there.values_list("name", "fault"))


def _shape_of(facts: NodeFacts) -> _Shape:
    return facts.gpu.name, facts.resource, facts.capacity, frozenset(facts.selector.items())


def _shape(pool: NodePool) -> _Shape:
    return pool.gpu_type.name, pool.resource, pool.gpus_per_node, frozenset(pool.selector.items())


class _Writer:
    """Writes one reading. ``rows`` counts what it wrote."""

    def __init__(self, cluster: Cluster, now: dt.datetime, reading: Reading | None = None) -> None:
        self._cluster, self._now = cluster, now
        self._names = reading.names if reading else frozenset()
        self._faults: Mapping[str, str] = reading.faults if reading else {}
        self._readable = {facts.name for facts in reading.nodes} if reading else set()
        self.rows = 0
        self.lost: set[tuple[uuid.UUID, int]] = set()

    def add_pool(self, facts: NodeFacts) -> NodePool:
        gpu_type = gpu_type_of(facts.gpu)
        pool = NodePool(
            cluster=self._cluster,
            name=self._pool_name(facts),
            gpu_type=gpu_type,
            nodes=0,
            gpus_per_node=facts.capacity,
            discovered=True,
            resource=facts.resource,
            selector=dict(facts.selector),
        )
        pool.save(force_insert=True)
        self.rows += 1
        return pool

    def keep_pool(self, pool: NodePool, found: list[NodeFacts]) -> None:
        members = {member.name: member for member in pool.members.all()}
        taken = {member.index for member in members.values()}
        for facts in found:
            member = members.pop(facts.name, None)
            if member is None:
                index = next(index for index in range(len(taken) + 1) if index not in taken)
                taken.add(index)
                member = Node(pool=pool, name=facts.name, index=index)
            self._keep_node(member, facts)
        for member in members.values():
            self._leave(member)
        silent = sum(self._is_silent(member) for member in members.values())
        if not found and not silent and self._removed(pool):
            return
        self._forget(pool, list(members.values()))
        versions = [facts.driver_version for facts in found if facts.driver_version]
        oldest = min(versions, key=version_numbers, default="" if found else pool.driver_version)
        self._save(pool, {"nodes": len(found) + silent, "driver_version": oldest})

    def begin_grace(self) -> None:
        """Count from now for how long nodes were not ready: until now it was not theirs."""
        silent = Node.objects.filter(pool__cluster=self._cluster, gone_at=None, fault__startswith=NOT_READY)
        self.rows += silent.exclude(fault_since=self._now).update(fault_since=self._now)

    def note(self, unread: Sequence[Unread], *, read: bool) -> None:
        told = [dataclasses.asdict(each) for each in unread]
        if len(told) > _MOST_UNREAD:
            more = len(told) - _MOST_UNREAD
            told = [*told[:_MOST_UNREAD], {"what": f"{more} more", "why": "Too many to list.", "todo": ""}]
        read_at = self._cluster.read_at
        if not read:
            self._save(self._cluster, {"unread": told})
        elif told != self._cluster.unread or read_at is None or self._now - read_at >= NOTE_READ_EVERY:
            self._save(self._cluster, {"unread": told, "read_at": self._now})

    def _keep_node(self, member: Node, facts: NodeFacts) -> None:
        values: dict[str, Any] = {
            "capacity": facts.capacity,
            "usable": facts.usable,
            "foreign": facts.foreign,
            "own": facts.own,
            "driver_version": facts.driver_version,
            "schedulable": facts.schedulable,
        }
        self._keep_there(member, values, facts.fault)

    def _leave(self, member: Node) -> None:
        """Write down why a node is not among those of its pool."""
        if member.name not in self._names:
            if member.gone_at is None:
                self._save(member, {"gone_at": self._now})
                self.lost.add((member.pool_id, member.index))
        elif member.name in self._readable:
            self._keep_there(member, {"capacity": 0, "usable": 0, "foreign": 0, "own": 0}, f"{RESHAPED}.")
        else:
            self._keep_there(member, {}, self._faults.get(member.name) or f"{UNREADABLE}.")

    def _keep_there(self, member: Node, values: dict[str, Any], fault: str) -> None:
        before, after = eviction(member.fault), eviction(fault)
        values |= {"fault": fault, "gone_at": None}
        if not fault:
            values["fault_since"] = None
        elif not member.fault or member.gone_at or before is not after:
            values["fault_since"] = self._now
        known = member.created_at is not None
        self._save(member, values)
        if known and after is not before and after is not Eviction.NEVER:
            self.lost.add((member.pool_id, member.index))

    def _is_silent(self, member: Node) -> bool:
        """Whether a node is there, and nobody can say what it has."""
        return member.name in self._names and member.name not in self._readable

    def _forget(self, pool: NodePool, left: list[Node]) -> None:
        """Give up the places of nodes that left and that no reservation counts on."""
        old = [
            member
            for member in left
            if member.fault.startswith(RESHAPED)
            or (member.gone_at and self._now - member.gone_at > PLACE_KEPT)
        ]
        if not old:
            return
        with scope.platform("see which nodes of a pool reservations count on"):
            held = Reservation.objects.held().filter(pool=pool).values_list("nodes", flat=True)
            counted = {index for nodes in held for index in nodes}
        for member in old:
            if member.index not in counted:
                member.delete()
                self.rows += 1

    def _removed(self, pool: NodePool) -> bool:
        if pool.reserve:  # what an operator set outlives a night with no nodes
            return False
        with scope.platform("remove a pool that nothing refers to"):
            if Reservation.objects.filter(pool=pool).exists() or Revision.objects.filter(pool=pool).exists():
                return False
            self.rows += pool.delete()[0]
        return True

    def _pool_name(self, facts: NodeFacts) -> str:
        label = "".join(c if c.isalnum() else "-" for c in facts.pool.lower()).strip("-")
        stem = (label or f"{facts.gpu.name.replace('_', '-')}-x{facts.capacity}")[:36].rstrip("-")
        taken = set(NodePool.objects.filter(cluster=self._cluster).values_list("name", flat=True))
        names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def _save(self, row: Any, values: Mapping[str, Any]) -> None:
        new = row.created_at is None
        changed = [name for name, value in values.items() if new or getattr(row, name) != value]
        if not changed:
            return
        for name in changed:
            setattr(row, name, values[name])
        if new:
            row.save(force_insert=True)
        else:
            row.save(update_fields=changed)
        self.rows += 1


def gpu_type_of(spec: GpuSpec) -> GpuType:
    """Give the row of a GPU type, made where there was none: parts of GPUs come into being on nodes."""
    gpu_type, _ = GpuType.objects.get_or_create(
        name=spec.name,
        defaults={
            "title": gpu_title(spec.name),
            "memory_gib": spec.memory_gib,
            "bandwidth_gbs": spec.bandwidth_gbs,
        },
    )
    return gpu_type


def gpu_title(name: str) -> str:
    """Write a GPU type's name for people: ``h100_sxm-1g-10gb`` is H100 SXM MIG 1g.10gb."""
    whole, _, part = name.partition("-")
    title = whole.replace("_", " ").upper()
    return f"{title} MIG {part.replace('-', '.')}" if part else title
