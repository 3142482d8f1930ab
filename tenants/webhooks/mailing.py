"""E-mail by the outbox: written in the transaction of the fact, sent by Django's mail backend, retried for days."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterable
from typing import Final

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.utils import timezone

from tenants import scope
from tenants.models import Mail, Membership, OutboxState, Role, new_id
from tenants.sealing import CannotOpen, KeysAway, SealedField, seal, unseal
from tenants.webhooks.attempts import LEASE, next_attempt
from tenants.webhooks.links import with_links
from tenants.webhooks.wake import wake_mail

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 50
#: Who is written to where nobody is named.
CARING_ROLES: Final = (Role.OWNER, Role.ADMIN, Role.BILLING)


def mail(
    *,
    tenant_id: uuid.UUID,
    event_type: str,
    subject: str,
    text: str,
    recipients: Iterable[str] = (),
    event_id: uuid.UUID | None = None,
    secret: bool = False,
    now: dt.datetime | None = None,
) -> int:
    """Write an e-mail to ``recipients``, else to the tenant's owners, admins and billing role. Gives how many.

    Call it in the scope of the tenant or of the platform, within the transaction that makes the fact. What was written
    of ``event_id`` to somebody already is not written again. A text that is ``secret``, as one with a link that lets
    somebody in, rests sealed and is forgotten once it is sent.
    """
    now, event_id = now or timezone.now(), event_id or new_id()
    addresses = sorted({address.lower() for address in recipients}) or caring_members(tenant_id)
    rows = [
        Mail(
            tenant_id=tenant_id,
            event_id=event_id,
            event_type=event_type,
            recipient=address,
            subject=" ".join(subject.split())[:200],
            text="" if secret else text,
            since=now,
            due_at=now,
        )
        for address in addresses
    ]
    for row in rows if secret else []:
        row.sealed = seal(text.encode(), field=SealedField.of(row, "sealed"))
    Mail.objects.bulk_create(rows, ignore_conflicts=True)
    if rows:
        transaction.on_commit(wake_mail)
    return len(rows)


def caring_members(tenant_id: uuid.UUID) -> list[str]:
    """Give the addresses of a tenant's owners, admins and billing role, in order."""
    members = Membership.objects.filter(tenant_id=tenant_id, role__in=CARING_ROLES, user__is_active=True)
    return sorted(members.values_list("user__email", flat=True))


def mail_send_due(*, now: dt.datetime | None = None) -> int:
    """Send what is due by e-mail; gives how many were sent. What fails comes again later, for some days."""
    moment = now or timezone.now()
    with scope.platform("e-mails that are due"):
        due = list(Mail.objects.due(moment).select_for_update(skip_locked=True)[:MOST_AT_ONCE])
        Mail.objects.filter(id__in=[row.id for row in due]).update(due_at=moment + LEASE)
    if not due:
        return 0
    sent = 0
    connection = get_connection()
    try:
        for row in due:
            sent += _send(row, connection, now or timezone.now())
    finally:
        connection.close()
    return sent


def _send(row: Mail, connection, now: dt.datetime) -> bool:
    problem = ""
    try:
        _message(row, connection).send()
    # Of the way to the mail server, smtplib's own, and of addresses that cannot be written into a mail; of texts that
    # do not open, or not now.
    except (OSError, ValueError, CannotOpen, KeysAway) as error:
        problem = str(error)[:300] or type(error).__name__
        log.warning("e-mail %s was not sent: %s", row.id, problem)
    row.attempts += 1
    row.note = problem
    if not problem:
        row.state, row.sent_at = OutboxState.SENT, now
    elif (again := next_attempt(row.attempts, since=row.since, now=now)) is not None:
        row.due_at = again
    else:
        row.state = OutboxState.GIVEN_UP
    fields = ["attempts", "note", "state", "sent_at", "due_at"]
    if row.state != OutboxState.PENDING:
        row.sealed = None
        fields.append("sealed")  # else it may have been wrapped anew meanwhile
    with scope.platform("note what became of an e-mail"):
        row.save(update_fields=fields)
    return not problem


def _message(row: Mail, connection) -> EmailMessage:
    text = row.text
    if row.sealed is not None:
        text = unseal(row.sealed, field=SealedField.of(row, "sealed")).decode()
    return EmailMessage(
        row.subject,
        with_links(text, row.recipient),
        settings.DEFAULT_FROM_EMAIL,
        [row.recipient],
        # The same over all attempts, so that a mail that arrived twice can be told to be one.
        headers={"Message-ID": f"<{row.id}@{settings.DEFAULT_FROM_EMAIL.rpartition('@')[2].rstrip('>')}>"},
        connection=connection,
    )
