"""Sums of the reports' rows by group and bucket, from the smallest table that holds them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from django.db import connection
from django.db.models import F, Model, QuerySet, Sum
from django.db.models.functions import TruncMonth

from billing.buckets import Width
from billing.models import (
    ClusterDay,
    ClusterHour,
    EndpointDay,
    EndpointLabel,
    EndpointMonth,
    HeldHour,
    ModelDay,
)
from billing.reports.asking import OF_MODELS, OF_POOLS, Asked, Dimension
from billing.reports.figures import EXACT
from tenants.models import Project, Tenant

Key = tuple[Any, ...]
Numbers = dict[str, Decimal]

TIMES: Final = ("queued", "loading", "serving", "idle", "draining", "held")
SUPPLY: Final = ("seen", "free", "platform")
SERVED: Final = (
    "requests", "input_tokens", "output_tokens", "cached_tokens", "planned_tokens", "planned_seconds", "amount",
    "asset_cost", "idle_asset_cost",
)  # fmt: skip

# What pools' rows call what nobody held, and what was held and idle.
_OF_POOLS: Final = {"free": "idle", "idle": "unused"}
_COSTS_OF_POOLS: Final = {
    "cost": "cost", "held_cost": "held_cost", "free_cost": "idle_cost", "platform_cost": "platform_cost",
    "idle_asset_cost": "unused_cost",
}  # fmt: skip
SUPPLY_COSTS: Final = tuple(_COSTS_OF_POOLS)
REST: Final = "All others"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sums:
    """What one group came to; ``key`` has the values of the asked columns, None is what is left of all groups."""

    key: Key | None
    label: str
    names: dict[str, str]
    numbers: Numbers
    bucket: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Groups from the largest on, what they were in each bucket, and all of it as one."""

    asked: Asked
    groups: tuple[Sums, ...]
    points: tuple[Sums, ...]
    total: Sums
    totals: tuple[Sums, ...]


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows, the field that says when they are of, and whether it is a date; ``monthly``: days are summed to months."""

    model: type[Model]
    at: str
    monthly: bool = False

    @property
    def of_endpoints(self) -> bool:
        """Whether it has a row for each endpoint: too many to give all groups of."""
        return self.model in (EndpointDay, EndpointMonth, HeldHour)

    def rows(self, asked: Asked) -> QuerySet:
        """Give the rows of the span that the question narrows to, each with its bucket as ``begun``."""
        dated = self.at != "bucket"
        span = {
            f"{self.at}__gte": asked.start.date() if dated else asked.start,
            f"{self.at}__lt": asked.end.date() if dated else asked.end,
        }
        begun = TruncMonth(self.at, tzinfo=None if dated else dt.UTC) if self.monthly else F(self.at)
        if asked.within is not None:
            span["cluster__in"] = asked.within
        return self.model._default_manager.filter(**span, **asked.narrowed).annotate(begun=begun)

    def sums(self, names: Sequence[str]) -> dict[str, Sum]:
        """Give the sums of columns: time in seconds of whole GPUs."""
        return {f"sum_{name}": Sum(self._column(name)) for name in names}

    def _column(self, name: str) -> Any:
        if self.model in (ClusterDay, ClusterHour):
            if name in _COSTS_OF_POOLS:
                return F(_COSTS_OF_POOLS[name])
            return F(_OF_POOLS.get(name, name)) * F("share")
        return F(name) * F("share") if self.model is HeldHour else F(name)


def source_of(asked: Asked, *, served: bool = False) -> Source:
    """Give the smallest table that can answer; ``served``: with tokens and money."""
    monthly = asked.width == Width.MONTH
    if not served and asked.needed <= OF_POOLS:
        return (
            Source(ClusterHour, "bucket")
            if asked.width == Width.HOUR
            else Source(ClusterDay, "bucket", monthly)
        )
    if asked.needed <= OF_MODELS:
        return Source(ModelDay, "day", monthly)
    if monthly:
        return Source(EndpointMonth, "month")
    return Source(HeldHour, "bucket") if asked.width == Width.HOUR else Source(EndpointDay, "day")


def read(
    asked: Asked, names: Sequence[str], *, order: str, served: bool = False, further: Sequence[str] = ()
) -> Reading:
    """Sum columns ``names`` by group, from the largest ``order`` on; ``further`` columns part groups too.

    Past ``asked.most`` groups the rest is one. The same by bucket, of those groups and of all.
    """
    source = source_of(asked, served=served)
    columns = (*asked.columns, *further)
    if source.of_endpoints and asked.columns:
        # What all came to is in a smaller table, unless the question narrows by what that lacks.
        whole = source_of(dataclasses.replace(asked, group_by=()), served=served)
        totals = _by_bucket(whole, asked, names, further)
        found = _ranked(source, asked, columns, order)
        points = _by_bucket(source, asked, names, columns, only=found[: asked.most])
    else:
        points = _by_bucket(source, asked, names, columns)
        totals = _merged(points, names, lambda each: (each.bucket, _tail(each.key, further)))
        found = list(dict.fromkeys(each.key for each in points))
    total = _added(totals, names)
    groups = _merged(points, names, lambda each: (None, each.key))
    groups.sort(key=lambda each: (-each.numbers[order], tuple(map(str, each.key or ()))))
    if not asked.columns:
        alone = tuple(dataclasses.replace(each, label="All") for each in groups)
        points = tuple(dataclasses.replace(each, label="All") for each in points)
        return Reading(asked=asked, groups=alone, points=points, total=total, totals=tuple(totals))
    kept = groups[: asked.most]
    keys = {each.key for each in kept}
    shown = [each for each in points if each.key in keys]
    labels = _Labels(asked, columns, kept)
    if len(found) > len(kept):
        kept = [*kept, _rest(total, kept, names)]
        shown += _rests(totals, shown, names)
    return Reading(
        asked=asked,
        groups=tuple(labels.on(each) for each in kept),
        points=tuple(labels.on(each) for each in shown),
        total=total,
        totals=tuple(totals),
    )


def _ranked(source: Source, asked: Asked, columns: Sequence[str], order: str) -> list[Key]:
    """Give the keys of the largest groups, and of one more if there are more."""
    with connection.cursor() as cursor:
        # A month's rows of all endpoints are sorted in memory then; the planner expects fewer than there are.
        cursor.execute("SET LOCAL work_mem = '32MB'")
    rows = source.rows(asked).values_list(*columns).annotate(**source.sums([order]))
    ranked = rows.order_by(F(f"sum_{order}").desc(), *columns)[: asked.most + 1]
    return [tuple(row[: len(columns)]) for row in ranked]


def _by_bucket(
    source: Source,
    asked: Asked,
    names: Sequence[str],
    columns: Sequence[str],
    only: Sequence[Key] | None = None,
) -> list[Sums]:
    rows = source.rows(asked)
    if only is not None:
        # By column for the index; what that lets through of other groups is left out afterwards.
        values = zip(*only, strict=True) if only else [()] * len(columns)
        rows = rows.filter(**{f"{name}__in": set(found) for name, found in zip(columns, values, strict=True)})
    found = rows.values("begun", *columns).order_by("begun", *columns).annotate(**source.sums(names))
    sums = [_sums(row, names, key=tuple(row[name] for name in columns), bucket=row["begun"]) for row in found]
    return sums if only is None else [each for each in sums if each.key in set(only)]


def _merged(points: Iterable[Sums], names: Sequence[str], place: Callable[[Sums], tuple]) -> list[Sums]:
    """Add sums of one place, (bucket, key), in the order in which places come first."""
    found: dict[tuple, list[Sums]] = {}
    for each in points:
        found.setdefault(place(each), []).append(each)
    return [
        dataclasses.replace(_added(parts, names, bucket=bucket), key=key)
        for (bucket, key), parts in found.items()
    ]


def _tail(key: Key | None, further: Sequence[str]) -> Key:
    return (key or ())[len(key or ()) - len(further) :]


def _sums(row: dict[str, Any], names: Sequence[str], *, key: Key, bucket: Any = None) -> Sums:
    numbers = {name: Decimal(row[f"sum_{name}"] or 0) for name in names}
    return Sums(key=key, label="", names={}, numbers=numbers, bucket=_moment(bucket))


def _moment(bucket: Any) -> dt.datetime | None:
    if bucket is None or isinstance(bucket, dt.datetime):
        return bucket
    return dt.datetime.combine(bucket, dt.time(), tzinfo=dt.UTC)


def _added(parts: Iterable[Sums], names: Sequence[str], *, bucket: dt.datetime | None = None) -> Sums:
    numbers = dict.fromkeys(names, Decimal(0))
    for part in parts:
        for name in names:
            numbers[name] = EXACT.add(numbers[name], part.numbers[name])
    return Sums(key=None, label="All", names={}, numbers=numbers, bucket=bucket)


def _rest(total: Sums, kept: Iterable[Sums], names: Sequence[str]) -> Sums:
    told = _added(kept, names)
    left = {name: EXACT.subtract(total.numbers[name], told.numbers[name]) for name in names}
    return Sums(key=None, label=REST, names={}, numbers=left, bucket=total.bucket)


def _rests(totals: Iterable[Sums], points: Sequence[Sums], names: Sequence[str]) -> list[Sums]:
    by_bucket: dict[dt.datetime | None, list[Sums]] = {}
    for point in points:
        by_bucket.setdefault(point.bucket, []).append(point)
    whole: dict[dt.datetime | None, list[Sums]] = {}
    for each in totals:
        whole.setdefault(each.bucket, []).append(each)
    return [
        _rest(_added(parts, names, bucket=bucket), by_bucket.get(bucket, ()), names)
        for bucket, parts in whole.items()
    ]


class _Labels:
    """What the groups are called, read once for those that are shown."""

    def __init__(self, asked: Asked, columns: Sequence[str], kept: Sequence[Sums]) -> None:
        self._asked, self._columns = asked, columns
        self._given: dict[Key, str] = {}
        self._told: dict[Key, tuple[str, dict[str, str]]] = {}
        values: dict[str, set] = {
            name: {each.key[place] for each in kept if each.key} for place, name in enumerate(columns)
        }
        self._tenants = {
            tenant.id: tenant for tenant in Tenant.objects.filter(id__in=values.get("tenant_id", ()))
        }
        self._projects = dict(
            Project.objects.filter(id__in=values.get("project_id", ())).values_list("id", "name")
            if values.get("project_id")
            else ()
        )
        self._endpoints = dict(
            EndpointLabel.objects.filter(endpoint_id__in=values["endpoint_id"]).values_list(
                "endpoint_id", "name"
            )
            if values.get("endpoint_id")
            else ()
        )

    def on(self, sums: Sums) -> Sums:
        """Give the sums with their label, which no other group has, and what each of its parts is called."""
        if sums.key is None:
            return sums
        if sums.key not in self._told:
            row = dict(zip(self._columns, sums.key, strict=True))
            names = {each.value: self._name(each, row) for each in self._asked.group_by}
            group = tuple(row[name] for name in self._asked.columns)
            if group not in self._given:
                self._given[group] = self._label(names, row)
            self._told[sums.key] = self._given[group], names
        label, names = self._told[sums.key]
        return dataclasses.replace(sums, label=label, names=names)

    def _label(self, names: dict[str, str], row: dict[str, Any]) -> str:
        path = [row["cluster"]] if "cluster" in row and "cluster" not in names else []
        label = " / ".join([*path, *names.values()])
        if "tenant_id" in row and "tenant" not in names:
            label = f"{label} ({self._tenant(row)})"
        # Of one name there may have been several, one after the other.
        again = sum(1 for each in self._given.values() if each == label or each.startswith(f"{label} #"))
        return f"{label} #{again + 1}" if again else label

    def _tenant(self, row: dict[str, Any]) -> str:
        tenant = self._tenants.get(row["tenant_id"])
        return tenant.name if tenant else str(row["tenant_id"])

    def _name(self, dimension: Dimension, row: dict[str, Any]) -> str:
        if dimension == Dimension.TENANT:
            return self._tenant(row)
        if dimension == Dimension.PROJECT:
            return self._projects.get(row["project_id"], str(row["project_id"]))
        if dimension == Dimension.ENDPOINT:
            return self._endpoints.get(row["endpoint_id"], str(row["endpoint_id"]))
        return str(row[dimension.value]) or "(none)"
