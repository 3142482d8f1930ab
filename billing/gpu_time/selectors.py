"""Where GPU time and its cost went: the numbers of the operators' dashboards, read from hours and days.

Whole UTC days are read from the days, what is left at both ends from the hours. Periods are widened to whole hours of
UTC. GPU-seconds are devices' seconds, parts of a GPU (MIG) counted as devices of their own type; the same in
whole GPUs stands beside them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal

from django.db import connection

from billing.quantities import DAY, HOUR, round_down, round_up
from tenants import scope
from tenants.errors import Invalid

Bucket = Literal["", "1h", "1d"]

#: What time and cost may be grouped and narrowed by, and its column. The last three are of whoever held the GPUs.
DIMENSIONS: Final[Mapping[str, str]] = {
    "cluster": "cluster",
    "pool": "pool",
    "gpu_type": "gpu_type",
    "region": "region",
    "tenant": "tenant_id",
    "project": "project_id",
    "endpoint": "endpoint_id",
    "revision": "revision_id",
}
_OF_HOLDERS: Final = frozenset({"tenant", "project", "endpoint", "revision"})


@dataclasses.dataclass(frozen=True, slots=True)
class GpuTime:
    """GPU-seconds: ``seen`` = ``held`` + ``free`` + ``platform``, ``held`` = loading + serving + idle + draining.

    ``idle`` was held and ready in hours in which its endpoint got no request, ``free`` was held by nobody. ``queued``
    was waited for, and is part of nothing. ``excess`` is that part of what was held which no node showed.
    """

    seen: Decimal
    held: Decimal
    serving: Decimal
    idle: Decimal
    loading: Decimal
    draining: Decimal
    queued: Decimal
    free: Decimal
    platform: Decimal
    excess: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Utilization:
    """GPU time of one bucket (None: of the whole period) and one group, its values in the order they were asked for.

    ``time`` counts devices, ``whole`` the whole GPUs that they are parts of. Grouped by who held it, what nobody held
    is a group of empty names.
    """

    start: dt.datetime | None
    group: tuple[str, ...]
    time: GpuTime
    whole: GpuTime


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AssetCost:
    """What GPUs cost their owner: ``cost`` = ``held`` + ``free`` + ``platform``, each in ``currency``.

    ``idle`` is that part of ``held`` whose endpoints got no request. A blank currency is time without an asset rate:
    it cost 0, and ``gpu_seconds`` says how much is missing.
    """

    start: dt.datetime | None
    group: tuple[str, ...]
    currency: str
    gpu_seconds: Decimal
    cost: Decimal
    held: Decimal
    idle: Decimal
    free: Decimal
    platform: Decimal


_TIMES: Final = tuple(field.name for field in dataclasses.fields(GpuTime))
# By column of the sums: what pools' rows give, and what holders' rows give. Pools know what was held too, so that who
# asks for no holder never reads the larger table.
_OF_POOLS: Final[Mapping[str, str]] = {
    "seen": "seen", "held": "held", "serving": "serving", "idle": "unused", "loading": "loading",
    "draining": "draining", "queued": "queued", "free": "idle", "platform": "platform", "excess": "excess",
    "cost": "cost", "held_cost": "held_cost", "idle_cost": "unused_cost", "free_cost": "idle_cost",
    "platform_cost": "platform_cost",
}  # fmt: skip
_OF_NOBODY: Final = _OF_POOLS | {
    "seen": "seen - held", "held": "0", "serving": "0", "idle": "0", "loading": "0", "draining": "0", "queued": "0",
    "cost": "cost - held_cost", "held_cost": "0", "idle_cost": "0",
}  # fmt: skip
_OF_HELD: Final[Mapping[str, str]] = {
    "seen": "held", "held": "held", "serving": "serving", "idle": "idle", "loading": "loading",
    "draining": "draining", "queued": "queued", "free": "0", "platform": "0", "excess": "0", "cost": "cost",
    "held_cost": "cost", "idle_cost": "idle_cost", "free_cost": "0", "platform_cost": "0",
}  # fmt: skip


def gpu_utilization(
    start: dt.datetime,
    end: dt.datetime,
    *,
    bucket: Bucket = "",
    group_by: Sequence[str] = (),
    where: Mapping[str, Collection[str]] | None = None,
) -> list[Utilization]:
    """Sum GPU time in ``[start, end)`` by hour, UTC day or as a whole, and by any of :data:`DIMENSIONS`.

    ``where`` narrows to values of dimensions, ids as text. Rows are ordered by bucket and group; one query.

    Raises:
        Invalid: a bucket or dimension is unknown.
    """
    found: dict[tuple[dt.datetime | None, tuple[str, ...]], tuple[GpuTime, GpuTime]] = {}
    for at, (*group, share), sums in _sums("share", _TIMES, start, end, bucket, group_by, where):
        time = GpuTime(*sums)
        whole = time if share == 1 else GpuTime(*[each * share for each in sums])
        key = at, tuple(group)
        found[key] = (
            (_added(found[key][0], time), _added(found[key][1], whole)) if key in found else (time, whole)
        )
    return [
        Utilization(start=at, group=group, time=time, whole=whole)
        for (at, group), (time, whole) in found.items()
    ]


def _added(one: GpuTime, other: GpuTime) -> GpuTime:
    return GpuTime(*[getattr(one, name) + getattr(other, name) for name in _TIMES])


def asset_costs(
    start: dt.datetime,
    end: dt.datetime,
    *,
    bucket: Bucket = "",
    group_by: Sequence[str] = (),
    where: Mapping[str, Collection[str]] | None = None,
) -> list[AssetCost]:
    """Sum what GPUs cost their owner in ``[start, end)``, as :func:`gpu_utilization` sums time; one query.

    Grouped by who held them, what nobody held is a group of empty names: with it the groups sum to the cost of all.

    Raises:
        Invalid: a bucket or dimension is unknown.
    """
    names = ("seen", "cost", "held_cost", "idle_cost", "free_cost", "platform_cost")
    return [
        AssetCost(
            start=at,
            group=tuple(group),
            currency=currency,
            gpu_seconds=sums[0],
            cost=sums[1],
            held=sums[2],
            idle=sums[3],
            free=sums[4],
            platform=sums[5],
        )
        for at, (*group, currency), sums in _sums("currency", names, start, end, bucket, group_by, where)
        if sums[0]
    ]


def _sums(
    besides: str,
    names: Sequence[str],
    start: dt.datetime,
    end: dt.datetime,
    bucket: Bucket,
    group_by: Sequence[str],
    where: Mapping[str, Collection[str]] | None,
) -> Iterator[tuple[dt.datetime | None, list[Any], list[Decimal]]]:
    """Give the sums of ``names`` by bucket, groups and the column ``besides``, in this order."""
    where = where or {}
    _check(bucket, group_by, where)
    parameters: dict[str, object] = {f"in_{name}": _values(name, values) for name, values in where.items()}
    parts = []
    for number, (unit, since, till) in enumerate(_parts(start, end, bucket)):
        parameters |= {f"since_{number}": since, f"till_{number}": till}
        for table, sources in _tables(unit, group_by, where):
            at = "date_trunc('day', bucket, 'UTC')" if (bucket, unit) == ("1d", "1h") else "bucket"
            groups = [_group(name, sources, place) for place, name in enumerate(group_by)]
            values = [f"{sources[name]} AS {name}" for name in names]
            parts.append(
                f"SELECT {', '.join([f'{at} AS at', besides, *groups, *values])} FROM {table} "  # noqa: S608
                f"WHERE bucket >= %(since_{number})s AND bucket < %(till_{number})s"
                + "".join(f" AND {DIMENSIONS[name]} = ANY(%(in_{name})s)" for name in where)
            )
    if not parts:
        return
    keys = [*(["at"] if bucket else []), *(f"group_{place}" for place in range(len(group_by))), besides]
    columns = [*keys, *(f"sum({name})" for name in names)]
    statement = (
        f"SELECT {', '.join(columns)} FROM ({' UNION ALL '.join(parts)}) AS part "  # noqa: S608
        f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(f'{key} NULLS LAST' for key in keys)}"
    )
    with scope.platform("GPU time and its cost for operators"), connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows = cursor.fetchall()
    first, last = (1 if bucket else 0), len(keys) - 1
    for row in rows:
        group: list[Any] = ["" if value is None else str(value) for value in row[first:last]]
        yield (row[0] if bucket else None), [*group, row[last]], list(row[last + 1 :])


def _check(bucket: str, group_by: Sequence[str], where: Mapping[str, Collection[str]]) -> None:
    if bucket not in ("", "1h", "1d"):
        raise Invalid(f"{bucket!r} is no bucket; choose 1h or 1d, or none for the whole period.")
    unknown = [name for name in (*group_by, *where) if name not in DIMENSIONS]
    if unknown:
        raise Invalid(f"GPU time has no {unknown[0]}; choose of {', '.join(DIMENSIONS)}.")


def _parts(
    start: dt.datetime, end: dt.datetime, bucket: Bucket
) -> list[tuple[str, dt.datetime, dt.datetime]]:
    start, end = round_down(start, HOUR), round_up(end, HOUR)
    first, last = round_up(start, DAY), round_down(end, DAY)
    if bucket == "1h" or first >= last:
        parts = [("1h", start, end)]
    else:
        parts = [("1h", start, first), ("1d", first, last), ("1h", last, end)]
    return [part for part in parts if part[1] < part[2]]


def _tables(
    unit: str, group_by: Sequence[str], where: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    name = "day" if unit == "1d" else "hour"
    if _OF_HOLDERS.intersection(where):
        yield f"billing_held{name}", _OF_HELD
    elif _OF_HOLDERS.intersection(group_by):
        yield f"billing_cluster{name}", _OF_NOBODY
        yield f"billing_held{name}", _OF_HELD
    else:
        yield f"billing_cluster{name}", _OF_POOLS


def _group(name: str, sources: Mapping[str, str], number: int) -> str:
    column = "NULL::uuid" if name in _OF_HOLDERS and sources is not _OF_HELD else DIMENSIONS[name]
    return f"{column} AS group_{number}"


def _values(name: str, values: Collection[str]) -> list[object]:
    if name not in _OF_HOLDERS:
        return list(values)
    try:
        return [uuid.UUID(str(value)) for value in values]
    except ValueError as error:
        raise Invalid(f"{', '.join(map(str, values))} is no id of a {name}.") from error
