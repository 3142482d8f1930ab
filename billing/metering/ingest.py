"""Taking usage segments in, exactly once.

A segment's identity is the primary key of its day's partition, so that the database alone decides
whether it is new; nothing is remembered elsewhere and nothing expires before the day itself does.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

import msgspec
import psycopg
from django.conf import settings
from django.db import connection, transaction

from billing.metering.partitions import ensure_partitions
from gateway.contract import (
    ITL_BOUNDS_MS,
    LATENCY_BOUNDS_MS,
    Refused,
    UsageBatch,
    UsageReceipt,
    UsageSegment,
)
from tenants import scope
from tenants.models import Project

AHEAD: Final = dt.timedelta(days=1)

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_LENGTHS = {"gateway": 64, "model": 80, "slo_class": 40, "region": 40}
_INT, _BIGINT = 2**31 - 1, 2**63 - 1
_encode = msgspec.json.Encoder().encode
_ONE_DAY = dt.timedelta(days=1)

# Rows go in in the order of their identity: two batches that hold the same segments then wait for
# one another in one direction only and cannot deadlock.
_INSERT = """
INSERT INTO billing_usagesegment (
    tenant_id, day, gateway, sequence, key_id, project_id, endpoint_id, revision_id, route_id, model, slo_class,
    region, outcome, window_start, window_end, requests, input_tokens, output_tokens, cached_tokens,
    input_tokens_squared, output_tokens_squared, ttft_ms, itl_ms, received_at)
SELECT tenant_id, day, %s, sequence, key_id, project_id, endpoint_id, revision_id, route_id, model, slo_class,
    region, outcome, window_start, window_end, requests, input_tokens, output_tokens, cached_tokens,
    input_tokens_squared, output_tokens_squared, ttft_ms::integer[], itl_ms::integer[], %s
FROM unnest(
    %s::uuid[], %s::date[], %s::bigint[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[],
    %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::integer[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[])
AS segment (
    tenant_id, day, sequence, key_id, project_id, endpoint_id, revision_id, route_id, model, slo_class,
    region, outcome, window_start, window_end, requests, input_tokens, output_tokens,
    cached_tokens, input_tokens_squared, output_tokens_squared, ttft_ms, itl_ms)
"""
_UNLESS_KNOWN = " ON CONFLICT DO NOTHING"


def ingest(*, batch: UsageBatch, now: dt.datetime) -> UsageReceipt:
    """Store what is new of a batch, in one transaction.

    A segment that cannot be taken is refused with the reason and does not hinder the others. The
    caller has made sure that the sender is the gateway the batch names.
    """
    with scope.platform("take usage of all tenants from a gateway"):
        accepted: list[UsageSegment] = []
        refused: list[Refused] = []
        check = _Check(gateway=batch.gateway, projects=_known_projects(batch), now=now)
        for segment in batch.segments:
            reason = check.complaint(segment)
            if reason:
                refused.append(Refused(sequence=segment.sequence, reason=reason))
            else:
                accepted.append(segment)
        inserted = _insert(batch.gateway, accepted, now) if accepted else 0
    return UsageReceipt(inserted=inserted, duplicates=len(accepted) - inserted, refused=tuple(refused))


class _Check:
    """Says why a segment cannot be taken. Ids repeat within a batch, so each is looked at once."""

    def __init__(self, *, gateway: str, projects: set[tuple[str, str]], now: dt.datetime) -> None:
        self._gateway = gateway
        self._projects = projects
        self._retention = settings.USAGE_RETENTION_DAYS
        self._oldest = now.date() - dt.timedelta(days=self._retention)
        self._newest = now + AHEAD
        self._midnights: dict[dt.date, dt.datetime] = {}
        self._good_ids: set[str | None] = {None}
        self._good_words: set[tuple[str, str, str]] = set()

    def complaint(self, segment: UsageSegment) -> str:
        """Give the reason for refusing, empty if there is none."""
        return (
            self._of_origin(segment)
            or self._of_time(segment)
            or self._of_counts(segment)
            or self._of_words(segment)
        )

    def _of_origin(self, segment: UsageSegment) -> str:
        if segment.gateway != self._gateway:
            return f"the segment is of gateway {segment.gateway!r}, the batch of {self._gateway!r}"
        if (segment.tenant_id, segment.project_id) not in self._projects:
            return f"there is no tenant {segment.tenant_id!r} with a project {segment.project_id!r}"
        for found in (segment.key_id, segment.endpoint_id or None, segment.revision_id, segment.route_id):
            if found not in self._good_ids:
                if not _UUID.match(found):
                    return f"{found!r} is not a UUID"
                self._good_ids.add(found)
        if not 0 <= segment.sequence <= _BIGINT:
            return f"the sequence {segment.sequence} is not within 0 and {_BIGINT}"
        return ""

    def _of_time(self, segment: UsageSegment) -> str:
        start, end, day = segment.window_start, segment.window_end, segment.day
        if start.tzinfo is None or end.tzinfo is None:
            return "the window needs a time zone"
        if end < start:
            return "the window ends before it starts"
        if end > self._newest:
            return f"the window ends at {end.isoformat()}, more than a day ahead of this clock"
        midnight = self._midnights.get(day)
        if midnight is None:
            midnight = self._midnights[day] = dt.datetime.combine(day, dt.time(), dt.UTC)
        # A window that is closed at midnight still belongs to the day it closes.
        if not dt.timedelta() <= end - midnight <= _ONE_DAY:
            return f"the day {day} is not the UTC day of the window's end, {end.isoformat()}"
        if day < self._oldest:
            return f"arrived after its day was dropped: {day} is more than {self._retention} days ago"
        return ""

    def _of_counts(self, segment: UsageSegment) -> str:
        tokens_in, squares_in = segment.input_tokens, segment.input_tokens_squared
        tokens_out, squares_out = segment.output_tokens, segment.output_tokens_squared
        tokens = (tokens_in, tokens_out, segment.cached_tokens, squares_in, squares_out)
        counts = (segment.requests, *segment.ttft_ms, *segment.itl_ms)
        if min(tokens) < 0 or min(counts) < 0:
            return "a count is negative"
        if max(counts) > _INT or max(tokens) > _BIGINT:
            return "a count is too large to be one segment's"
        if segment.cached_tokens > tokens_in:
            return "more input tokens were cached than there were"
        return (
            _of_histogram("ttft_ms", segment.ttft_ms, LATENCY_BOUNDS_MS)
            or _of_histogram("itl_ms", segment.itl_ms, ITL_BOUNDS_MS)
            or _of_squares("input", segment.requests, tokens_in, squares_in)
            or _of_squares("output", segment.requests, tokens_out, squares_out)
        )

    def _of_words(self, segment: UsageSegment) -> str:
        words = (segment.model, segment.slo_class, segment.region)
        if words in self._good_words:
            return ""
        for name, longest in _LENGTHS.items():
            word = getattr(segment, name)
            if len(word) > longest or not word.isprintable():
                return f"{name} is longer than {longest} characters or not printable"
        self._good_words.add(words)
        return ""


def _of_histogram(name: str, buckets: tuple[int, ...], bounds: tuple[float, ...]) -> str:
    if len(buckets) > len(bounds) + 1:
        return f"the histogram {name} has {len(buckets)} buckets, at most {len(bounds) + 1} are known"
    return ""


def _of_squares(kind: str, requests: int, tokens: int, squares: int) -> str:
    # They are least where all requests are of one length, and most where one has all the tokens.
    if tokens * tokens <= requests * squares and squares <= tokens * tokens:
        return ""
    return f"the squares of {tokens} {kind} tokens of {requests} requests cannot sum to {squares}"


def _known_projects(batch: UsageBatch) -> set[tuple[str, str]]:
    named = {segment.project_id for segment in batch.segments}
    ids = [project_id for project_id in named if _UUID.match(project_id)]
    found = Project.objects.filter(id__in=ids).values_list("tenant_id", "id")
    return {(str(tenant_id), str(project_id)) for tenant_id, project_id in found}


def _insert(gateway: str, segments: list[UsageSegment], now: dt.datetime) -> int:
    ensure_partitions({segment.day for segment in segments})
    ordered = sorted(segments, key=lambda each: (each.sequence, each.day, each.tenant_id, each.key_id))
    columns = [
        _literal([each.tenant_id for each in ordered]),
        _literal([each.day for each in ordered]),
        _literal([each.sequence for each in ordered]),
        _literal([each.key_id for each in ordered]),
        _literal([each.project_id for each in ordered]),
        _literal([each.endpoint_id or None for each in ordered]),
        _literal([each.revision_id for each in ordered]),
        _literal([each.route_id for each in ordered]),
        _literal([each.model for each in ordered]),
        _literal([each.slo_class for each in ordered]),
        _literal([each.region for each in ordered]),
        _literal([each.outcome for each in ordered]),
        _literal([each.window_start for each in ordered]),
        _literal([each.window_end for each in ordered]),
        _literal([each.requests for each in ordered]),
        _literal([each.input_tokens for each in ordered]),
        _literal([each.output_tokens for each in ordered]),
        _literal([each.cached_tokens for each in ordered]),
        _literal([each.input_tokens_squared for each in ordered]),
        _literal([each.output_tokens_squared for each in ordered]),
        _literal_of_arrays([each.ttft_ms for each in ordered]),
        _literal_of_arrays([each.itl_ms for each in ordered]),
    ]
    try:
        # Asking for conflicts doubles the time, and a batch is rarely sent twice.
        with transaction.atomic():
            return _execute(_INSERT, [gateway, now, *columns])
    except psycopg.errors.UniqueViolation:
        return _execute(_INSERT + _UNLESS_KNOWN, [gateway, now, *columns])


def _execute(statement: str, parameters: list[object]) -> int:
    connection.ensure_connection()
    # Bound by the server: Django's own cursor would write half a megabyte of literals into the statement.
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(statement, parameters)
        return cursor.rowcount


def _literal(values: list[object]) -> str:
    """Give an array literal of PostgreSQL: for printable values it is JSON but for the brackets.

    psycopg's own dumping of lists takes twenty times as long.
    """
    return "{" + _encode(values).decode()[1:-1] + "}"


def _literal_of_arrays(values: list[tuple[int, ...]]) -> str:
    """Give arrays as text: those of different lengths make no array of arrays."""
    return _literal(values).replace("[", '"{').replace("]", '}"')
