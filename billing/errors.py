"""Errors of the billing room."""

from __future__ import annotations

from tenants.errors import BerthError, Conflict


class StatementIsFinal(Conflict):
    """A final statement never changes; corrections go into the next one."""

    code = "statement-is-final"
    title = "The statement is final"


class NotClosable(Conflict):
    """A statement cannot be closed yet; the message says what it waits for."""

    code = "not-closable"
    title = "The statement cannot be closed yet"


class Unbalanced(ValueError):
    """What is to be posted does not sum to zero: a fault of ours that no request can mend."""


class NotParked(Conflict):
    """Only a parked account can be unparked."""

    code = "not-parked"
    title = "The account is not parked"


class OverBudget(BerthError):
    """A budget of GPU time has no room for this; ``extra`` names it, its owner and limit, and what was asked."""

    code = "over-budget"
    status = 403
    title = "A budget does not allow this"
