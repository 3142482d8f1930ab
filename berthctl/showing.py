"""What commands write: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def lines(texts: Iterable[str]) -> None:
    """Write texts below each other."""
    for each in texts:
        click.echo(_text(each))


def as_json(value: Any) -> None:
    """Write a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> None:
    """Write rows below their heads, each column as wide as it needs."""
    texts = [list(head), *([_text(each) for each in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    for row in texts:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def facts(values: Mapping[str, Any]) -> None:
    """Write names and values below each other; what is empty is left out."""
    shown = {name: _text(value) for name, value in values.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    for name, text in shown.items():
        click.echo(f"{name.ljust(width)}  {text}")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    # Names and reasons come from others: no sequence of theirs steers the terminal.
    return "".join(each if each.isprintable() else "�" for each in str(value))
