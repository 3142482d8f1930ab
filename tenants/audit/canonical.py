"""The bytes that an entry's hash is over, made here anew and not by PostgreSQL, which wrote the hash.

They are the UTF-8 text of a JSON array of strings (or null), with ``", "`` between them and every character as it is
that JSON lets stand: the fields of :data:`FIELDS` in that order, beginning with the hash before. ``before``, ``after``
and ``facts`` stand in it as the texts that PostgreSQL gives for them. ``docs/audit.md`` has a worked example.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final

#: The hash before the first entry of a chain.
BEGINNING: Final = "0" * 64
#: The chain of no tenant.
PLATFORM: Final = "platform"

FIELDS: Final = (
    "previous", "chain", "number", "id", "at", "action",
    "actor_kind", "actor_id", "actor_name", "on_behalf", "address", "user_agent", "request_id",
    "target_kind", "target_id", "target_name", "before", "after", "facts",
)  # fmt: skip
JSON_FIELDS: Final = ("before", "after", "facts")

_EXPRESSIONS = {
    "chain": f"coalesce(tenant_id::text, '{PLATFORM}')",
    "at": """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    **{name: f"{name}::text" for name in ("number", "id", *JSON_FIELDS)},
}
#: What to select, as SQL, to get the fields and the hash as texts.
COLUMNS: Final = ", ".join([*(_EXPRESSIONS.get(name, name) for name in FIELDS), "hash"])


def canonical(fields: Sequence[str | None]) -> bytes:
    """Give the bytes for the values of :data:`FIELDS`."""
    return json.dumps(list(fields), ensure_ascii=False).encode()


def entry_hash(fields: Sequence[str | None]) -> str:
    """Give the hash that belongs to the values of :data:`FIELDS`."""
    return hashlib.sha256(canonical(fields)).hexdigest()
