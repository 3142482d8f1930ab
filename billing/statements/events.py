"""What tenants' own systems are told: a statement is final, an account is parked."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Sequence
from typing import Final

from billing.models import BillingAccount
from billing.statements.storage import Sealed
from tenants import webhooks
from tenants.models import WebhookEndpoint

FINAL: Final = "statement.finalized"
PARKED: Final = "account.parked"


def tell_final(final: Sequence[Sealed], now: dt.datetime) -> None:
    """Tell of closed statements those tenants that want to hear of them. For the platform's scope."""
    wanted = _listening(FINAL, [each.heading.tenant_id for each in final])
    for each in final:
        heading = each.heading
        if heading.tenant_id in wanted and each.draft.statement_id:
            data = {
                "statement_id": each.draft.statement_id,
                "number": heading.number,
                "month": f"{heading.month:%Y-%m}",
                "currency": heading.currency,
                "charges": heading.charges,
                "credits": heading.credits,
                "total": heading.total,
                "document_sha256": each.document_sha256,
            }
            webhooks.publish(
                FINAL, data, tenant_id=heading.tenant_id, event_id=each.draft.statement_id, now=now
            )


def tell_parked(accounts: Sequence[BillingAccount], now: dt.datetime) -> None:
    """Tell tenants that their accounts were parked, and why. For the platform's scope."""
    wanted = _listening(PARKED, [account.tenant_id for account in accounts])
    for account in accounts:
        if account.tenant_id in wanted:
            data = {"reason": account.reason, "parked_at": account.parked_at}
            webhooks.publish(PARKED, data, tenant_id=account.tenant_id, now=now)


def _listening(event_type: str, tenant_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    found = WebhookEndpoint.objects.filter(
        tenant__in=tenant_ids, active=True, event_types__contains=[event_type]
    )
    return set(found.order_by().values_list("tenant_id", flat=True))
