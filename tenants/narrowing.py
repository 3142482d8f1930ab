"""What a management key that is limited to projects sees.

Beside the tenant scope, and apart from it: quotas, budgets and names are judged over the whole tenant, whoever asks.
Views narrow the rows they show, and what may be referred to is looked up by :func:`within`.
"""

from __future__ import annotations

import contextlib
import contextvars
import uuid
from collections.abc import Iterator
from typing import TypeVar

from django.db import models

_seen: contextvars.ContextVar[frozenset[uuid.UUID] | None] = contextvars.ContextVar(
    "berth_seen_projects", default=None
)
_Rows = TypeVar("_Rows", bound=models.QuerySet)


def projects() -> frozenset[uuid.UUID] | None:
    """Give the ids of the projects whose objects whoever asks may see, None for all."""
    return _seen.get()


@contextlib.contextmanager
def to(seen: frozenset[uuid.UUID] | None) -> Iterator[None]:
    """Show objects of ``seen`` projects only for the length of the block; None shows all."""
    token = _seen.set(seen)
    try:
        yield
    finally:
        _seen.reset(token)


def within(rows: _Rows, field: str) -> _Rows:
    """Narrow ``rows`` to those whose ``field`` is a project that may be seen."""
    seen = _seen.get()
    return rows if seen is None else rows.filter(**{f"{field}__in": seen})
