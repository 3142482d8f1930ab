"""What goes wrong, each with the exit status that tells it to scripts."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import click


class Exit(enum.IntEnum):
    """Exit statuses. They are documented, and stay."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_SIGNED_IN = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    DIFFERS = 6
    NOT_READY = 7


class Failure(click.ClickException):
    """Something that ends a command; ``document`` is what ``--json`` writes of it."""

    def __init__(self, message: str, status: Exit, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.exit_code = int(status)  # type: ignore[misc]
        self.document = dict(document or {"detail": message})

    def show(self, file: Any = None) -> None:
        click.echo(f"Error: {self.format_message()}", err=True)


def of_problem(document: Mapping[str, Any], *, status: int, portal: str) -> Failure:
    """Give what a problem document (RFC 9457) says in words, with where to read what to do."""
    detail = "Nothing was applied." if document.get("problems") else str(document.get("detail", ""))
    lines = [f"{document.get('title', 'The request was refused')}. {detail}".strip()]
    lines += [f"  {_told(each)}" for each in document.get("problems", [])]
    if not document.get("problems"):
        for field, messages in document.get("errors", {}).items():
            lines += [f"  {field}: {message}" for message in messages if message not in detail]
    for refusal in document.get("refusals", [])[:5]:
        lines.append(f"  {refusal.get('gpu', '')}: {refusal.get('message', '')}")
    if str(document.get("type", "")).startswith("/"):
        lines.append(f"What to do: {portal}{document['type']}")
    codes = {401: Exit.NOT_SIGNED_IN, 404: Exit.NOT_FOUND}
    return Failure("\n".join(lines), codes.get(status, Exit.REFUSED), document)


def _told(problem: Mapping[str, Any]) -> str:
    where = f"{problem['source']}:{problem['line']}" if problem.get("line") else problem["source"]
    what = f"{problem['document']} {problem['path']}".strip()
    return ": ".join(part for part in (where, what, problem["message"]) if part)
