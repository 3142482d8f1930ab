"""Which tables are audited: their columns, and why the others are not. Each room registers its own (``audited.py``)."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

from django.apps import apps

_WRITE = re.compile(r"\s*(insert|update|delete|merge|with)\b", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Audited:
    """How rows of one table are told.

    ``noun`` names them in actions (``key`` in ``key.revoke``), the column ``name`` (or "") each of them. ``columns``
    are told with their values, ``hidden`` ones only when they changed; no other column ever is. ``tenant`` is the
    column with the tenant whose chain it goes into; "" or an empty column: the platform's. ``verbs`` name updates:
    column, new value ("*": any but null), verb; the first that fits, else ``change``.
    """

    noun: str
    columns: tuple[str, ...]
    name: str = "name"
    tenant: str = "tenant_id"
    hidden: tuple[str, ...] = ()
    verbs: tuple[tuple[str, str, str], ...] = ()
    key: str = "id"

    def argument(self) -> str:
        """Give it as the trigger reads it."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


#: By label of the model.
AUDITED: dict[str, Audited] = {}
#: Own models that are not audited, each with the reason.
UNAUDITED: dict[str, str] = {}


def register(audited: dict[str, Audited], unaudited: dict[str, str] | None = None) -> None:
    """Add a room's tables. Models of applications that are not installed are passed over."""
    AUDITED.update(
        {label: each for label, each in audited.items() if label.split(".")[0] in apps.app_configs}
    )
    UNAUDITED.update(unaudited or {})
    _names.cache_clear()


def tables() -> dict[str, Audited]:
    """Give what is audited by table."""
    return {apps.get_model(label)._meta.db_table: each for label, each in AUDITED.items()}


def table_of(noun: str) -> tuple[str, Audited] | None:
    """Give the table whose rows are called ``noun``."""
    return next(((table, each) for table, each in tables().items() if each.noun == noun), None)


def writes_audited(sql: Any) -> bool:
    """Say whether a statement may write to an audited table."""
    text = sql if isinstance(sql, str) else str(sql)
    return _WRITE.match(text) is not None and _names().search(text) is not None


@functools.cache
def _names() -> re.Pattern[str]:
    return re.compile(r"\b(" + "|".join(map(re.escape, sorted(tables()))) + r")\b")
