"""Secrets of webhooks at rest, and the headers by which a receiver knows who sends (Standard Webhooks 1.0)."""

from __future__ import annotations

import datetime as dt
import uuid

from standardwebhooks.webhooks import Webhook

from tenants.models import WebhookDelivery, WebhookEndpoint
from tenants.sealing import CannotOpen, SealedField, seal, unseal


def secret_set(endpoint: WebhookEndpoint, secret: str) -> None:
    """Seal a secret into its endpoint's row, which is not saved."""
    endpoint.secret = seal(secret.encode(), field=SealedField.of(endpoint, "secret"))


def secret_supersede(endpoint: WebhookEndpoint, secret: str, *, until: dt.datetime) -> None:
    """Put another secret into the row, which is not saved; the one before signs beside it until ``until``.

    One that cannot be opened any more is not kept.

    Raises:
        KeysAway: the sealing keys cannot be had now.
    """
    try:
        before = unseal(endpoint.secret, field=SealedField.of(endpoint, "secret"))
    except CannotOpen:
        endpoint.previous_secret, endpoint.previous_until = None, None
    else:
        endpoint.previous_secret = seal(before, field=SealedField.of(endpoint, "previous_secret"))
        endpoint.previous_until = until
    secret_set(endpoint, secret)


def message_id(event_id: uuid.UUID) -> str:
    """Give what the header ``webhook-id`` says of an event, the same over all attempts."""
    return f"msg_{event_id.hex}"


def signed_headers(
    endpoint: WebhookEndpoint, delivery: WebhookDelivery, *, now: dt.datetime
) -> dict[str, str]:
    """Give the headers of one attempt; for a day after a rotation both secrets sign.

    Raises:
        CannotOpen: the secret cannot be opened any more.
        KeysAway: it cannot be opened now.
    """
    fields = ["secret"]
    if endpoint.previous_secret and endpoint.previous_until and now < endpoint.previous_until:
        fields.append("previous_secret")
    name, at = message_id(delivery.event_id), now.astimezone(dt.UTC)
    signatures = [
        Webhook(unseal(getattr(endpoint, field), field=SealedField.of(endpoint, field)).decode()).sign(
            name, at, delivery.body
        )
        for field in fields
    ]
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "user-agent": "Berth-Webhooks/1",
    }
