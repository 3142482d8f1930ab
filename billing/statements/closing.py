"""Closing statements: what must hold, the number, the seal and the posting, all in the transaction that is open."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec
from django.db import connection
from django.db.models import Sum

from billing.ledger import Posting, ledger_check, post_all
from billing.models import BillingAccount, Credit, LateChange, LedgerAccount, RollupMark, StatementLine
from billing.statements.accounts import accounts_park, reason_of
from billing.statements.document import document, sha256
from billing.statements.events import tell_final, tell_parked
from billing.statements.inputs import sealed
from billing.statements.lines import Kind, Line
from billing.statements.storage import Draft, Sealed, numbers, write_finals

Account = LedgerAccount.Kind

#: Which account a charged line of a kind is posted to.
ACCOUNTS: Final = {
    Kind.GPU_TIME: Account.GPU_TIME,
    Kind.IDLE_GPU_TIME: Account.IDLE_GPU_TIME,
    Kind.TOKENS: Account.TOKENS,
    Kind.COMMITMENT: Account.COMMITMENTS,
    Kind.SLO_CREDIT: Account.SLO_CREDITS,
    Kind.CREDIT: Account.CREDIT_BALANCE,
}

_Taken = Mapping[uuid.UUID, Sequence[tuple[dt.datetime, dt.datetime]]]

# A window that ends with the month still belongs to it. Only days before the end are looked at; each knows its
# transactions by an index.
_UNCOUNTED = """
SELECT EXISTS (
    SELECT 1 FROM billing_usagesegment
    WHERE xact >= %(mark)s AND day <= %(last)s AND window_end <= %(end)s
)
"""


def caught_up(end: dt.datetime) -> bool:
    """Say whether every segment that is stored of the time before ``end`` is counted in the rollups.

    The mark of the rollups says up to which transaction segments are counted: none of a later one may lie before it.
    """
    mark = RollupMark.objects.filter(name="usage").values_list("xact", flat=True).first() or 0
    with connection.cursor() as cursor:
        cursor.execute(_UNCOUNTED, {"mark": mark, "last": end.astimezone(dt.UTC).date(), "end": end})
        return not cursor.fetchone()[0]


def take_marks(
    tenant_ids: Collection[uuid.UUID],
) -> dict[uuid.UUID, list[tuple[dt.datetime, dt.datetime]]]:
    """Take the notes of late changes of some tenants away and give them."""
    found: defaultdict[uuid.UUID, list[tuple[dt.datetime, dt.datetime]]] = defaultdict(list)
    if tenant_ids:
        with connection.cursor() as cursor:
            cursor.execute(
                "DELETE FROM billing_latechange WHERE tenant_id = ANY(%s) RETURNING tenant_id, since, until",
                [list(tenant_ids)],
            )
            for tenant_id, since, until in sorted(cursor.fetchall()):
                found[tenant_id].append((since, until))
    return found


def close(
    drafts: Sequence[Draft], accounts: Mapping[uuid.UUID, BillingAccount], taken: _Taken, *, now: dt.datetime
) -> tuple[int, int]:
    """Close statements whose grace is over, and give how many were closed and how many accounts were parked instead."""
    if not drafts:
        return 0, 0
    reasons = _reasons(drafts, accounts)
    if reasons:
        tell_parked(accounts_park(reasons=reasons, now=now), now)
        LateChange.objects.bulk_create(
            [
                LateChange(tenant_id=tenant_id, since=since, until=until)
                for tenant_id in reasons
                for since, until in taken.get(tenant_id, ())
            ],
            ignore_conflicts=True,
        )
    ready = [draft for draft in drafts if draft.heading.tenant_id not in reasons]
    if not ready:
        return 0, len(reasons)
    sealed_inputs = [sealed(draft.computed.inputs) for draft in ready]
    final = [
        _sealed(draft, inputs, digest, number, now)
        for draft, (inputs, digest), number in zip(
            ready, sealed_inputs, numbers(ready[0].heading.month, len(ready)), strict=True
        )
    ]
    write_finals(final)
    post_all([_posting(each, now) for each in final])
    tell_final(final, now)
    _post_expired([each.draft for each in final], now)
    _forget_acceptance(ready, accounts)
    return len(ready), len(reasons)


def postings_of(lines: Sequence[Line]) -> dict[str, Decimal]:
    """Give what lines come to by account: the receivable is a debit, what earns it the credits."""
    amounts: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        if line.charged:
            amounts[ACCOUNTS[Kind(line.kind)].value] -= line.amount
            amounts[Account.RECEIVABLE.value] += line.amount
    return {kind: amount for kind, amount in sorted(amounts.items()) if amount}


def _reasons(drafts: Sequence[Draft], accounts: Mapping[uuid.UUID, BillingAccount]) -> dict[uuid.UUID, str]:
    problems = {draft.heading.tenant_id: list(draft.computed.problems) for draft in drafts}
    for finding in ledger_check(tenant_ids=list(problems), quick=True):
        problems[finding.tenant_id].append(f"{finding.text}: manage.py ledger_check says where")
    reasons = {}
    for tenant_id, found in problems.items():
        account = accounts.get(tenant_id)
        reason = reason_of(found)
        if found and not (account and account.accepted == reason):
            reasons[tenant_id] = reason
    return reasons


def _sealed(draft: Draft, inputs: bytes, digest: str, number: str, now: dt.datetime) -> Sealed:
    heading = msgspec.structs.replace(draft.heading, number=number, finalized_at=now, inputs_sha256=digest)
    return Sealed(
        draft=draft,
        heading=heading,
        inputs=inputs,
        document_sha256=sha256(document(heading, draft.computed.composed.lines)),
    )


def _posting(final: Sealed, now: dt.datetime) -> Posting:
    heading = final.heading
    return Posting(
        tenant_id=heading.tenant_id,
        reference=f"statement:{heading.number}",
        currency=heading.currency,
        amounts=postings_of(final.draft.computed.composed.lines),
        posted_at=now,
        statement_id=final.draft.statement_id,
        note=f"Statement of {heading.month:%Y-%m}",
    )


def _post_expired(drafts: Sequence[Draft], now: dt.datetime) -> None:
    """Post what is left of credits that no later statement may use, those also of months without a statement."""
    credits = list(
        Credit.objects.filter(
            tenant__in=[draft.heading.tenant_id for draft in drafts],
            expires_at__lte=drafts[0].heading.period_end,
        )
    )
    if not credits:
        return
    lines = StatementLine.objects.filter(kind=Kind.CREDIT, credit_id__in=[credit.id for credit in credits])
    used = dict(lines.order_by().values_list("credit_id").annotate(Sum("amount")))
    post_all(
        [
            Posting(
                tenant_id=credit.tenant_id,
                reference=f"credit-expired:{credit.id}",
                currency=credit.currency,
                amounts={Account.CREDIT_BALANCE.value: left, Account.EXPIRED_CREDITS.value: -left},
                posted_at=now,
                note=credit.reason[:200],
            )
            for credit in credits
            if (left := credit.amount + used.get(credit.id, Decimal(0)))
        ]
    )


def _forget_acceptance(drafts: Sequence[Draft], accounts: Mapping[uuid.UUID, BillingAccount]) -> None:
    accepted = [
        account.id
        for draft in drafts
        if (account := accounts.get(draft.heading.tenant_id)) is not None and account.accepted
    ]
    BillingAccount.objects.filter(id__in=accepted).update(accepted="")
