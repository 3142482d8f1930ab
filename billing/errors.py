"""Errors of the billing room."""

from __future__ import annotations

from tenants.errors import BerthError, Conflict


class StatementIsFinal(Conflict):
    """A final statement never changes; corrections go into the next one."""

    code = "statement-is-final"
    title = "The statement is final"


class OverBudget(BerthError):
    """A budget of GPU time has no room for this; ``extra`` names it, its owner and limit, and what was asked."""

    code = "over-budget"
    status = 403
    title = "A budget does not allow this"
