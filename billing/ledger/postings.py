"""Posting: balanced transactions, each once for its reference."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from django.db import transaction
from django.db.models import Sum

from billing.errors import Unbalanced
from billing.models import Credit, LedgerAccount, LedgerEntry, LedgerTransaction
from tenants import scope
from tenants.models.base import new_id

Kind = LedgerAccount.Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Posting:
    """What is to be posted at once: signed amounts by account, a debit positive. ``reference`` is its identity."""

    tenant_id: uuid.UUID
    reference: str
    currency: str
    amounts: Mapping[str, Decimal]
    posted_at: dt.datetime
    statement_id: uuid.UUID | None = None
    note: str = ""


@transaction.atomic
def post(
    *,
    reference: str,
    currency: str,
    amounts: Mapping[str, Decimal],
    posted_at: dt.datetime,
    note: str = "",
) -> LedgerTransaction | None:
    """Post to the open tenant's accounts and give the transaction, that of the first time where it is posted again.

    Accounts are made when they are first needed. Amounts of 0 are left out; nothing but them is nothing to post.

    Raises:
        Unbalanced: the amounts do not sum to zero.
    """
    posting = Posting(
        tenant_id=scope.current_tenant_id(),
        reference=reference,
        currency=currency,
        amounts=amounts,
        posted_at=posted_at,
        note=note,
    )
    post_all([posting])
    return LedgerTransaction.objects.filter(reference=reference).first()


@transaction.atomic
def post_all(postings: Sequence[Posting]) -> int:
    """Post for many tenants in a few statements of SQL and give how many were new. For the platform's scope.

    Raises:
        Unbalanced: the amounts of one do not sum to zero.
    """
    wanted = []
    for posting in postings:
        amounts = {kind: amount for kind, amount in posting.amounts.items() if amount}
        if sum(amounts.values(), Decimal(0)):
            raise Unbalanced(f"{posting.reference} does not sum to zero: {amounts}.")
        if amounts:
            wanted.append(dataclasses.replace(posting, amounts=amounts))
    known = set(
        LedgerTransaction.objects.filter(
            tenant__in={each.tenant_id for each in wanted}, reference__in={each.reference for each in wanted}
        ).values_list("tenant_id", "reference")
    )
    wanted = [each for each in wanted if (each.tenant_id, each.reference) not in known]
    accounts = _accounts(wanted)
    transactions = [
        LedgerTransaction(
            id=new_id(),
            tenant_id=each.tenant_id,
            reference=each.reference,
            statement_id=each.statement_id,
            posted_at=each.posted_at,
            note=each.note,
        )
        for each in wanted
    ]
    LedgerTransaction.objects.bulk_create(transactions, batch_size=1_000)
    LedgerEntry.objects.bulk_create(
        [
            LedgerEntry(
                tenant_id=each.tenant_id,
                transaction_id=row.id,
                account_id=accounts[each.tenant_id, kind, each.currency],
                amount=amount,
            )
            for each, row in zip(wanted, transactions, strict=True)
            for kind, amount in sorted(each.amounts.items())
        ],
        batch_size=2_000,
    )
    return len(wanted)


def credit_posted(*, credit: Credit, posted_at: dt.datetime | None = None) -> LedgerTransaction | None:
    """Post that a credit of the open tenant was granted: a cost of ours, and a balance in its favour."""
    return post(
        reference=f"credit:{credit.id}",
        currency=credit.currency,
        amounts={Kind.GRANTED_CREDITS: credit.amount, Kind.CREDIT_BALANCE: -credit.amount},
        posted_at=posted_at or credit.created_at,
        note=credit.reason[:200],
    )


def balances(*, currency: str) -> dict[str, Decimal]:
    """Give the open tenant's balance of each account in a currency; a debit is positive."""
    rows = LedgerEntry.objects.filter(account__currency=currency).order_by().values("account__kind")
    return {row["account__kind"]: row["balance"] for row in rows.annotate(balance=Sum("amount"))}


def _accounts(postings: Iterable[Posting]) -> dict[tuple[uuid.UUID, str, str], uuid.UUID]:
    needed = Counter(
        (posting.tenant_id, str(kind), posting.currency) for posting in postings for kind in posting.amounts
    )
    tenants = {tenant_id for tenant_id, _, _ in needed}

    def found() -> dict[tuple[uuid.UUID, str, str], uuid.UUID]:
        rows = LedgerAccount.objects.filter(tenant__in=tenants).order_by()
        return {(row.tenant_id, row.kind, row.currency): row.id for row in rows}

    accounts = found() if needed else {}
    missing = sorted(key for key in needed if key not in accounts)
    if missing:
        LedgerAccount.objects.bulk_create(
            [LedgerAccount(tenant_id=key[0], kind=key[1], currency=key[2]) for key in missing],
            ignore_conflicts=True,
            batch_size=1_000,
        )
        accounts = found()
    return accounts
