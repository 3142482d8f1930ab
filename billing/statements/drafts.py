"""One tenant's statement: its draft, computed when it is asked for, and its close."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.db import transaction

from billing.errors import NotClosable, StatementIsFinal
from billing.models import BillingAccount, Statement
from billing.rating.periods import month_of
from billing.statements.cases import cases
from billing.statements.run import compute_chunk, statement_run
from billing.statements.shared import Shares
from tenants import scope
from tenants.errors import Invalid, NotFound
from tenants.models import Tenant


@transaction.atomic
def statement_draft(*, month: dt.date, now: dt.datetime) -> Statement:
    """Recompute the open tenant's statement for the month of its own zone that holds the day ``month``.

    What is still held is counted until ``now``. Lines are written only if they differ from those that are there. A
    month in which nothing happened gives an empty statement.

    Raises:
        Invalid: the month has not begun.
        StatementIsFinal: it is closed.
        NotFound: it has no statement, and a later month is closed.
    """
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    period = month_of(month.year, month.month, tenant.time_zone)
    first = dt.date(period.year, period.month, 1)
    with scope.platform(f"compute the statement of tenant {tenant.slug}"):
        found = cases(month=first, now=now, tenant_ids=[tenant.id])
        if found:
            # Whoever comes second waits here for the first and then finds its lines.
            Statement.objects.bulk_create(
                [
                    Statement(
                        tenant=tenant, month=first, currency=found[0].currency, total=0, computed_at=now,
                        period_start=found[0].window.start, period_end=found[0].window.end,
                    )
                ],
                ignore_conflicts=True,
            )  # fmt: skip
            found = cases(month=first, now=now, tenant_ids=[tenant.id])
            # Earlier months have statements of their own: runs make them.
            compute_chunk(found, Shares(now), now=now, close=False, look_back=False)
    statement = Statement.objects.filter(month=first).first()
    if statement and statement.state == Statement.State.FINAL:
        raise StatementIsFinal(f"The statement of {period} is final; later usage goes into the next one.")
    if statement is None and period.end <= now:
        raise NotFound(
            f"There is no statement of {period}, and a later month is closed: what happened in it is corrected there."
        )
    if statement is None:
        raise Invalid(
            f"The month {period} has not begun.", errors={"month": ["Choose a month that has begun."]}
        )
    return statement


def statement_close(*, month: dt.date, now: dt.datetime) -> Statement:
    """Close the open tenant's statement of the month that holds the day ``month``, and give it.

    Raises:
        Invalid: the month has not begun.
        StatementIsFinal: it is closed already.
        NotFound: it has no statement, and a later month is closed.
        NotClosable: its grace is not over, an earlier month is open, usage is not counted yet, or the account is
            parked.
    """
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    statement = statement_draft(month=month, now=now)
    run = statement_run(month=statement.month, now=now, close=True, tenant_ids=[tenant.id])
    statement = Statement.objects.get(id=statement.id)
    if not run.closed:
        raise NotClosable(_why_open(statement, tenant, now))
    return statement


def _why_open(statement: Statement, tenant: Tenant, now: dt.datetime) -> str:
    account = BillingAccount.objects.filter(state=BillingAccount.State.PARKED).first()
    if account:
        return f"The account of {tenant.name} is parked: {account.reason}."
    over = statement.period_end + dt.timedelta(days=settings.STATEMENT_GRACE_DAYS)
    if now < over:
        return f"The statement stays open until {over:%Y-%m-%d %H:%M} UTC, for usage that comes late."
    earlier = Statement.objects.filter(month__lt=statement.month).exclude(state=Statement.State.FINAL)
    if first := earlier.order_by("month").first():
        return f"The statement of {first.month:%Y-%m} is open; months are closed in their order."
    return "Usage of the month is stored that is not counted yet; try again when the rollups have caught up."
