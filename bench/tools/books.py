"""A client's ledger, the gateway's log and what is billed, held against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psycopg

from bench.tools.figures import Figures
from bench.tools.ledger import Line
from embedded.datadir import DataDir
from embedded.postgres import Postgres
from gateway.contract import Outcome
from gateway.metering.log import Position, read_log
from gateway.metering.records import UsageRecord

Sums = Counter[tuple[str, ...]]

_BY = "tenant_id::text, key_id::text, coalesce(endpoint_id::text, ''), outcome"
_SUMS = "sum(requests)::bigint, sum(input_tokens)::bigint, sum(output_tokens)::bigint"


def records_of(folder: Path) -> list[UsageRecord]:
    """Read every record of a usage log whose process has ended or writes no more."""
    return [record for records, _ in read_log(folder, Position(), active=None) for record in records]


def compare(ledger: Iterable[Line], records: list[UsageRecord], data_dir: DataDir) -> Figures:
    """Say what of the ledger was lost or counted twice on the way to the bill.

    One request after the other from the client to the gateway's log, by the request's id; from there to the segments
    and to the days that are billed by sums of requests and tokens for each key, endpoint and outcome.
    """
    lines = list(ledger)
    logged = Counter(record.request_id for record in records)
    by_id = {record.request_id: record for record in records}
    acknowledged = [line for line in lines if line.acknowledged]
    lost = [line for line in acknowledged if logged[line.request_id] == 0]
    other = [line for line in acknowledged if line not in lost and not _same(line, by_id[line.request_id])]
    told = _sums_of(records)
    with psycopg.connect(Postgres(data_dir).superuser_url()) as connection:
        segments, days = (
            _sums_in(connection, table) for table in ("billing_usagesegment", "billing_usageday")
        )
    completed = Outcome.COMPLETED.value
    return {
        "requests": len(lines),
        "acknowledged": len(acknowledged),
        "completed_in_gateway_log": sum(record.outcome == completed for record in records),
        "completed_billed": days_completed(days),
        "acknowledged_lost": len(lost) + _short(told, days),
        "billed_twice": sum(count - 1 for count in logged.values()) + _short(days, told),
        "acknowledged_with_other_counts": len(other),
        "segments_unlike_log": sum((told - segments).values()) + sum((segments - told).values()),
    }


def days_completed(days: Sums) -> int:
    """Count the requests among ``days`` that were answered to the end."""
    return sum(count for group, count in days.items() if group[-2:] == (Outcome.COMPLETED.value, "requests"))


def _same(line: Line, record: UsageRecord) -> bool:
    return (line.input_tokens, line.output_tokens, Outcome.COMPLETED) == (
        record.input_tokens, record.output_tokens, record.outcome,
    )  # fmt: skip


def _short(whole: Sums, part: Sums) -> int:
    """Count the requests of ``whole`` that ``part`` has not."""
    return sum(count for group, count in (whole - part).items() if group[-1] == "requests")


def _sums_of(records: Iterable[UsageRecord]) -> Sums:
    sums: Sums = Counter()
    for record in records:
        group = (record.tenant_id, record.key_id, record.endpoint_id, record.outcome.value)
        sums[*group, "requests"] += 1
        sums[*group, "input"] += record.input_tokens
        sums[*group, "output"] += record.output_tokens
    return sums


def _sums_in(connection: psycopg.Connection, table: str) -> Sums:
    sums: Sums = Counter()
    query = f"SELECT {_BY}, {_SUMS} FROM {table} GROUP BY 1, 2, 3, 4"
    for *group, requests, read, written in connection.execute(query):  # type: ignore[call-overload]
        key = tuple(map(str, group))
        sums[*key, "requests"], sums[*key, "input"], sums[*key, "output"] = requests, read, written
    return sums
