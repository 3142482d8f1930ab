"""Parked accounts: a tenant whose numbers do not add up is billed nothing until an operator has looked."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Mapping, Sequence

from django.db import transaction
from django.utils import timezone

from billing.errors import NotParked
from billing.models import BillingAccount, Statement
from tenants import scope
from tenants.models import Tenant

LONGEST = 500


def reason_of(problems: Sequence[str]) -> str:
    """Give the problems as one text that an account can hold."""
    text = "; ".join(problems)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def accounts_of(tenant_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, BillingAccount]:
    """Give the accounts of those tenants that have one; who has none is active. For the platform's scope."""
    return {account.tenant_id: account for account in BillingAccount.objects.filter(tenant__in=tenant_ids)}


@transaction.atomic
def accounts_park(*, reasons: Mapping[uuid.UUID, str], now: dt.datetime) -> list[BillingAccount]:
    """Park the accounts of tenants, each for its reason, and give those that were active until now.

    For the platform's scope. One that is parked already stays parked for the reason that it was parked for.
    """
    accounts = accounts_of(reasons)
    parked = []
    for tenant_id, reason in reasons.items():
        account = accounts.get(tenant_id) or BillingAccount(tenant_id=tenant_id)
        if account.state != BillingAccount.State.PARKED:
            account.state, account.reason, account.parked_at = BillingAccount.State.PARKED, reason, now
            parked.append(account)
    BillingAccount.objects.bulk_create(
        parked,
        update_conflicts=True,
        unique_fields=["tenant"],
        update_fields=["state", "reason", "parked_at"],
        batch_size=1_000,
    )
    return parked


@transaction.atomic
def account_unpark(*, tenant: Tenant, now: dt.datetime | None = None) -> BillingAccount:
    """Let a parked account be billed again: its reason is accepted, and the same one parks it no more.

    A statement whose month is open goes over to the currency that the tenant is charged in now.

    Raises:
        NotParked: it is not parked.
    """
    with scope.platform(f"unpark the account of tenant {tenant.slug}"):
        account = BillingAccount.objects.select_for_update().filter(tenant=tenant).first()
        if account is None or account.state != BillingAccount.State.PARKED:
            raise NotParked(f"The account of {tenant.name} is not parked.")
        account.accepted = account.reason
        account.state, account.reason, account.parked_at = BillingAccount.State.ACTIVE, "", None
        account.save(update_fields=["accepted", "state", "reason", "parked_at"])
        Statement.objects.filter(tenant=tenant, state=Statement.State.DRAFT).exclude(
            currency=tenant.currency
        ).update(currency=tenant.currency, computed_at=now or timezone.now())
    return account


@transaction.atomic
def account_park(*, tenant: Tenant, reason: str, now: dt.datetime | None = None) -> BillingAccount:
    """Park one account by hand, for instance while an invoice is disputed."""
    with scope.platform(f"park the account of tenant {tenant.slug}"):
        accounts_park(reasons={tenant.id: reason[:LONGEST]}, now=now or timezone.now())
        return BillingAccount.objects.get(tenant=tenant)
