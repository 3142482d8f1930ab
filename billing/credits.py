"""Credits: money granted to a tenant, which its statements use up."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from billing.ledger import credit_posted
from billing.models import Credit, Statement, StatementLine
from billing.rating.periods import month_containing
from billing.rating.rounding import places_of
from tenants import scope
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.validation import clean

MOST: Final = Decimal(10) ** 12


class CreditState(enum.StrEnum):
    """Where a credit stands."""

    COMING = "coming"
    AVAILABLE = "available"
    USED = "used"
    EXPIRED = "expired"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CreditBalance:
    """A credit and what final statements used of it. Drafts use it for show and bind nothing."""

    credit: Credit
    used: Decimal
    state: CreditState

    @property
    def left(self) -> Decimal:
        """What is not used yet; 0 where it has expired."""
        return Decimal(0) if self.state == CreditState.EXPIRED else self.credit.amount - self.used


@transaction.atomic
def credit_grant(
    *,
    tenant: Tenant,
    amount: Decimal,
    reason: str,
    currency: str = "",
    available_from: dt.datetime | None = None,
    expires_at: dt.datetime | None = None,
    now: dt.datetime | None = None,
) -> Credit:
    """Grant ``tenant`` money that statements take off from the month of ``available_from`` (default: now) on.

    It is posted to the tenant's ledger and never edited. It may be available from the tenant's running month on, whose
    statement is still open.

    Raises:
        Invalid: a value is out of range, or the currency is not the tenant's.
    """
    now = now or timezone.now()
    credit = Credit(
        tenant=tenant,
        amount=amount,
        currency=currency or tenant.currency,
        reason=reason.strip(),
        available_from=available_from or now,
        expires_at=expires_at,
    )
    errors = _complaints(credit, tenant, now)
    if errors:
        raise Invalid(next(iter(errors.values())), errors={field: [text] for field, text in errors.items()})
    with scope.tenant(tenant.id):
        clean(credit)
        credit.save(force_insert=True)
        credit_posted(credit=credit)
    return credit


def credit_balances(credits: Iterable[Credit], *, now: dt.datetime) -> list[CreditBalance]:
    """Give the balance of each of ``credits``, in their order; one query."""
    credits = list(credits)
    lines = StatementLine.objects.filter(
        credit_id__in=[credit.id for credit in credits], statement__state=Statement.State.FINAL
    )
    used = dict(lines.order_by().values_list("credit_id").annotate(Sum("amount")))
    return [_balance(credit, -used.get(credit.id, Decimal(0)), now) for credit in credits]


def _balance(credit: Credit, used: Decimal, now: dt.datetime) -> CreditBalance:
    if used >= credit.amount:
        state = CreditState.USED
    elif credit.expires_at and credit.expires_at <= now:
        state = CreditState.EXPIRED
    elif credit.available_from > now:
        state = CreditState.COMING
    else:
        state = CreditState.AVAILABLE
    return CreditBalance(credit=credit, used=used, state=state)


def _complaints(credit: Credit, tenant: Tenant, now: dt.datetime) -> dict[str, str]:
    errors: dict[str, str] = {}
    if credit.currency != tenant.currency:
        errors["currency"] = f"{tenant.name} is charged in {tenant.currency}."
    elif not credit.amount.is_finite() or not 0 < credit.amount < MOST:
        errors["amount"] = "The amount must be more than 0."
    elif round(credit.amount, places_of(credit.currency)) != credit.amount:
        errors["amount"] = f"{credit.currency} has {places_of(credit.currency)} decimal places."
    times = (credit.available_from, credit.expires_at or now)
    if any(moment.tzinfo is None for moment in times):
        errors["available_from"] = "The times need a time zone."
        return errors
    opened = month_containing(now, tenant.time_zone).start
    if credit.available_from < opened:
        errors["available_from"] = (
            f"A credit may be available in the running month, from {opened:%Y-%m-%d %H:%M} UTC on: "
            "what was before is charged already."
        )
    if credit.expires_at and credit.expires_at <= max(credit.available_from, now):
        errors["expires_at"] = "It must expire after it is available, and later than now."
    return errors
