"""Which months are due: those that run, and those that are over and still open."""

from __future__ import annotations

import datetime as dt

from django.db.models import Q

from billing.statements.cases import State, kept_statements
from billing.statements.run import Run, statement_run
from tenants import scope


def close_due_months(*, now: dt.datetime, computed_before: dt.datetime | None = None) -> Run:
    """Run every month that is over and not closed everywhere, the earliest first, and close what is due."""
    with scope.platform("find the months that are open"):
        months = {each.month for each in kept_statements(~Q(state=State.FINAL) & Q(period_end__lte=now))}
    # In the earliest zones a month is over 14 hours before it is in UTC.
    for moment in (now, now + dt.timedelta(hours=14)):
        months.add((moment.date().replace(day=1) - dt.timedelta(days=1)).replace(day=1))
    done = Run()
    for month in sorted(months):
        done.add(statement_run(month=month, now=now, close=True, computed_before=computed_before))
    return done


def draft_running_months(*, now: dt.datetime) -> Run:
    """Compute the drafts of the months that run somewhere on Earth."""
    months = {(now + dt.timedelta(hours=offset)).date().replace(day=1) for offset in (-12, 14)}
    done = Run()
    for month in sorted(months):
        done.add(statement_run(month=month, now=now))
    return done
