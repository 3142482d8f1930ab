"""What engines counted themselves, by UTC day: for comparison with what the gateways metered."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from typing import Final, NamedTuple

from django.db import connection

#: Two pods of a gateway may read an engine within a moment and be heard in the other order; an engine that starts
#: anew falls further behind than that.
_OUT_OF_ORDER: Final = 10  # percent


class Reading(NamedTuple):
    """An engine's counters of tokens since it started."""

    replica_id: str
    endpoint_id: uuid.UUID
    input_tokens: int
    output_tokens: int


_LAST = """
SELECT DISTINCT ON (replica_id) replica_id, last_input, last_output FROM billing_enginetokens
WHERE replica_id = ANY(%s) ORDER BY replica_id, day DESC
"""
_ADD = """
INSERT INTO billing_enginetokens (
    replica_id, endpoint_id, day, input_tokens, output_tokens, last_input, last_output, read_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (day, replica_id) DO UPDATE SET
    input_tokens = billing_enginetokens.input_tokens + excluded.input_tokens,
    output_tokens = billing_enginetokens.output_tokens + excluded.output_tokens,
    last_input = excluded.last_input, last_output = excluded.last_output, read_at = excluded.read_at
"""


def engine_tokens_add(*, readings: Iterable[Reading], now: dt.datetime) -> None:
    """Add what the counters grew by since they were last read to the UTC day of ``now``.

    A counter that fell began again at zero: what it shows is new. What an engine counted after its last reading and
    before it ended is not known. To be called in the platform's scope.
    """
    found = {reading.replica_id: reading for reading in readings}
    if not found:
        return
    with connection.cursor() as cursor:
        # One at a time for each engine: two reports of the same growth must not both be added.
        for replica_id in sorted(found):
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"engine-tokens/{replica_id}"]
            )
        cursor.execute(_LAST, [list(found)])
        last = {replica_id: counters for replica_id, *counters in cursor.fetchall()}
        for reading in found.values():
            known = last.get(reading.replica_id, [0, 0])
            counters = [reading.input_tokens, reading.output_tokens]
            if _is_stale(counters, known):
                continue
            restarted = any(new < old for new, old in zip(counters, known, strict=True))
            grown = counters if restarted else [new - old for new, old in zip(counters, known, strict=True)]
            row = (reading.replica_id, reading.endpoint_id, now.date(), *grown, *counters, now)
            cursor.execute(_ADD, row)


def _is_stale(counters: list[int], known: list[int]) -> bool:
    fell = [old - new for new, old in zip(counters, known, strict=True)]
    return max(fell) > 0 and all(
        100 * fallen <= _OUT_OF_ORDER * old for fallen, old in zip(fell, known, strict=True)
    )
