"""Traces: when requests came, how long they and their answers were."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class TraceError(Exception):
    """The trace cannot be read; the message says where and what it must be."""


class TracedRequest(NamedTuple):
    """``at_s`` is seconds after the first request of the trace; lengths are tokens."""

    at_s: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path) -> list[TracedRequest]:
    """Read a CSV file with the columns :data:`COLUMNS`, in order of time.

    ``TIMESTAMP`` is ISO 8601, with or without a zone, or seconds as a number. Digits of a second beyond the sixth
    are left out.

    Raises:
        TraceError: it is no such file; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise TraceError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
            rows = [_row(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise TraceError(f"{path} holds no requests.")
    rows.sort()
    first = rows[0].at_s
    return [request._replace(at_s=request.at_s - first) for request in rows]


def cut(
    trace: Sequence[TracedRequest], *, skip: int = 0, limit: int | None = None, speed: float = 1.0
) -> list[TracedRequest]:
    """Take ``limit`` requests after the first ``skip``, from their first moment on and ``speed`` times as fast."""
    part = trace[skip : None if limit is None else skip + limit]
    return [request._replace(at_s=(request.at_s - part[0].at_s) / speed) for request in part]


def _row(row: dict[str, str | None], at: str) -> TracedRequest:
    moment, given, made = (row[name] or "" for name in COLUMNS)
    try:
        lengths = int(given), int(made)
    except ValueError:
        raise TraceError(f"{at}: token counts must be whole numbers; they are {given!r}, {made!r}.") from None
    if min(lengths) < 0:
        raise TraceError(f"{at}: token counts must not be negative; they are {given}, {made}.")
    return TracedRequest(_seconds(moment.strip(), at), *lengths)


def _seconds(text: str, at: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    whole, point, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    try:
        moment = dt.datetime.fromisoformat(
            f"{whole}{point}{rest[: min(digits, 6)].ljust(6, '0')}{rest[digits:]}" if point else text
        )
    except ValueError:
        raise TraceError(
            f"{at}: TIMESTAMP must be a time such as 2023-11-16 18:15:46.68; it is {text!r}."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
