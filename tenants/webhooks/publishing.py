"""Publishing an event: a row in the outbox for each webhook that wants it, in the transaction of the fact."""

from __future__ import annotations

import datetime as dt
import functools
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.utils import timezone

from tenants.models import WebhookDelivery, WebhookEndpoint, new_id
from tenants.webhooks.events import EVENT_TYPES
from tenants.webhooks.wake import wake


def publish(
    event_type: str,
    data: Mapping[str, Any],
    *,
    tenant_id: uuid.UUID,
    event_id: uuid.UUID | None = None,
    now: dt.datetime | None = None,
) -> uuid.UUID:
    """Tell a tenant's webhooks of an event, once the open transaction has committed. Gives the event's id.

    Call it in the scope of the tenant or of the platform, within the transaction that makes the fact. ``data`` may hold
    decimals, times and UUIDs; they are told as text. ``event_id`` is given where the fact has an id by which telling
    it again is told apart from telling another one.

    Raises:
        ValueError: no such type of event.
    """
    if event_type not in EVENT_TYPES:
        raise ValueError(f"{event_type!r} is none of the events {', '.join(EVENT_TYPES)}")
    now, event_id = now or timezone.now(), event_id or new_id()
    endpoints = WebhookEndpoint.objects.filter(
        tenant_id=tenant_id, active=True, event_types__contains=[event_type]
    )
    write(endpoints, event_type, data, event_id=event_id, now=now)
    return event_id


def write(
    endpoints: Iterable[WebhookEndpoint],
    event_type: str,
    data: Mapping[str, Any],
    *,
    event_id: uuid.UUID,
    now: dt.datetime,
) -> list[WebhookDelivery]:
    """Write one event into the outbox of ``endpoints``; what was written for one already stays as it is."""
    document = {"type": event_type, "timestamp": now.astimezone(dt.UTC), "data": dict(data)}
    body = json.dumps(document, cls=DjangoJSONEncoder, separators=(",", ":"), ensure_ascii=False)
    made = [
        WebhookDelivery(
            tenant_id=endpoint.tenant_id,
            endpoint=endpoint,
            event_id=event_id,
            event_type=event_type,
            body=body,
            since=now,
            due_at=now,
        )
        for endpoint in endpoints
    ]
    WebhookDelivery.objects.bulk_create(made, ignore_conflicts=True)
    for delivery in made:
        transaction.on_commit(functools.partial(wake, delivery.endpoint_id))
    return made
