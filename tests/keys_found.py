"""Keys that rest or stand where they must not: in a text, in a database."""

from __future__ import annotations

import re

import psycopg
from psycopg import sql

from embedded.postgres import Postgres
from tenants import secret_keys
from tests.databases import data_dir

KEY = re.compile(r"berth_[0-9A-Za-z]{42}")
#: The first letters of a key as PostgreSQL writes bytes, and the rest.
_HEX = re.compile(b"berth_".hex() + r"([0-9a-f]{84})")

_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
_ROWS = (
    "SELECT {name} AS name, t::text FROM {table} AS t "
    "WHERE t::text ~ 'berth_[0-9A-Za-z]{{42}}' OR t::text ~ '62657274685f[0-9a-f]{{84}}'"
)


def has_key(text: str) -> bool:
    """Say whether a well-formed key is in a text."""
    return any(secret_keys.well_formed(key) for key in KEY.findall(text))


def keys_in(database: str) -> list[str]:
    """Name the tables of a database in which a well-formed key rests."""
    with psycopg.connect(Postgres(data_dir()).superuser_url(database)) as connection:
        tables = [name for (name,) in connection.execute(_TABLES)]
        parts = [sql.SQL(_ROWS).format(name=name, table=sql.Identifier(name)) for name in tables]
        rows = connection.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()
    return sorted(
        {
            table
            for table, row in rows
            if has_key(row) or any(has_key("berth_" + _text(found)) for found in _HEX.findall(row))
        }
    )


def _text(digits: str) -> str:
    return bytes.fromhex(digits).decode(errors="replace")
