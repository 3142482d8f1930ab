"""Exports: JSON Lines that can be verified without Berth, and CSV to read."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import IO, Any, Final

from django.db import connection
from django.db.models import QuerySet

from tenants.audit.canonical import COLUMNS, FIELDS, JSON_FIELDS, PLATFORM, entry_hash
from tenants.audit.verifying import AT_A_TIME, Broken, Verdict
from tenants.errors import Invalid
from tenants.models import AuditEntry

#: More entries than these are no one file: ask by period.
MOST: Final = 200_000
NAMES: Final = (*FIELDS, "hash")

Row = Sequence[str | None]


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of file."""

    media_type: str
    label: str
    write: Callable[[Iterable[Row], IO[bytes]], None]


def export_rows(found: QuerySet[AuditEntry]) -> Iterator[Row]:
    """Read entries as the texts that are hashed, in the order of their numbers.

    Raises:
        Invalid: they are more than one file takes.
    """
    if found.count() > MOST:
        raise Invalid(
            f"These are more than {MOST:,} entries; export them in several periods.",
            errors={"since": ["Choose a shorter period."]},
        )
    chosen, values = found.order_by("number").values_list("id").query.sql_with_params()
    query = f"SELECT {COLUMNS} FROM tenants_auditentry AS entry WHERE id IN ({chosen}) ORDER BY entry.number"  # noqa: S608
    with connection.chunked_cursor() as cursor:
        cursor.execute(query, values)
        while rows := cursor.fetchmany(AT_A_TIME):
            yield from rows


def write_lines(rows: Iterable[Row], out: IO[bytes]) -> None:
    """Write one JSON object a line; in it ``before``, ``after`` and ``facts`` as the very texts that are hashed."""
    for row in rows:
        members = (
            f"{json.dumps(name)}: "
            + (text or "null" if name in JSON_FIELDS else json.dumps(text, ensure_ascii=False))
            for name, text in zip(NAMES, row, strict=True)
        )
        out.write(("{" + ", ".join(members) + "}\n").encode())


def write_csv(rows: Iterable[Row], out: IO[bytes]) -> None:
    """Write a table. Text that a spreadsheet would take for a formula is preceded by an apostrophe."""
    lines = csv.writer(_Text(out))
    lines.writerow(NAMES)
    for row in rows:
        lines.writerow([_harmless(text or "") for text in row])


FORMATS: Final[dict[str, Format]] = {
    "jsonl": Format("application/jsonl", "JSON\N{NO-BREAK SPACE}Lines", write_lines),
    "csv": Format("text/csv; charset=utf-8", "CSV", write_csv),
}


def verify_lines(lines: Iterable[str]) -> Verdict:
    """Verify an export: the hash of every entry, and the link of each whose neighbour is in the file, too.

    What a search left out is no fault; entries of one chain must stand in their order.

    Raises:
        Invalid: a line is no entry.
    """
    chain, count, number, last = "", 0, 0, ""
    for place, line in enumerate(lines, 1):
        row = _row(line, place)
        here, identity = int(row[2] or 0), row[3] or ""
        if chain and row[1] != chain:
            return Verdict(
                chain, count, Broken(here, identity, "chain", f"It is of another chain: {row[1]}.")
            )
        if number and here <= number:
            return Verdict(chain, count, Broken(here, identity, "gap", f"It stands after number {number}."))
        if here == number + 1 and number and row[0] != last:
            return Verdict(
                chain, count, Broken(here, identity, "link", "It does not follow the entry before it.")
            )
        if entry_hash(row[:-1]) != row[-1]:
            return Verdict(
                chain, count, Broken(here, identity, "hash", "Its hash is not that of what it says.")
            )
        chain, number, last, count = row[1] or "", here, row[-1] or "", count + 1
    return Verdict(chain or PLATFORM, count)


def _row(line: str, place: int) -> list[str | None]:
    try:
        entry = json.loads(line, parse_float=Decimal, parse_int=Decimal)
        row = [
            None if entry[name] is None else _text(entry[name]) if name in JSON_FIELDS else str(entry[name])
            for name in NAMES
        ]
        int(row[2] or "")
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"Line {place} is no entry of an export: {error}") from error
    return row


def _text(value: Any) -> str:
    """Write a value as PostgreSQL writes jsonb; what was read keeps its order and the digits of its numbers."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)}: {_text(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


class _Text:
    """What ``csv`` writes to, for a file of bytes."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return self._out.write(text.encode())
