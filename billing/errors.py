"""Errors of the billing room."""

from __future__ import annotations

from tenants.errors import Conflict


class StatementIsFinal(Conflict):
    """A final statement never changes; corrections go into the next one."""

    code = "statement-is-final"
    title = "The statement is final"
