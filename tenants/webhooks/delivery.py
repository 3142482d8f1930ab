"""Delivering what is due: to one webhook at a time, outside every transaction, with what became of it written after."""

from __future__ import annotations

import datetime as dt
import logging
import time
import uuid
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from tenants import outside, scope
from tenants.locks import claimed
from tenants.models import OutboxState, Tenant, WebhookDelivery, WebhookEndpoint
from tenants.sealing import CannotOpen, KeysAway
from tenants.webhooks.attempts import LEASE, next_attempt
from tenants.webhooks.mailing import mail
from tenants.webhooks.signing import signed_headers

log = logging.getLogger(__name__)

#: One task sends so many to one webhook, or as many as it begins in so long; the sweeper wakes the next. A receiver
#: that answers slowly then holds a worker no longer than that and one attempt.
MOST_AT_ONCE: Final = 20
LONGEST_S: Final = 30.0
_MOST_LOG: Final = 20
_GONE: Final = 410


def webhook_deliver(*, endpoint_id: uuid.UUID | str, now: dt.datetime | None = None) -> int:
    """Send what is due for one webhook; gives how many were taken. Nothing where somebody else is at it.

    Each is put off before it is sent: one whose sender dies comes again, under the same id.
    """
    taken, began = 0, time.monotonic()
    with claimed(f"webhook:{endpoint_id}") as mine:
        while mine and taken < MOST_AT_ONCE and time.monotonic() - began < LONGEST_S:
            moment = now or timezone.now()
            delivery = _take(endpoint_id, moment)
            if delivery is None:
                break
            _note(delivery, _attempt(delivery, moment), now or timezone.now())
            taken += 1
    return taken


def _take(endpoint_id: uuid.UUID | str, now: dt.datetime) -> WebhookDelivery | None:
    with scope.platform("take a webhook delivery that is due"):
        due = WebhookDelivery.objects.due(now).filter(endpoint=endpoint_id, endpoint__active=True)
        delivery = due.select_related("endpoint").first()
        if delivery is not None:
            WebhookDelivery.objects.filter(id=delivery.id).update(due_at=now + LEASE)
    return delivery


def _attempt(delivery: WebhookDelivery, now: dt.datetime) -> dict[str, Any]:
    entry: dict[str, Any] = {"at": now.isoformat(), "status": None, "took_ms": 0, "note": "", "after": 0}
    try:
        headers = signed_headers(delivery.endpoint, delivery, now=now)
        target = outside.resolve(delivery.endpoint.url)
        answer = outside.post(target, delivery.body.encode(), headers)
    except (outside.Refused, outside.NoAnswer, KeysAway) as error:
        return entry | {"note": str(error)}
    except CannotOpen:
        return entry | {"note": "The secret cannot be opened any more; rotate it."}
    note = answer.text
    if 300 <= answer.status < 400:
        note = f"Redirects are not followed. {note}".strip()
    return entry | {
        "status": answer.status,
        "took_ms": answer.took_ms,
        "note": note,
        "after": answer.retry_after,
    }


def _note(taken: WebhookDelivery, entry: dict[str, Any], now: dt.datetime) -> None:
    after, status = entry.pop("after"), entry["status"]
    delivered = status is not None and 200 <= status < 300
    with scope.platform("note what became of a webhook delivery"):
        endpoint = WebhookEndpoint.objects.select_for_update().filter(id=taken.endpoint_id).first()
        delivery = WebhookDelivery.objects.select_for_update().filter(id=taken.id).first()
        if endpoint is None or delivery is None:
            return  # removed meanwhile
        delivery.attempts += 1
        delivery.log = [*delivery.log, entry][-_MOST_LOG:]
        again = next_attempt(
            delivery.attempts, since=delivery.since, now=now, at_least=dt.timedelta(seconds=after)
        )
        if delivered:
            delivery.state, delivery.sent_at = OutboxState.SENT, now
        elif again is not None:
            delivery.due_at = again
        else:
            delivery.state = OutboxState.GIVEN_UP
        delivery.save(update_fields=["attempts", "log", "state", "sent_at", "due_at"])
        _judge(endpoint, status, delivered, now)


def _judge(endpoint: WebhookEndpoint, status: int | None, delivered: bool, now: dt.datetime) -> None:
    """Note whether a webhook fails, and disable one that is gone or has failed for days."""
    if delivered:
        if endpoint.failing_since is not None:
            endpoint.failing_since = None
            endpoint.save(update_fields=["failing_since"])
        return
    if endpoint.failing_since is None:
        endpoint.failing_since = now
    days = settings.WEBHOOK_DISABLE_AFTER_DAYS
    reason = ""
    if status == _GONE:
        reason = "It answered 410 Gone."
    elif now - endpoint.failing_since >= dt.timedelta(days=days):
        reason = f"It took nothing for {days} days."
    if reason and endpoint.active:
        endpoint.active, endpoint.disabled_at, endpoint.disabled_reason = False, now, reason
        _tell_disabled(endpoint, now)
    endpoint.save(update_fields=["failing_since", "active", "disabled_at", "disabled_reason"])


def _tell_disabled(endpoint: WebhookEndpoint, now: dt.datetime) -> None:
    tenant = Tenant.objects.get(id=endpoint.tenant_id)
    log.warning("webhook %s of tenant %s is disabled: %s", endpoint.id, tenant.slug, endpoint.disabled_reason)
    mail(
        tenant_id=tenant.id,
        event_type="webhook.disabled",
        subject=f"[{tenant.name}] The webhook {endpoint.name} is disabled",
        text=(
            f"Nothing is sent to {endpoint.url} any more. {endpoint.disabled_reason}\n\n"
            "Mend it, then activate it under Settings > Webhooks. What still waits is sent then; what was given up can "
            "be sent again there.\n"
        ),
        now=now,
    )
