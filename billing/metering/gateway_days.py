"""What gateways say their own logs hold, day by day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from django.db import connection

from gateway.contract import DayTotals

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
