"""What is wrong in documents, each with its file, line and field."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tenants.errors import Invalid

_KNOWN: Final = re.compile(r" Known (?:fields|settings): (.+)\.$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One wrong value. ``line`` counts from 1, 0 where there are no lines; ``path`` is the field, with dots."""

    source: str
    line: int
    path: str
    message: str
    document: str = ""

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        what = " ".join(part for part in (self.document, self.path) if part)
        return ": ".join(part for part in (where, what, self.message) if part)


class Unusable(Exception):
    """Text cannot be read as documents."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Refused(Invalid):
    """Documents were not applied, none of them; ``problems`` say why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        errors: dict[str, list[str]] = {}
        for each in problems:
            errors.setdefault(each.path, []).append(str(each))
        super().__init__(
            f"Nothing was applied: {problems[0]}{more}",
            errors=errors,
            problems=[dataclasses.asdict(each) for each in problems],
        )
        self.problems = tuple(problems)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest what was meant, with what there is."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Known: {', '.join(names)}."


def told(message: str, field: str) -> str:
    """Give a serializer's complaint about an unknown field with a suggestion in place of all that is known."""
    found = _KNOWN.search(message)
    if found is None:
        return message
    return f"{message[: found.start()]} {did_you_mean(field, found[1].split(', '))}"


def flattened(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Flatten nested validation errors into ``{"a.0.b": [messages]}``."""
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for name, inner in detail.items():
            here = path if name == "non_field_errors" else f"{path}.{name}".strip(".")
            found |= flattened(inner, here)
        return found
    if isinstance(detail, list) and any(isinstance(each, dict | list) for each in detail):
        found = {}
        for number, inner in enumerate(detail):
            found |= flattened(inner, f"{path}.{number}".strip("."))
        return found
    return {path: [str(each) for each in (detail if isinstance(detail, list) else [detail])]}
