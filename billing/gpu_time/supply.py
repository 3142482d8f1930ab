"""GPUs that clusters were seen to have: what hours of GPU time are measured against."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection
from decimal import Decimal

from django.db.models import F, Value
from django.db.models.functions import Greatest

from billing.gpu_time.due import hours_changed
from billing.models import GpuSupply
from tenants import scope


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeSupply:
    """GPUs of one type on one node; ``platform`` of them are not Berth's to give. See :class:`GpuSupply`."""

    pool: str
    node: str
    gpu_type: str
    gpus: int
    platform: int
    slice: str = ""
    share: Decimal = Decimal(1)


def supply_write(*, cluster: str, region: str, nodes: Collection[NodeSupply], seen_at: dt.datetime) -> int:
    """Bring what a cluster is known to have to what it showed at ``seen_at``; give how many intervals changed.

    A node that shows the same keeps its interval; one that differs ends it and begins another; one that is not among
    ``nodes`` ends it. Call it with the cluster's row held, so that looks are written in their order.
    """
    wanted = {(each.pool, each.node): each for each in nodes}
    with scope.platform("write down which GPUs a cluster has"):
        ended = []
        for row in GpuSupply.objects.filter(cluster=cluster, ended_at=None):
            told = wanted.get((row.pool, row.node))
            if told is not None and row.region == region and told == _as_told(row):
                del wanted[row.pool, row.node]
            else:
                ended.append(row.pk)
        if ended:
            _end(ended, seen_at)
        begun = GpuSupply.objects.bulk_create(
            GpuSupply(cluster=cluster, region=region, started_at=seen_at, **dataclasses.asdict(each))
            for each in wanted.values()
        )
    return len(ended) + len(begun)


def supply_close(*, cluster: str, ended_at: dt.datetime) -> int:
    """End all that a cluster is known to have at ``ended_at``, its last sight; give how many intervals ended."""
    with scope.platform("end the GPUs of a cluster that is gone"):
        open_ones = list(
            GpuSupply.objects.filter(cluster=cluster, ended_at=None).values_list("pk", flat=True)
        )
        _end(open_ones, ended_at)
        if open_ones:
            hours_changed(since=ended_at)
    return len(open_ones)


def _as_told(row: GpuSupply) -> NodeSupply:
    return NodeSupply(**{field.name: getattr(row, field.name) for field in dataclasses.fields(NodeSupply)})


def _end(rows: list[object], ended_at: dt.datetime) -> None:
    GpuSupply.objects.filter(pk__in=rows).update(ended_at=Greatest(Value(ended_at), F("started_at")))
