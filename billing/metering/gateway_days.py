"""What was counted of each gateway day by day, beside what the gateway says its own log holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from django.db import connection

from gateway.contract import DayTotals

#: A part of the statement that counts a page of segments (see :mod:`billing.metering.rollups`).
COUNT: Final = """
    INSERT INTO billing_gatewayday (
        gateway, day, requests, input_tokens, output_tokens, cached_tokens, segments, late_segments, counted_at)
    SELECT gateway, day, sum(requests), sum(input_tokens), sum(output_tokens), sum(cached_tokens), count(*),
        count(*) FILTER (WHERE received_at >= (day + 1 + %(late_days)s) AT TIME ZONE 'UTC'), %(now)s
    FROM page GROUP BY gateway, day
    ON CONFLICT (day, gateway) DO UPDATE SET
        requests = billing_gatewayday.requests + excluded.requests,
        input_tokens = billing_gatewayday.input_tokens + excluded.input_tokens,
        output_tokens = billing_gatewayday.output_tokens + excluded.output_tokens,
        cached_tokens = billing_gatewayday.cached_tokens + excluded.cached_tokens,
        segments = billing_gatewayday.segments + excluded.segments,
        late_segments = billing_gatewayday.late_segments + excluded.late_segments,
        counted_at = excluded.counted_at
"""

# Totals of a day only grow, so that a batch which comes a second time takes nothing back.
_KEEP: Final = """
INSERT INTO billing_gatewaylogday (gateway, day, requests, input_tokens, output_tokens, cached_tokens, told_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (day, gateway) DO UPDATE SET
    requests = greatest(billing_gatewaylogday.requests, excluded.requests),
    input_tokens = greatest(billing_gatewaylogday.input_tokens, excluded.input_tokens),
    output_tokens = greatest(billing_gatewaylogday.output_tokens, excluded.output_tokens),
    cached_tokens = greatest(billing_gatewaylogday.cached_tokens, excluded.cached_tokens),
    told_at = excluded.told_at
"""


def keep_told(*, gateway: str, days: Iterable[DayTotals], now: dt.datetime) -> None:
    """Note what ``gateway`` says its log holds of some days, as far as the segments reach that it sends with it."""
    rows = [
        (
            gateway, each.day, each.requests, each.input_tokens, each.output_tokens, each.cached_tokens, now,
        )
        for each in sorted(days, key=lambda each: each.day)
    ]  # fmt: skip
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_KEEP, rows)
