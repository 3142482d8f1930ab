"""Statements as FOCUS 1.2 files: CSV by the standard library, Parquet by pyarrow.

Both are written row after row, a bounded number of rows at a time in memory. CSV has decimals as plain text with a
point and times as ``2026-05-31T22:00:00Z``; null is an empty cell. Parquet has decimals as decimal128 and times as
microseconds in UTC. Text is written as it is: a file for programs is no place for a spreadsheet's apostrophes.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.db.models import Sum

from billing.focus.columns import Column, Type, columns
from billing.focus.rows import Covered, CoverKey, Issuer, Row, focus_rows
from billing.models import Commitment, Statement, StatementLine

#: Rows in memory at once, and rows of a Parquet row group.
BATCH: Final = 2_000


def statement_rows(statement: Statement) -> Iterator[Row]:
    """Give the FOCUS rows of one statement, read bit by bit. The scope must stay open until they are read."""
    covered = _covered(statement)
    lines = statement.lines.exclude(charged=False, commitment_id=None).defer("how").order_by("position")
    commitments = lines.exclude(commitment_id=None).values("commitment_id")
    return focus_rows(
        statement,
        lines.iterator(chunk_size=BATCH),
        account_name=statement.tenant_name,
        issuer=Issuer(
            provider=settings.FOCUS_PROVIDER_NAME,
            publisher=settings.FOCUS_PUBLISHER_NAME,
            invoice_issuer=settings.FOCUS_INVOICE_ISSUER_NAME,
        ),
        covered=covered,
        names=dict(Commitment.objects.filter(id__in=commitments).values_list("id", "name")),
    )


def write_csv(rows: Iterable[Row], out: IO[bytes], *, for_validator: bool = False) -> int:
    """Write ``rows`` to ``out`` as CSV (RFC 4180, UTF-8, one header row); give how many rows."""
    shown = columns(for_validator=for_validator)
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(shown)
    count = 0
    for row in rows:
        writer.writerow([_cell(row.get(column.name)) for column in shown.values()])
        count += 1
    text.flush()
    text.detach()
    return count


def write_parquet(rows: Iterable[Row], out: IO[bytes], *, for_validator: bool = False) -> int:
    """Write ``rows`` to ``out`` as Parquet; give how many rows.

    ``for_validator``: with decimals as 64-bit floats, too, because focus-validator takes decimals for no numbers.
    """
    shown = columns(for_validator=for_validator)
    exact, written = _schema(shown), _schema(shown, doubles=for_validator)
    count = 0
    with pq.ParquetWriter(out, written, compression="zstd") as writer:
        for batch in _batches(iter(rows)):
            named = [{name: row.get(column.name) for name, column in shown.items()} for row in batch]
            writer.write_table(pa.Table.from_pylist(named, schema=exact).cast(written))
            count += len(batch)
    return count


def _schema(shown: Mapping[str, Column], *, doubles: bool = False) -> pa.Schema:
    return pa.schema(
        [pa.field(name, _arrow(column, doubles), nullable=column.nullable) for name, column in shown.items()],
        metadata={"focus_version": "1.2"},
    )


def _arrow(column: Column, doubles: bool) -> pa.DataType:
    match column.type:
        case Type.DECIMAL:
            return pa.float64() if doubles else pa.decimal128(column.digits, column.places)
        case Type.DATETIME:
            return pa.timestamp("us", tz="UTC")
        case Type.INTEGER:
            return pa.int32()
        case Type.STRING | Type.JSON:
            return pa.string()


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch


def _covered(statement: Statement) -> dict[CoverKey, Covered]:
    used = statement.lines.exclude(commitment_id=None).exclude(kind=StatementLine.Kind.COMMITMENT)
    sums = (
        used.order_by()
        .values_list("commitment_id", "service_month", "correction")
        .annotate(Sum("quantity"), Sum("effective_amount"))
    )
    return {(one, month, late): Covered(quantity, cost) for one, month, late, quantity, cost in sums}


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case Decimal():
            # Always with a point: a column of whole numbers would else be read as one of integers.
            whole, _, part = f"{value:f}".partition(".")
            return f"{whole}.{part.rstrip('0') or '0'}"
        case dt.datetime():
            return f"{value.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        case _:
            return value
