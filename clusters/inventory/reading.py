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
from clusters.inventory.nodes import NodeFacts, Unread, read_nodes
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
    """What a reading changed. ``lost`` are nodes, as pool and index, that can run nothing since then."""

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

    Only rows that differ are written. ``unread`` are troubles of the look itself, told with those of the nodes.
    """
    row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
    reading = read_nodes(nodes, pods, installation=installation_of(row), tolerate=row.tolerate)
    by_shape: dict[_Shape, list[NodeFacts]] = defaultdict(list)
    for facts in reading.nodes:
        by_shape[_shape_of(facts)].append(facts)
    pools = list(
        NodePool.objects.filter(cluster=row, discovered=True)
        .select_related("gpu_type")
        .prefetch_related("members")
    )
    writer = _Writer(row, now)
    known = {_shape(pool): pool for pool in pools}
    for shape, found in sorted(by_shape.items(), key=lambda item: item[1][0].name):
        pool = known.get(shape) or writer.add_pool(found[0])
        writer.keep_pool(pool, found)
    for shape, pool in known.items():
        if shape not in by_shape:
            writer.keep_pool(pool, [])
    writer.note([*unread, *reading.unread])
    return Change(rows=writer.rows, lost=frozenset(writer.lost))


@transaction.atomic
def inventory_unread(cluster: Cluster, unread: Sequence[Unread], *, now: dt.datetime) -> None:
    """Write down why a cluster's nodes could not be read; its pools stay as they were last seen."""
    row = Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
    _Writer(row, now).note(unread)


def _shape_of(facts: NodeFacts) -> _Shape:
    return facts.gpu.name, facts.resource, facts.capacity, frozenset(facts.selector.items())


def _shape(pool: NodePool) -> _Shape:
    return pool.gpu_type.name, pool.resource, pool.gpus_per_node, frozenset(pool.selector.items())


class _Writer:
    """Writes one reading. ``rows`` counts what it wrote."""

    def __init__(self, cluster: Cluster, now: dt.datetime) -> None:
        self._cluster, self._now = cluster, now
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
        if not found and self._removed(pool):
            return
        self._forget(pool, list(members.values()))
        versions = [facts.driver_version for facts in found if facts.driver_version]
        oldest = min(versions, key=version_numbers, default="" if found else pool.driver_version)
        self._save(pool, {"nodes": len(found), "driver_version": oldest})

    def note(self, unread: Sequence[Unread]) -> None:
        told = [dataclasses.asdict(each) for each in unread]
        if len(told) > _MOST_UNREAD:
            more = len(told) - _MOST_UNREAD
            told = [*told[:_MOST_UNREAD], {"what": f"{more} more", "why": "Too many to list.", "todo": ""}]
        read_at = self._cluster.read_at
        if told != self._cluster.unread or read_at is None or self._now - read_at >= NOTE_READ_EVERY:
            self._save(self._cluster, {"unread": told, "read_at": self._now})

    def _keep_node(self, member: Node, facts: NodeFacts) -> None:
        values: dict[str, Any] = {
            "capacity": facts.capacity,
            "usable": facts.usable,
            "foreign": facts.foreign,
            "driver_version": facts.driver_version,
            "schedulable": facts.schedulable,
            "fault": facts.fault,
            "gone_at": None,
        }
        if bool(facts.fault) != bool(member.fault):
            values["fault_since"] = self._now if facts.fault else None
        known_as_whole = member.created_at is not None and not member.fault
        self._save(member, values)
        if facts.fault and known_as_whole:
            self.lost.add((member.pool_id, member.index))

    def _leave(self, member: Node) -> None:
        if member.gone_at is None:
            self._save(member, {"gone_at": self._now})
            self.lost.add((member.pool_id, member.index))

    def _forget(self, pool: NodePool, gone: list[Node]) -> None:
        old = [member for member in gone if member.gone_at and self._now - member.gone_at > PLACE_KEPT]
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
