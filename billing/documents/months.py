"""The statement of a month, whatever its state."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from billing.models import Statement
from billing.statements import statement_draft
from tenants.errors import NotFound


@transaction.atomic
def month_statement(*, month: dt.date, now: dt.datetime) -> Statement:
    """Give the open tenant's statement of the month that holds the day ``month``.

    A final one as it is; otherwise the month as it stands at ``now``. Looking at a month that is over and in which
    nothing happened makes no statement of it: it would be closed and numbered with the others.

    Raises:
        Invalid: the month has not begun.
        NotFound: it is over, and nothing was held or used in it, or a later month was closed before it had one.
    """
    kept = Statement.objects.filter(month=month.replace(day=1)).first()
    if kept is not None and kept.state == Statement.State.FINAL:
        return kept
    statement = statement_draft(month=month, now=now)
    if kept is None and statement.period_end <= now and not statement.lines.exists():
        raise NotFound(f"There is no statement of {month:%Y-%m}: nothing was held or used in it.")
    return statement
