"""Taking usage segments in, exactly once.

A segment's identity is the primary key of its day's partition, so that the database alone decides
whether it is new; nothing is remembered elsewhere and nothing expires before the day itself does.
"""

from __future__ import annotations

import datetime as dt
import operator
import time
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import psycopg
from django.conf import settings
from django.db import IntegrityError, connection

from billing.metering.checks import BIGINT, Check, is_uuid
from billing.metering.gateway_days import keep_told
from billing.metering.partitions import dropped_days, ensure_partitions
from gateway.contract import Refused, UsageBatch, UsageReceipt, UsageSegment
from tenants import scope
from tenants.models import Project

#: So long a project that was found is taken to be there: the tenant of one never changes.
_KNOWN_S: Final = 60.0
_MOST_KNOWN: Final = 100_000
_known: dict[tuple[str, str], float] = {}
_encode = msgspec.json.Encoder().encode

_PLACE = operator.attrgetter("gateway", "sequence", "day", "tenant_id", "key_id")
_KINDS: Final = {
    "tenant_id": "uuid", "day": "date", "gateway": "text", "sequence": "bigint", "key_id": "uuid",
    "project_id": "uuid", "endpoint_id": "uuid", "revision_id": "uuid", "route_id": "uuid", "model": "text",
    "slo_class": "text", "region": "text", "outcome": "text", "window_start": "timestamptz",
    "window_end": "timestamptz", "requests": "integer", "input_tokens": "bigint", "output_tokens": "bigint",
    "cached_tokens": "bigint", "input_tokens_squared": "bigint", "output_tokens_squared": "bigint",
}  # fmt: skip
_ARRAYS: Final = ("ttft_ms", "itl_ms")
#: What is often the same in a whole batch.
_SHARED: Final = ("tenant_id", "day", "gateway", "project_id", "route_id", "region")
UNLESS_KNOWN: Final = " ON CONFLICT DO NOTHING"

_KEEP_REFUSAL: Final = """
INSERT INTO billing_usagerefusal (gateway, sequence, day, reason, content, first_seen_at, last_seen_at, count)
VALUES (%s, %s, %s, %s, %s, %s, %s, 1)
ON CONFLICT (gateway, sequence, reason) DO UPDATE
SET count = billing_usagerefusal.count + 1, last_seen_at = excluded.last_seen_at
"""


class _Sorted(msgspec.Struct):
    """A batch, told apart into what is taken and what is not."""

    batch: UsageBatch
    accepted: Sequence[UsageSegment]
    refused: list[tuple[UsageSegment, str]]


def ingest(*, batch: UsageBatch, now: dt.datetime) -> UsageReceipt:
    """Store what is new of a batch, in one transaction.

    A segment that cannot be taken is refused with the reason, which is kept, and does not hinder the others. The
    caller has made sure that the sender is the gateway the batch names.
    """
    (receipt,) = ingest_all(batches=[batch], now=now)
    return receipt


def ingest_all(*, batches: Sequence[UsageBatch], now: dt.datetime) -> list[UsageReceipt]:
    """Store what is new of several batches, all in one transaction, and give each its own receipt."""
    try:
        return _ingest(batches, now, repeated=False)
    except IntegrityError as error:
        if not isinstance(error.__cause__, psycopg.errors.UniqueViolation):
            raise
    # Asking for conflicts costs a quarter more, and a batch is rarely sent twice.
    return _ingest(batches, now, repeated=True)


def _ingest(batches: Sequence[UsageBatch], now: dt.datetime, *, repeated: bool) -> list[UsageReceipt]:
    with scope.platform("take usage of all tenants from gateways"):
        projects = _projects(batches)
        found = [_sort(batch, projects, now) for batch in batches]
        ensure_partitions({segment.day for each in found for segment in each.accepted})
        inserted = _insert_unless_known(found, now) if repeated else _insert_new(found, now)
        for each in found:
            _keep_refusals(each, now)
            keep_told(gateway=each.batch.gateway, days=each.batch.days, now=now)
    return [
        UsageReceipt(
            inserted=count,
            duplicates=len(each.accepted) - count,
            refused=tuple(
                Refused(sequence=segment.sequence, reason=reason) for segment, reason in each.refused
            ),
        )
        for each, count in zip(found, inserted, strict=True)
    ]


def _sort(batch: UsageBatch, projects: set[tuple[str, str]], now: dt.datetime) -> _Sorted:
    check = Check(
        gateway=batch.gateway,
        projects=projects,
        now=now,
        retention_days=settings.USAGE_RETENTION_DAYS,
        dropped=dropped_days({segment.day for segment in batch.segments}, today=now.date()),
    )
    if not batch.segments or check.all_right(batch.segments):
        return _Sorted(batch, batch.segments, [])
    accepted: list[UsageSegment] = []
    refused: list[tuple[UsageSegment, str]] = []
    for segment in batch.segments:
        reason = check.complaint(segment)
        if reason:
            refused.append((segment, reason))
        else:
            accepted.append(segment)
    return _Sorted(batch, accepted, refused)


def _projects(batches: Iterable[UsageBatch]) -> set[tuple[str, str]]:
    """Give the pairs of tenant and project in ``batches`` that exist."""
    named = {(segment.tenant_id, segment.project_id) for batch in batches for segment in batch.segments}
    moment = time.monotonic()
    unknown = {pair for pair in named if _known.get(pair, 0.0) < moment}
    if unknown:
        ids = [project_id for _, project_id in unknown if is_uuid(project_id)]
        found = Project.objects.filter(id__in=ids).values_list("tenant_id", "id")
        there = {(str(tenant_id), str(project_id)) for tenant_id, project_id in found} & unknown
        if len(_known) > _MOST_KNOWN:
            _known.clear()
        _known.update(dict.fromkeys(there, moment + _KNOWN_S))
        named -= unknown - there
    return named


def _insert_new(found: Sequence[_Sorted], now: dt.datetime) -> list[int]:
    """Insert all as one statement; a segment that is known makes all of it fail."""
    segments = [segment for each in found for segment in each.accepted]
    if segments:
        execute(*insertion(segments, now))
    return [len(each.accepted) for each in found]


def _insert_unless_known(found: Sequence[_Sorted], now: dt.datetime) -> list[int]:
    counts = [0] * len(found)
    for place in sorted(range(len(found)), key=lambda place: found[place].batch.gateway):
        if found[place].accepted:
            statement, values = insertion(found[place].accepted, now)
            counts[place] = execute(statement + UNLESS_KNOWN, values)
    return counts


def insertion(
    segments: Sequence[UsageSegment], now: dt.datetime, *, further: Sequence[str] = ()
) -> tuple[str, list[object]]:
    """Give the statement that inserts ``segments``, and its parameters; ``further`` names more columns of text.

    Columns are arrays, which the database reads faster than rows; one that holds the same everywhere is sent once.
    Rows go in in the order of their identity: two transactions that hold the same segments then wait for one another
    in one direction only and cannot deadlock.
    """
    ordered = sorted(segments, key=_PLACE)
    shown: list[str] = []
    unnested: list[str] = []
    shared: list[object] = []
    columns: list[object] = []
    for name, kind in [*_KINDS.items(), *((name, "text") for name in further)]:
        values = list(map(operator.attrgetter(name), ordered))
        if name == "endpoint_id":
            values = [value or None for value in values]
        if name in _SHARED and len(set(values)) == 1:
            shown.append(f"%s::{kind}")
            shared.append(values[0])
        else:
            shown.append(name)
            unnested.append(name)
            columns.append(_literal(values))
    for name in _ARRAYS:
        shown.append(f"{name}::integer[]")
        unnested.append(name)
        columns.append(_literal_of_arrays(list(map(operator.attrgetter(name), ordered))))
    arrays = ", ".join(f"%s::{_KINDS.get(name, 'text')}[]" for name in unnested)
    statement = f"""
        INSERT INTO billing_usagesegment ({", ".join((*_KINDS, *further, *_ARRAYS))}, received_at, xact)
        SELECT {", ".join(shown)}, %s, (SELECT pg_current_xact_id()::text::bigint)
        FROM unnest({arrays}) AS segment ({", ".join(unnested)})
    """  # noqa: S608
    return statement, [*shared, now, *columns]


def execute(statement: str, values: Sequence[object]) -> int:
    """Run ``statement`` and give how many rows it wrote."""
    connection.ensure_connection()
    # Bound by the server: Django's own cursor would write half a megabyte of literals into the statement.
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, values)
        return cursor.rowcount


def _keep_refusals(found: _Sorted, now: dt.datetime) -> None:
    rows = [
        (
            found.batch.gateway, max(min(segment.sequence, BIGINT), -BIGINT), segment.day, reason[:300],
            _encode(segment).decode(), now, now,
        )
        for segment, reason in found.refused
    ]  # fmt: skip
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_KEEP_REFUSAL, rows)


def _literal(values: list[object]) -> str:
    """Give an array literal of PostgreSQL: for printable values it is JSON but for the brackets.

    psycopg's own dumping of lists takes twenty times as long.
    """
    return "{" + _encode(values).decode()[1:-1] + "}"


def _literal_of_arrays(values: list[tuple[int, ...]]) -> str:
    """Give arrays as text: those of different lengths make no array of arrays."""
    return _literal(values).replace("[", '"{').replace("]", '}"')
