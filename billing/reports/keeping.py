"""Keeping the reports' rows: GPU time, tokens and money of UTC days, made from hours, usage and prices.

A day is made as a whole in one transaction, from what is known of it then, so that making it again is always safe.
Amounts are those of :mod:`billing.costs`: what was held, at the tenant's prices. What belongs to one endpoint is
split over its revisions by the time that they held.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from django.db import connection

from billing import quantities
from billing.charging import rate_held
from billing.costs import GPU_PRICES
from billing.models import EndpointDay, ReportDay
from billing.prices import PriceBook, price_books
from billing.quantities import DAY
from billing.rating.charges import shown
from tenants import locks, scope
from tenants.models import Tenant

#: Gives, for revisions, the output tokens per second and GPU that their plans promise; the others are unknown.
Planned = Callable[[Collection[uuid.UUID]], Mapping[uuid.UUID, Decimal]]

#: Days that are made anew at every look: their hours may still change.
RECENT: Final = 2

#: How far back days are looked for that were never made, or whose hours were counted anew since.
LATE_DAYS: Final = 40

PLACES: Final = 15

_SECONDS: Final = ("queued", "loading", "serving", "idle", "draining", "held")
_SERVED: Final = (
    "requests", "input_tokens", "output_tokens", "cached_tokens", "planned_tokens", "planned_seconds", "amount",
    "asset_cost", "idle_asset_cost",
)  # fmt: skip


def _sums(names: Iterable[str]) -> str:
    return ", ".join(f"sum({name}) AS {name}" for name in names)


# What an endpoint served on a day stands beside the row of the revision that held most of it.
_ENDPOINT_DAYS: Final = f"""
WITH placed AS (
    SELECT *, row_number() OVER (
        PARTITION BY bucket, endpoint_id, revision_id ORDER BY held DESC, cluster, pool, currency, id
    ) AS place
    FROM billing_heldday WHERE bucket >= %(start)s AND bucket < %(end)s
), used AS (
    SELECT bucket, endpoint_id, revision_id, sum(requests) AS requests, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens
    FROM billing_usageday
    WHERE bucket >= %(start)s AND bucket < %(end)s AND endpoint_id IS NOT NULL
    GROUP BY 1, 2, 3
)
INSERT INTO billing_endpointday (
    tenant_id, day, project_id, endpoint_id, revision_id, cluster, region, pool, gpu_type, model, slo_class, currency,
    asset_currency, {", ".join(_SECONDS)}, {", ".join(_SERVED)}
)
SELECT placed.tenant_id, (placed.bucket AT TIME ZONE 'UTC')::date, placed.project_id, placed.endpoint_id,
    placed.revision_id, placed.cluster, placed.region, placed.pool, placed.gpu_type, coalesce(label.model, ''),
    coalesce(label.slo_class, ''), tenant.currency, placed.currency,
    {", ".join(f"placed.{name} * placed.share" for name in _SECONDS)},
    coalesce(used.requests, 0), coalesce(used.input_tokens, 0), coalesce(used.output_tokens, 0),
    coalesce(used.cached_tokens, 0), 0, 0, 0, placed.cost, placed.idle_cost
FROM placed
JOIN tenants_tenant AS tenant ON tenant.id = placed.tenant_id
LEFT JOIN billing_endpointlabel AS label
    ON label.tenant_id = placed.tenant_id AND label.endpoint_id = placed.endpoint_id
LEFT JOIN used ON placed.place = 1 AND used.bucket = placed.bucket AND used.endpoint_id = placed.endpoint_id
    AND used.revision_id = placed.revision_id
"""  # noqa: S608

_AMOUNTS: Final = """
UPDATE billing_endpointday AS row SET amount = made.amount, planned_tokens = made.planned * row.serving,
    planned_seconds = CASE WHEN made.planned > 0 THEN row.serving ELSE 0 END
FROM unnest(%(ids)s::bigint[], %(amounts)s::numeric[], %(planned)s::numeric[]) AS made (id, amount, planned)
WHERE row.id = made.id
"""

_MODEL_KEYS: Final = "model, slo_class, gpu_type, currency, asset_currency"
_MONTH_KEYS: Final = f"tenant_id, project_id, endpoint_id, cluster, region, pool, {_MODEL_KEYS}"
_MADE_OF_DAYS: Final = f"""
DELETE FROM billing_modelday WHERE day >= %(first)s AND day < %(until)s;
INSERT INTO billing_modelday (day, {_MODEL_KEYS}, {", ".join((*_SECONDS, *_SERVED))})
SELECT day, {_MODEL_KEYS}, {_sums((*_SECONDS, *_SERVED))}
FROM billing_endpointday WHERE day >= %(first)s AND day < %(until)s
GROUP BY day, {_MODEL_KEYS};
DELETE FROM billing_endpointmonth WHERE month >= %(first_month)s AND month < %(until)s;
INSERT INTO billing_endpointmonth (month, {_MONTH_KEYS}, {", ".join((*_SECONDS, *_SERVED))})
SELECT date_trunc('month', day)::date, {_MONTH_KEYS}, {_sums((*_SECONDS, *_SERVED))}
FROM billing_endpointday WHERE day >= %(first_month)s AND day < %(until_month)s
GROUP BY 1, {_MONTH_KEYS}
"""  # noqa: S608

# Days never made, those whose GPU time or cost is not that of the rows any more, those whose usage was counted since.
# What was counted may have been committed some time after it says so.
_STALE: Final = """
SELECT day
FROM (
    SELECT (bucket AT TIME ZONE 'UTC')::date AS day, sum(round(held * share, 6)) AS held,
        sum(round(serving * share, 6)) AS serving, sum(round(queued * share, 6)) AS queued, sum(cost) AS cost
    FROM billing_heldday WHERE bucket >= %(start)s GROUP BY 1
) AS hours
FULL JOIN (
    SELECT day, sum(held) AS held, sum(serving) AS serving, sum(queued) AS queued, sum(asset_cost) AS cost
    FROM billing_endpointday WHERE day >= %(first)s GROUP BY 1
) AS days USING (day)
WHERE (hours.held, hours.serving, hours.queued, hours.cost)
    IS DISTINCT FROM (days.held, days.serving, days.queued, days.cost)
UNION
SELECT (usage.bucket AT TIME ZONE 'UTC')::date
FROM billing_usageday AS usage
JOIN billing_reportday AS made ON made.day = (usage.bucket AT TIME ZONE 'UTC')::date
WHERE usage.bucket >= %(start)s AND usage.counted_at > made.kept_at - interval '1 hour'
"""


def reports_keep(*, now: dt.datetime, planned: Planned | None = None, wait: bool = True) -> int:
    """Make the days anew whose rows may have changed since they were made; give how many those are.

    Without ``wait`` nothing is done while another worker is at it. Each day is a transaction of its own.
    """
    kept = 0
    for day in _due(now):
        with scope.platform("keep the reports"), locks.held(locks.Lock.REPORTS, wait=wait) as mine:
            if not mine:
                return kept
            day_make(day=day, now=now, planned=planned)
        kept += 1
    return kept


def day_make(*, day: dt.date, now: dt.datetime, planned: Planned | None = None) -> None:
    """Make all rows of one UTC day, and its month's, in the platform's scope and the caller's transaction."""
    span = _span(day, day + DAY)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_endpointday WHERE day >= %(first)s AND day < %(until)s", span)
        cursor.execute(_ENDPOINT_DAYS, span)
        cursor.execute(_AMOUNTS, _priced(day, now, planned))
    sums_make(first=day, until=day + DAY)
    ReportDay.objects.update_or_create(day=day, defaults={"kept_at": now})


def sums_make(*, first: dt.date, until: dt.date) -> None:
    """Make the sums over models and months anew from the rows of the days in ``[first, until)``."""
    with connection.cursor() as cursor:
        cursor.execute(_MADE_OF_DAYS, _span(first, until))


def _span(first: dt.date, until: dt.date) -> dict[str, object]:
    after = (until - DAY).replace(day=1) + 32 * DAY
    return {
        "first": first,
        "until": until,
        "start": _midnight(first),
        "end": _midnight(until),
        "first_month": first.replace(day=1),
        "until_month": after.replace(day=1),
    }


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def _due(now: dt.datetime) -> list[dt.date]:
    """Give the recent days, and those whose rows do not say what is known of them now."""
    today = now.astimezone(dt.UTC).date()
    with scope.platform("find days whose reports are due"), connection.cursor() as cursor:
        first = today - LATE_DAYS * DAY
        cursor.execute(_STALE, {"first": first, "start": _midnight(first)})
        found = {row[0] for row in cursor.fetchall()}
    return sorted(found | {today - back * DAY for back in range(RECENT)})


def _priced(day: dt.date, now: dt.datetime, planned: Planned | None) -> dict[str, list]:
    """Give ids of the day's rows with their amounts, and what their plans promise."""
    start = _midnight(day)
    amounts = _amounts(start, start + DAY, now)
    rows: defaultdict[tuple, list] = defaultdict(list)
    for row in EndpointDay.objects.filter(day=day).order_by("held", "id"):
        rows[row.tenant_id, row.endpoint_id, row.cluster, row.gpu_type].append(row)
    rates = planned({row.revision_id for group in rows.values() for row in group}) if planned else {}
    made: dict[str, list] = {"ids": [], "amounts": [], "planned": []}
    for key, group in rows.items():
        shares = shared_out(amounts.get(key, Fraction(0)), [Fraction(row.held) for row in group])
        for row, share in zip(group, shares, strict=True):
            made["ids"].append(row.id)
            made["amounts"].append(share)
            made["planned"].append(rates.get(row.revision_id, Decimal(0)))
    return made


def shared_out(amount: Fraction, parts: Sequence[Fraction]) -> list[Decimal]:
    """Split an amount by ``parts`` to 15 decimal places, so that the shares sum to it; the last takes what is left."""
    whole, total = shown(amount, PLACES), sum(parts)
    if not total:
        return [Decimal(0)] * len(parts)
    shares = [shown(amount * part / total, PLACES) for part in parts[:-1]]
    return [*shares, whole - sum(shares, Decimal(0))]


def _amounts(start: dt.datetime, end: dt.datetime, now: dt.datetime) -> dict[tuple, Fraction]:
    """Rate what was held in ``[start, end)`` by tenant, endpoint, cluster and GPU type, in the tenants' currencies."""
    books = _Books()
    sums: defaultdict[tuple, Fraction] = defaultdict(Fraction)
    for held in quantities.held(start=start, end=end, now=now, cuts=books.changes()):
        key = held.tenant_id, held.endpoint_id, held.cluster, held.gpu_type
        sums[key] += rate_held(books.of(held.tenant_id), held).exact
    return dict(sums)


class _Books:
    """Price books by tenant; those without prices of their own share one."""

    def __init__(self) -> None:
        by_currency: defaultdict[str, list[uuid.UUID]] = defaultdict(list)
        for tenant_id, currency in Tenant.objects.values_list("id", "currency"):
            by_currency[currency].append(tenant_id)
        self._books = {
            tenant_id: book
            for currency, ids in by_currency.items()
            for tenant_id, book in price_books(currency, ids).items()
        }

    def of(self, tenant_id: uuid.UUID) -> PriceBook:
        return self._books[tenant_id]

    def changes(self) -> set[dt.datetime]:
        books = {id(book): book for book in self._books.values()}
        return set().union(*(book.changes(GPU_PRICES) for book in books.values()))
