"""What can be done to webhooks: made, changed, tested, given another secret, removed; deliveries sent again."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import secrets
from collections.abc import Sequence
from typing import Final

from django.db import transaction
from django.utils import timezone

from tenants import scope
from tenants.errors import Conflict, Invalid
from tenants.models import OutboxState, Tenant, WebhookDelivery, WebhookEndpoint, new_id
from tenants.outside import Refused, resolve
from tenants.validation import clean
from tenants.webhooks.events import EVENT_TYPES, TEST
from tenants.webhooks.publishing import write
from tenants.webhooks.signing import secret_set, secret_supersede
from tenants.webhooks.wake import wake

MOST_WEBHOOKS: Final = 20
#: How long the old secret signs beside the new one.
BOTH_SIGN: Final = dt.timedelta(days=1)
_SECRET_BYTES: Final = 32


@transaction.atomic
def webhook_create(
    *, name: str, url: str, event_types: Sequence[str], active: bool = True
) -> tuple[WebhookEndpoint, str]:
    """Make a webhook of the open tenant; gives it with its secret, which is not shown again.

    Raises:
        Invalid: the name is taken, the address is refused, or an event is not known.
        Conflict: the tenant has as many webhooks as it may.
    """
    tenant = Tenant.objects.select_for_update(no_key=True).get(id=scope.current_tenant_id())
    if WebhookEndpoint.objects.count() >= MOST_WEBHOOKS:
        raise Conflict(f"A tenant has at most {MOST_WEBHOOKS} webhooks; remove one that is not used.")
    endpoint = WebhookEndpoint(
        tenant=tenant, name=name, url=url, event_types=_known(event_types), active=active
    )
    secret = _new_secret()
    secret_set(endpoint, secret)
    _check_url(url)
    clean(endpoint)
    endpoint.save()
    return endpoint, secret


@transaction.atomic
def webhook_change(
    *,
    endpoint: WebhookEndpoint,
    name: str | None = None,
    url: str | None = None,
    event_types: Sequence[str] | None = None,
    active: bool | None = None,
) -> WebhookEndpoint:
    """Change what is given. One that is made active again begins without its past failures.

    Raises:
        Invalid: the name is taken, the address is refused, or an event is not known.
    """
    wishes = {
        "name": name,
        "url": url,
        "event_types": None if event_types is None else _known(event_types),
        "active": active,
    }
    changed = [
        field for field, wish in wishes.items() if wish is not None and wish != getattr(endpoint, field)
    ]
    for field in changed:
        setattr(endpoint, field, wishes[field])
    if not changed:
        return endpoint
    if "url" in changed:
        _check_url(endpoint.url)
    if "active" in changed:
        endpoint.failing_since, endpoint.disabled_at, endpoint.disabled_reason = None, None, ""
        changed += ["failing_since", "disabled_at", "disabled_reason"]
    clean(endpoint)
    endpoint.save(update_fields=changed)
    if endpoint.active:
        transaction.on_commit(functools.partial(wake, endpoint.id))
    return endpoint


@transaction.atomic
def webhook_rotate(*, endpoint: WebhookEndpoint, now: dt.datetime | None = None) -> str:
    """Give a webhook another secret, which is shown once. The old one signs beside it for a day."""
    endpoint = WebhookEndpoint.objects.select_for_update().get(id=endpoint.id)
    secret = _new_secret()
    secret_supersede(endpoint, secret, until=(now or timezone.now()) + BOTH_SIGN)
    endpoint.save(update_fields=["secret", "previous_secret", "previous_until"])
    return secret


@transaction.atomic
def webhook_remove(*, endpoint: WebhookEndpoint) -> None:
    """Remove a webhook with its deliveries; what is not delivered yet is not."""
    endpoint.delete()


@transaction.atomic
def webhook_test(*, endpoint: WebhookEndpoint, now: dt.datetime | None = None) -> WebhookDelivery:
    """Send an event of the type ``webhook.test`` to a webhook.

    Raises:
        Conflict: it is not active.
    """
    if not endpoint.active:
        raise Conflict(f"{endpoint.name} is not active; activate it first.")
    data = {"webhook": endpoint.name, "message": "A test. Nothing happened."}
    (delivery,) = write([endpoint], TEST, data, event_id=new_id(), now=now or timezone.now())
    return delivery


@transaction.atomic
def delivery_redeliver(*, delivery: WebhookDelivery, now: dt.datetime | None = None) -> WebhookDelivery:
    """Send an event again, under its old id, so that a receiver that has it knows.

    Raises:
        Conflict: its webhook is not active.
    """
    now = now or timezone.now()
    delivery = (
        WebhookDelivery.objects.select_for_update(of=("self",)).select_related("endpoint").get(id=delivery.id)
    )
    if not delivery.endpoint.active:
        raise Conflict(f"{delivery.endpoint.name} is not active; activate it first.")
    delivery.state, delivery.attempts = OutboxState.PENDING, 0
    delivery.since = delivery.due_at = now
    delivery.save(update_fields=["state", "attempts", "since", "due_at"])
    transaction.on_commit(functools.partial(wake, delivery.endpoint_id))
    return delivery


def _new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def _known(event_types: Sequence[str]) -> list[str]:
    unknown = sorted(set(event_types) - EVENT_TYPES.keys())
    text = ""
    if unknown:
        text = f"{unknown[0]!r} is no event; there are {', '.join(EVENT_TYPES)}."
    elif not event_types:
        text = "Choose at least one event."
    if text:
        raise Invalid(text, errors={"event_types": [text]})
    return [each for each in EVENT_TYPES if each in event_types]


def _check_url(url: str) -> None:
    try:
        resolve(url)
    except Refused as error:
        raise Invalid(str(error), errors={"url": [str(error)]}) from error
