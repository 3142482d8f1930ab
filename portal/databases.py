"""How long a web process lets a statement run."""

from __future__ import annotations

from django.conf import settings
from django.db import connections


def limit_statements() -> None:
    """Let PostgreSQL cancel statements of this process that take too long; before the first connection is made."""
    if seconds := settings.DATABASE_STATEMENT_SECONDS:
        options = connections.settings["default"].setdefault("OPTIONS", {})
        options["options"] = f"{options.get('options', '')} -c statement_timeout={seconds}s".strip()
