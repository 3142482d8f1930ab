"""The statement of a month, whatever its state."""

from __future__ import annotations

import datetime as dt

from billing.models import Statement
from billing.statements import statement_draft


def month_statement(*, month: dt.date, now: dt.datetime) -> Statement:
    """Give the open tenant's statement of the month that holds the day ``month``.

    A final one as it is; otherwise the month as it stands at ``now``.

    Raises:
        Invalid: the month has not begun.
    """
    final = Statement.objects.filter(month=month.replace(day=1), state=Statement.State.FINAL).first()
    return final or statement_draft(month=month, now=now)
