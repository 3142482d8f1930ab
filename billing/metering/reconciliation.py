"""Comparing what each part of the pipe counted of one UTC day.

From the request to the statement usage is counted in turn by the engine, the gateway's own log, the segments stored
here, their rollups, and what statements rate. Gateway and segments are compared gateway by gateway, which finds a
single lost request; segments, rollups and rated quantities over all gateways; engines by endpoint, where the runtime's
counters are true. A difference has a name that says what it means.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from django.db import connection
from django.db.models import QuerySet, Sum

from billing import quantities
from billing.metering.sequences import SETTLED
from billing.models import (
    EndpointLabel,
    EngineTokens,
    GatewayDay,
    GatewayLogDay,
    SequenceGap,
    UsageDay,
    UsageDropped,
    UsageHour,
    UsageRefusal,
)

_COUNTS: Final = ("requests", "input_tokens", "output_tokens", "cached_tokens")
_DAY: Final = dt.timedelta(days=1)

_LEFT = ", ".join(f"told.{name} - coalesce(counted.{name}, 0)" for name in _COUNTS)
_DIFFERING = f"""
SELECT told.day, told.gateway, {_LEFT} FROM billing_gatewaylogday AS told
LEFT JOIN billing_gatewayday AS counted ON counted.day = told.day AND counted.gateway = told.gateway
WHERE told.day >= %(since)s AND told.told_at < %(settled)s AND ({_LEFT}) IS DISTINCT FROM (0, 0, 0, 0)
"""  # noqa: S608


class Verdict(enum.StrEnum):
    """How two counts of the same stand to one another."""

    AGREES = "agrees"
    ARRIVING = "arriving"  # on its way, or not counted yet; too young to judge
    LOST = "lost"  # the gateway logged what never came
    UNEXPLAINED = "unexplained"  # more came than the gateway says it logged
    MISCOUNTED = "miscounted"  # stored segments and their rollups differ
    NOT_TOLD = "not told"  # nothing to compare with

    @property
    def is_bad(self) -> bool:
        return self in _BAD


_BAD: Final = frozenset({Verdict.LOST, Verdict.UNEXPLAINED, Verdict.MISCOUNTED})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sums:
    """What was counted; ``input_tokens`` include ``cached_tokens``."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def __sub__(self, other: Sums) -> Sums:
        return Sums(**{name: getattr(self, name) - getattr(other, name) for name in _COUNTS})

    def __add__(self, other: Sums) -> Sums:
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in _COUNTS})

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in _COUNTS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatewayCheck:
    """One gateway's instance, or one source of CloudEvents.

    ``logged`` is None where the sender does not tell its totals, ``stored`` where the day's segments were dropped by
    retention. ``missing`` is what was logged and neither stored (or counted, where they were dropped) nor refused.
    """

    gateway: str
    logged: Sums | None
    stored: Sums | None
    counted: Sums
    refused: Sums
    missing: Sums
    late_segments: int
    missing_sequences: int
    verdict: Verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """An endpoint of whose tokens its engines say how many they were; ``counted`` is None where they say nothing true.

    Engines are read every few seconds and lose what they counted when they end, and a request that runs over midnight
    is split differently. So the difference is to be looked at over days, and has no verdict.
    """

    endpoint_id: uuid.UUID
    name: str
    metered: Sums
    counted: Sums | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """One UTC day. ``rated`` is what statements rate of it, by the function that they use."""

    day: dt.date
    gateways: tuple[GatewayCheck, ...]
    stored: Sums | None
    counted: Sums
    hours: Sums
    days: Sums
    rated: Sums
    verdict: Verdict
    engines: tuple[EngineCheck, ...]

    @property
    def is_bad(self) -> bool:
        """Whether anything differs that should not."""
        return self.verdict.is_bad or any(each.verdict.is_bad for each in self.gateways)


def reconcile(*, day: dt.date, now: dt.datetime, gateway: str = "") -> Reconciliation:
    """Compare what each part counted of ``day``; ``gateway`` narrows its part to the instances of one.

    To be called in the platform's scope.
    """
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    stored = None if UsageDropped.objects.filter(day=day).exists() else _stored(day)
    counted = {row.gateway: row for row in GatewayDay.objects.filter(day=day)}
    hours = _sum(UsageHour.objects.filter(bucket__gte=start, bucket__lt=start + _DAY))
    days = _sum(UsageDay.objects.filter(bucket=start))
    rated = _added(quantities.used(start=start, end=start + _DAY))
    whole_stored = None if stored is None else _added(stored.values())
    whole_counted = _added(counted.values())
    steps = [whole_counted, hours, days, rated]
    verdict = Verdict.AGREES
    if any(each != whole_counted for each in steps):
        verdict = Verdict.MISCOUNTED
    elif whole_stored is not None and whole_stored != whole_counted:
        # The rollups run every two seconds; what waits longer is in trouble.
        waits = _newest(day) > now - SETTLED
        verdict = Verdict.ARRIVING if waits else Verdict.MISCOUNTED
    return Reconciliation(
        day=day,
        gateways=tuple(_gateways(day, now, gateway, stored, counted)),
        stored=whole_stored,
        counted=whole_counted,
        hours=hours,
        days=days,
        rated=rated,
        verdict=verdict,
        engines=tuple(_engines(day, start)),
    )


def _gateways(
    day: dt.date,
    now: dt.datetime,
    gateway: str,
    stored: dict[str, Sums] | None,
    counted: dict[str, GatewayDay],
) -> Iterable[GatewayCheck]:
    logged = {row.gateway: row for row in GatewayLogDay.objects.filter(day=day)}
    refused = {name: sums for (_, name), sums in _refusals([day]).items()}
    gaps: dict[str, int] = {}
    for gap in SequenceGap.objects.all():
        gaps[gap.gateway] = gaps.get(gap.gateway, 0) + gap.last - gap.first + 1
    for name in sorted({*logged, *counted, *refused, *(stored or ())}):
        if gateway and name.partition("/")[0] != gateway:
            continue
        told = logged.get(name)
        said = _sums(told) if told else None
        sums = _sums(counted[name]) if name in counted else Sums()
        there = None if stored is None else stored.get(name, Sums())
        have = sums if there is None else there
        missing = Sums() if said is None else said - have - refused.get(name, Sums())
        yield GatewayCheck(
            gateway=name,
            logged=said,
            stored=there,
            counted=sums,
            refused=refused.get(name, Sums()),
            missing=missing,
            late_segments=counted[name].late_segments if name in counted else 0,
            missing_sequences=gaps.get(name, 0),
            verdict=_verdict(missing, None if told is None else told.told_at, now),
        )


def _verdict(missing: Sums, told_at: dt.datetime | None, now: dt.datetime) -> Verdict:
    if told_at is None:
        return Verdict.NOT_TOLD
    if not missing:
        return Verdict.AGREES
    if any(getattr(missing, name) > 0 for name in _COUNTS):
        # Totals come with the last of the segments that they reach to: what is missing then is lost.
        return Verdict.LOST
    return Verdict.ARRIVING if told_at > now - SETTLED else Verdict.UNEXPLAINED


def _engines(day: dt.date, start: dt.datetime) -> Iterable[EngineCheck]:
    counted: dict[uuid.UUID, Sums] = {}
    for row in EngineTokens.objects.filter(day=day):
        found = Sums(input_tokens=row.input_tokens, output_tokens=row.output_tokens)
        counted[row.endpoint_id] = counted.get(row.endpoint_id, Sums()) + found
    rows = (
        UsageDay.objects.filter(bucket=start, endpoint_id__isnull=False)
        .values("endpoint_id")
        .annotate(**{f"sum_{name}": Sum(name) for name in _COUNTS})
    )
    metered = {row["endpoint_id"]: Sums(**{name: row[f"sum_{name}"] for name in _COUNTS}) for row in rows}
    ids = {*metered, *counted}
    labels = EndpointLabel.objects.filter(endpoint_id__in=ids).select_related("tenant")
    names = {label.endpoint_id: f"{label.name} of {label.tenant.name}" for label in labels}
    for endpoint_id in sorted(ids, key=lambda each: (each not in counted, names.get(each, str(each)))):
        yield EngineCheck(
            endpoint_id=endpoint_id,
            name=names.get(endpoint_id, str(endpoint_id)),
            metered=metered.get(endpoint_id, Sums()),
            counted=counted.get(endpoint_id),
        )


def _stored(day: dt.date) -> dict[str, Sums]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT gateway, sum(requests)::bigint, sum(input_tokens)::bigint, sum(output_tokens)::bigint,"
            " sum(cached_tokens)::bigint FROM billing_usagesegment WHERE day = %s GROUP BY gateway",
            [day],
        )
        return {name: Sums(**dict(zip(_COUNTS, counts, strict=True))) for name, *counts in cursor.fetchall()}


def _newest(day: dt.date) -> dt.datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(received_at) FROM billing_usagesegment WHERE day = %s", [day])
        return cursor.fetchone()[0]


def _refused(row: UsageRefusal) -> Sums:
    found = msgspec.json.decode(row.content)
    return Sums(**{name: max(found[name], 0) for name in _COUNTS})


def _sums(row: object) -> Sums:
    return Sums(**{name: getattr(row, name) for name in _COUNTS})


def _added(rows: Iterable[object]) -> Sums:
    found: Sequence[object] = list(rows)
    return Sums(**{name: sum(getattr(row, name) for row in found) for name in _COUNTS})


def _sum(rows: QuerySet) -> Sums:
    found = rows.aggregate(**{f"sum_{name}": Sum(name) for name in _COUNTS})
    return Sums(**{name: found[f"sum_{name}"] or 0 for name in _COUNTS})


def bad_days(*, now: dt.datetime, days: int) -> list[dt.date]:
    """Give which of the last ``days`` UTC days have a gateway whose usage was lost or is unexplained, newest first.

    To be called in the platform's scope.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERING, {"since": now.date() - _DAY * days, "settled": now - SETTLED})
        left = {
            (day, gateway): Sums(**dict(zip(_COUNTS, counts, strict=True)))
            for day, gateway, *counts in cursor.fetchall()
        }
    refused = _refusals({day for day, _ in left}) if left else {}
    return sorted(
        {day for (day, gateway), sums in left.items() if sums != refused.get((day, gateway), Sums())},
        reverse=True,
    )


def _refusals(days: Iterable[dt.date]) -> dict[tuple[dt.date, str], Sums]:
    """Sum what was refused by day and gateway."""
    found: dict[tuple[dt.date, str], Sums] = {}
    for row in UsageRefusal.objects.filter(day__in=days):
        place = row.day, row.gateway
        found[place] = found.get(place, Sums()) + _refused(row)
    return found
