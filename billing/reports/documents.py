"""Rows of reports as flat documents of texts and numbers: what REST gives and a CSV holds."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any


def document(row: Any) -> dict[str, Any]:
    """Give a row of a report by field: moments in ISO 8601, decimals as plain texts, names each by its dimension."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if field.name == "names":
            found |= value
        else:
            found[field.name] = _plain(value)
    return found


def table(rows: Iterable[Any]) -> tuple[list[str], list[list[Any]]]:
    """Give a header and the rows below it; what a row lacks or is not known is empty."""
    found = [document(row) for row in rows]
    header = list(dict.fromkeys(name for each in found for name in each))
    return header, [[_cell(each.get(name)) for name in header] for each in found]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dt.datetime):
        return f"{value.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, dt.date):
        return value.isoformat()
    if value is None or isinstance(value, int | str | bool | float):
        return value
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    return str(value)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list) else value
