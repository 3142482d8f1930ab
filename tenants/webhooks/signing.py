"""Secrets of webhooks at rest, and the headers by which a receiver knows who sends (Standard Webhooks 1.0)."""

from __future__ import annotations

import datetime as dt
import uuid

from standardwebhooks.webhooks import Webhook

from tenants.models import WebhookDelivery, WebhookEndpoint
from tenants.sealing import seal, unseal


def seal_secret(endpoint: WebhookEndpoint, secret: str) -> bytes:
    """Seal a secret for its endpoint's row."""
    return seal(secret.encode(), bound_to=_field(endpoint))


def message_id(event_id: uuid.UUID) -> str:
    """Give what the header ``webhook-id`` says of an event, the same over all attempts."""
    return f"msg_{event_id.hex}"


def signed_headers(
    endpoint: WebhookEndpoint, delivery: WebhookDelivery, *, now: dt.datetime
) -> dict[str, str]:
    """Give the headers of one attempt; for a day after a rotation both secrets sign.

    Raises:
        InvalidTag, KeyError: the secret cannot be opened any more.
    """
    sealed = [endpoint.secret]
    if endpoint.previous_secret and endpoint.previous_until and now < endpoint.previous_until:
        sealed.append(endpoint.previous_secret)
    name, at = message_id(delivery.event_id), now.astimezone(dt.UTC)
    signatures = [
        Webhook(unseal(bytes(each), bound_to=_field(endpoint)).decode()).sign(name, at, delivery.body)
        for each in sealed
    ]
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "user-agent": "Berth-Webhooks/1",
    }


def _field(endpoint: WebhookEndpoint) -> str:
    return f"{endpoint.tenant_id}:tenants_webhookendpoint:{endpoint.id}:secret"
