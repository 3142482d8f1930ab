"""The windows that statements look at, where prices cut them, and the GPU time held in them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Final

from django.db import connection

from billing import quantities
from billing.quantities import HOUR, Interval
from billing.rating.prices import PriceBook, PriceKind
from billing.statements.gpu_time import Allocated, hours_of

GPU_PRICES: Final = frozenset({PriceKind.GPU_HOUR})
TOKEN_PRICES: Final = frozenset(PriceKind) - GPU_PRICES

_ALLOCATED = """
SELECT tenant_id, project_id, endpoint_id, gpu_type, region, price_factor, gpus,
    greatest(started_at, %(start)s), least(coalesce(ended_at, %(until)s), %(until)s)
FROM billing_allocation
WHERE tenant_id = ANY(%(tenants)s) AND started_at < %(until)s AND (ended_at IS NULL OR ended_at > %(start)s)
ORDER BY tenant_id, endpoint_id, started_at, id
"""


_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ASKED = """
SELECT endpoint_id, (bucket AT TIME ZONE 'UTC')::date - date '1970-01-01', bit_or(asked_hours) FROM billing_usageday
WHERE {whose} AND endpoint_id = ANY(%(endpoints)s) AND bucket >= %(start)s AND bucket < %(end)s
GROUP BY 1, 2
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """A month of the calendar from ``start`` to ``end``; what is held still counts until ``until``."""

    month: dt.date
    start: dt.datetime
    end: dt.datetime
    until: dt.datetime


def allocated(window: Window, tenant_ids: Collection[uuid.UUID]) -> list[Allocated]:
    """Read the GPU time that the tenants held in the window, one part of an allocation each."""
    with connection.cursor() as cursor:
        cursor.execute(
            _ALLOCATED,
            {"tenants": list(tenant_ids), "start": window.start, "until": min(window.until, window.end)},
        )
        return [
            Allocated(
                tenant_id=row[0], project_id=row[1], endpoint_id=row[2], gpu_type=row[3], region=row[4],
                price_factor=row[5].normalize(), gpus=row[6], start=row[7], end=row[8],
            )
            for row in cursor.fetchall()
        ]  # fmt: skip


def busy_hours(
    window: Window,
    endpoint_ids: Collection[uuid.UUID],
    *,
    tenant_ids: Collection[uuid.UUID] | None = None,
) -> dict[uuid.UUID, tuple[Interval, ...]]:
    """Give the hours about the window in which endpoints got a request of some tenants, or of any; merged."""
    found: defaultdict[uuid.UUID, list[tuple[dt.datetime, int]]] = defaultdict(list)
    if endpoint_ids:
        parameters = {
            "endpoints": list(endpoint_ids),
            "tenants": list(tenant_ids or ()),
            "start": quantities.round_down(window.start, quantities.DAY),
            "end": window.end,
        }
        whose = "true" if tenant_ids is None else "tenant_id = ANY(%(tenants)s)"
        with connection.cursor() as cursor:
            cursor.execute(_ASKED.replace("{whose}", whose), parameters)
            for endpoint_id, days, bits in cursor.fetchall():
                found[endpoint_id].append((_EPOCH + days * quantities.DAY, bits))
    return {endpoint_id: hours_of(days) for endpoint_id, days in found.items()}


def gpu_cuts(window: Window, book: PriceBook) -> list[dt.datetime]:
    """Give the window's bounds and the moments between at which a price of GPU time begins."""
    inner = {moment for moment in book.changes(GPU_PRICES) if window.start < moment < window.end}
    return [window.start, *sorted(inner), window.end]


def token_cuts(books: Iterable[PriceBook]) -> set[dt.datetime]:
    """Give the whole hours around each change of a token price: usage is known by the hour."""
    changes = {moment for book in books for moment in book.changes(TOKEN_PRICES)}
    return {quantities.round_down(moment, HOUR) for moment in changes} | {
        quantities.round_up(moment, HOUR) for moment in changes
    }
