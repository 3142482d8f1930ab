"""Traces: when requests came, how long they and their answers were."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
CACHED: Final = "CachedTokens"

#: Tokens of a block that the ``hash_ids`` of Mooncake's traces name.
BLOCK_TOKENS: Final = 512


class TraceError(Exception):
    """The trace cannot be read; the message says where and what it must be."""


class TracedRequest(NamedTuple):
    """``at_s`` is seconds after the first request of the trace; lengths are tokens.

    ``cached_tokens`` of the input are a beginning that all requests share. ``blocks`` name what the input's blocks of
    :data:`BLOCK_TOKENS` tokens are, for traces that tell which requests begin alike.
    """

    at_s: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    blocks: tuple[int, ...] = ()


class Trace(NamedTuple):
    """Requests in order of time, and the lines of comment at the top of the file."""

    requests: list[TracedRequest]
    notes: list[str]


def read_trace(path: Path) -> Trace:
    """Read a CSV file with the columns :data:`COLUMNS`, or one of JSON lines as Mooncake's, in order of time.

    ``TIMESTAMP`` is ISO 8601, with or without a zone, or seconds as a number. Digits of a second beyond the sixth
    are left out. A further column :data:`CACHED` may say how many of the ``ContextTokens`` a cache held. Lines at
    the top that begin with ``#`` are notes. JSON lines have ``timestamp`` (ms), ``input_length``,
    ``output_length`` and perhaps ``hash_ids``.

    Raises:
        TraceError: it is no such file; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    rest = lines[first:]
    read = _json_lines if rest and rest[0].lstrip().startswith("{") else _csv_lines
    rows = read(rest, path, first)
    if not rows:
        raise TraceError(f"{path} holds no requests.")
    rows.sort(key=lambda request: request.at_s)
    begin = rows[0].at_s
    return Trace(
        [request._replace(at_s=request.at_s - begin) for request in rows],
        [line.lstrip("# ") for line in lines[:first]],
    )


def cut(
    trace: Sequence[TracedRequest], *, skip: int = 0, limit: int | None = None, speed: float = 1.0
) -> list[TracedRequest]:
    """Take ``limit`` requests after the first ``skip``, from their first moment on and ``speed`` times as fast."""
    part = trace[skip : None if limit is None else skip + limit]
    return [request._replace(at_s=(request.at_s - part[0].at_s) / speed) for request in part]


def shorten(
    trace: Sequence[TracedRequest], *, most_input: int | None = None, most_output: int | None = None
) -> list[TracedRequest]:
    """Cut what is longer than a model can take."""
    shortened = []
    for request in trace:
        given = request.input_tokens if most_input is None else min(request.input_tokens, most_input)
        made = request.output_tokens if most_output is None else min(request.output_tokens, most_output)
        shortened.append(
            request._replace(
                input_tokens=given, output_tokens=made, cached_tokens=min(request.cached_tokens, given)
            )
        )
    return shortened


def digest(trace: Sequence[TracedRequest]) -> str:
    """Name what is sent: equal for the same lengths at the same moments, to the millisecond."""
    told = hashlib.sha256()
    for request in trace:
        told.update(repr((round(request.at_s, 3), *request[1:])).encode())
    return told.hexdigest()


def _csv_lines(lines: Sequence[str], path: Path, before: int) -> list[TracedRequest]:
    try:
        reader = csv.DictReader(lines)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise TraceError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
        return [_row(row, f"{path}, line {before + reader.line_num}") for row in reader]
    except csv.Error as error:
        raise TraceError(f"{path} cannot be read: {error}") from error


def _json_lines(lines: Sequence[str], path: Path, before: int) -> list[TracedRequest]:
    rows = []
    for number, line in enumerate(lines, start=before + 1):
        if not line.strip():
            continue
        at = f"{path}, line {number}"
        try:
            told: dict[str, Any] = msgspec.json.decode(line)
            moment = int(told["timestamp"]) / 1000
            given, made = int(told["input_length"]), int(told["output_length"])
            blocks = tuple(int(name) for name in told.get("hash_ids") or ())
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise TraceError(
                f"{at}: it must be an object with the numbers timestamp (ms), input_length, output_length."
            ) from None
        rows.append(_checked(TracedRequest(moment, given, made, blocks=blocks), at))
    return rows


def _row(row: dict[str, str | None], at: str) -> TracedRequest:
    moment, given, made = (row[name] or "" for name in COLUMNS)
    try:
        lengths = int(given), int(made)
        cached = int(row.get(CACHED) or 0)
    except ValueError:
        raise TraceError(f"{at}: token counts must be whole numbers; they are {given!r}, {made!r}.") from None
    return _checked(TracedRequest(_seconds(moment.strip(), at), *lengths, min(cached, lengths[0])), at)


def _checked(request: TracedRequest, at: str) -> TracedRequest:
    if min(request.input_tokens, request.output_tokens, request.cached_tokens) < 0:
        raise TraceError(
            f"{at}: token counts must not be negative; they are {request.input_tokens}, {request.output_tokens}."
        )
    return request


def _seconds(text: str, at: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds):
            return seconds
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
