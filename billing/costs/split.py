"""The GPU time of an endpoint, split over the keys and routes that used it.

On each UTC day, what an endpoint held in hours with requests is split in proportion to what its keys (or routes) used
on that day, their tokens at the price book; where nothing used has a price by tokens, and where there were none by
requests. What was held in hours without a request, or on days without one, is nobody's share: it stands apart as idle.
Shares of a day are computed by the database to some twenty digits, and what is left of the whole goes to the largest
share or, where time was idle, to that: the sum is always the whole.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final

from billing.costs import reading
from billing.costs.dimensions import Dimension, Narrow
from billing.costs.sums import attoseconds
from billing.quantities import midnights

#: Less GPU time than this, a microsecond, is a rest of divisions and no idle time.
_REST: Final = 10**12


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenPrice:
    """What a token costs in one piece, by what its price depends on."""

    piece: int
    model: str
    slo_class: str
    region: str
    input: Decimal
    output: Decimal
    cached: Decimal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """A share of GPU time in one piece; ``group`` has the values of what it was split by.

    ``time`` is in attoseconds of a GPU. ``idle`` time was held without a request and has no group, only empty values.
    """

    held: reading.HeldPart
    group: tuple[str, ...]
    time: int
    idle: bool = False


_SPLIT: Final = """
WITH used AS (
    SELECT date_trunc('day', bucket, 'UTC') AS day, width_bucket(bucket, %(coarse)s::timestamptz[]) AS piece,
        endpoint_id, model, slo_class, region, {by},
        sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(cached_tokens) AS cached_tokens
    FROM ({source}) AS rollup
    GROUP BY 1, 2, endpoint_id, model, slo_class, region, {by}
), price AS (
    SELECT * FROM unnest(%(piece)s::int[], %(model)s::text[], %(slo_class)s::text[], %(region)s::text[],
        %(input)s::numeric[], %(output)s::numeric[], %(cached)s::numeric[])
        AS price (piece, model, slo_class, region, input, output, cached)
), weighed AS (
    SELECT day, endpoint_id, {by}, sum(requests) AS requests, sum(input_tokens + output_tokens) AS tokens,
        sum((input_tokens - cached_tokens) * coalesce(input, 0) + cached_tokens * coalesce(cached, 0)
            + output_tokens * coalesce(output, 0)) AS amount
    FROM used LEFT JOIN price USING (piece, model, slo_class, region)
    GROUP BY day, endpoint_id, {by}
), share AS (
    SELECT day, endpoint_id AS asked, {by}, CASE
        WHEN sum(amount) OVER endpoint > 0 THEN amount / sum(amount) OVER endpoint
        WHEN sum(tokens) OVER endpoint > 0 THEN tokens / sum(tokens) OVER endpoint
        ELSE requests / sum(requests) OVER endpoint END AS part
    FROM weighed WINDOW endpoint AS (PARTITION BY day, endpoint_id)
), held AS ({held}), idle AS ({idle}), busy AS (
    SELECT held.*, (%(bounds)s::timestamptz[])[piece] AS since, gpu_seconds - least(gpu_seconds,
        coalesce(idle, 0) * gpu_seconds / sum(gpu_seconds) OVER (PARTITION BY piece, endpoint_id, gpu_type, region)
    ) AS busy
    FROM held LEFT JOIN idle USING (piece, endpoint_id, gpu_type, region)
)
SELECT width_bucket(since, %(coarse)s::timestamptz[]) AS coarse, {project}, {endpoint}, region, gpu_type,
    price_factor, {by}, sum(busy * part)
FROM busy JOIN share ON asked = endpoint_id AND day = date_trunc('day', since, 'UTC')
WHERE busy > 0 AND part > 0
GROUP BY 1, 2, 3, region, gpu_type, price_factor, {by}
"""


def split(
    *,
    held: Sequence[reading.HeldPart],
    edges: Sequence[dt.datetime],
    end: dt.datetime,
    now: dt.datetime,
    by: Sequence[Dimension],
    prices: Iterable[TokenPrice],
    narrow: Narrow,
    projects: bool,
    endpoints: bool,
    endpoint_ids: Collection[uuid.UUID] | None = None,
) -> list[Share]:
    """Split ``held`` (what :func:`reading.held` gave for the same arguments) by keys, by routes, or by both.

    Shares are told apart by project and by endpoint only where that is asked for; all others have none.
    """
    if not held:
        return []
    fine = sorted({*edges, *(midnight for midnight in midnights(edges[0], end) if midnight > edges[0])})
    only, narrowed = reading.held_narrowed(narrow, endpoint_ids)
    columns = ", ".join(each.column for each in by)
    # All keys of these endpoints have a share, also those that are not shown.
    idle, of_idle = reading.idle_statement(fine, end, only)
    source, found = reading.sources(
        reading.USAGE,
        edges,
        end,
        f"bucket, endpoint_id, model, slo_class, region, {columns}, requests, input_tokens, output_tokens,"
        " cached_tokens",
        " AND endpoint_id = ANY(%(asked)s::uuid[])",
    )
    prices = list(prices)
    parameters = {
        **of_idle,
        **found,
        **reading.held_parameters(fine, end, now),
        **narrowed,
        "coarse": list(edges),
        "asked": list({part.endpoint_id for part in held}),
        **{
            name: [getattr(price, name) for price in prices]
            for name in ("model", "slo_class", "region", "input", "output", "cached")
        },
        "piece": [price.piece + 1 for price in prices],
    }
    statement = _SPLIT.format(
        by=columns,
        project="project_id" if projects else "NULL::uuid",
        endpoint="endpoint_id" if endpoints else "NULL::uuid",
        source=source,
        held=reading.HELD.replace("{only}", only),
        idle=idle,
    )
    parts: defaultdict[tuple, dict[tuple[str, ...], int]] = defaultdict(dict)
    for row in reading.fetch(statement, parameters):
        group = tuple(str(value or "") for value in row[6:-1])
        parts[row[0] - 1, *row[1:6]][group] = attoseconds(row[-1])
    whole: dict[tuple, list[reading.HeldPart]] = defaultdict(list)
    for each in held:
        whole[_key(each, projects, endpoints)].append(each)
    return [
        share
        for key, several in whole.items()
        for share in _shares(_together(several, key), parts.get(key, {}), len(by))
    ]


def _key(held: reading.HeldPart, projects: bool, endpoints: bool) -> tuple:
    project, endpoint = held.project_id if projects else None, held.endpoint_id if endpoints else None
    return held.piece, project, endpoint, held.region, held.gpu_type, held.price_factor


def _together(several: list[reading.HeldPart], key: tuple) -> reading.HeldPart:
    return dataclasses.replace(
        several[0],
        project_id=key[1],
        endpoint_id=key[2],
        gpu_seconds=sum((each.gpu_seconds for each in several), Decimal(0)),
    )


def _shares(held: reading.HeldPart, parts: dict[tuple[str, ...], int], number: int) -> Iterator[Share]:
    rest = attoseconds(held.gpu_seconds) - sum(parts.values())
    if parts and rest < _REST:
        largest = max(parts, key=lambda group: (parts[group], group))
        parts = {**parts, largest: parts[largest] + rest}
        rest = 0
    for group, time in parts.items():
        yield Share(held=held, group=group, time=time)
    if rest:
        yield Share(held=held, group=("",) * number, time=rest, idle=True)
