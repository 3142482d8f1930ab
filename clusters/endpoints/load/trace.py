"""A trace of an endpoint's requests for replaying, made from its minutes: when they came and how long they were.

What is metered are sums by minute and key, never single requests, so that the trace is synthesised: each minute has
as many requests as there were, at moments drawn evenly, and their lengths have that minute's sums exactly and about
its spread. The same time asked again gives the same trace.
"""

from __future__ import annotations

import collections
import csv
import datetime as dt
import io
import math
import random
from collections.abc import Sequence
from typing import Final

from billing.usage import MinutePoint, endpoint_minutes
from clusters.models import Endpoint
from gateway.contract import Outcome
from tenants.errors import Invalid

#: Requests that one trace may hold.
MOST_REQUESTS: Final = 100_000

#: Those whose lengths are known: the others had no answer, or half of one.
TRACED: Final = (Outcome.COMPLETED, Outcome.CANCELLED)

_MINUTE_S: Final = 60.0


def endpoint_trace(*, endpoint: Endpoint, start: dt.datetime, end: dt.datetime) -> str:
    """Give the CSV of a trace, with notes on how it came about at its top.

    Raises:
        Invalid: there were more than :data:`MOST_REQUESTS` requests.
    """
    points = endpoint_minutes(endpoint_id=endpoint.id, start=start, end=end)
    counts: collections.Counter[str] = collections.Counter()
    for point in points:
        counts[point.outcome] += point.requests
    traced = [point for point in points if point.outcome in TRACED]
    requests = sum(point.requests for point in traced)
    if requests > MOST_REQUESTS:
        raise Invalid(
            f"{requests:,} requests came then, and a trace holds {MOST_REQUESTS:,} at most: ask for a shorter time.",
            errors={"start": ["Choose a later start, or an earlier end."]},
        )
    out = io.StringIO(newline="")
    out.write(f"# endpoint {endpoint.name}, {_moment(start)} to {_moment(end)}\n")
    out.write("# synthesised from sums by minute: lengths and moments of single requests are drawn\n")
    if left := sum(counts.values()) - requests:
        out.write(f"# {left} requests that failed or were refused are left out\n")
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["TIMESTAMP", "ContextTokens", "GeneratedTokens", "CachedTokens"])
    made = [row for number, point in enumerate(traced) for row in _requests(point, f"{endpoint.id}/{number}")]
    rows.writerows((_moment(moment), *lengths) for moment, *lengths in sorted(made))
    return out.getvalue()


def _requests(point: MinutePoint, seed: str) -> list[tuple[dt.datetime, int, int, int]]:
    chance = random.Random(f"{seed}/{point.bucket.isoformat()}")  # noqa: S311
    moments = sorted(
        point.bucket + dt.timedelta(milliseconds=int(chance.random() * _MINUTE_S * 1000))
        for _ in range(point.requests)
    )
    given = _shared_out(point.requests, point.input_tokens, point.input_tokens_squared, chance)
    made = _shared_out(point.requests, point.output_tokens, point.output_tokens_squared, chance)
    share = point.cached_tokens / point.input_tokens if point.input_tokens else 0.0
    return [
        (moment, tokens, answer, round(tokens * share))
        for moment, tokens, answer in zip(moments, given, made, strict=True)
    ]


def _shared_out(count: int, total: int, squares: int, chance: random.Random) -> Sequence[int]:
    """Share ``total`` out to ``count`` lengths whose squares sum to about ``squares``: lognormal ones."""
    mean = total / count
    spread = max(0.0, squares / count - mean**2) / mean**2 if total else 0.0
    sigma = math.sqrt(math.log1p(spread))
    weights = [math.exp(sigma * chance.gauss(0.0, 1.0)) for _ in range(count)]
    whole, before, passed, lengths = sum(weights), 0, 0.0, []
    for weight in weights:
        passed += weight
        upto = round(total * passed / whole)
        lengths.append(upto - before)
        before = upto
    return lengths


def _moment(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(sep=" ", timespec="milliseconds")
