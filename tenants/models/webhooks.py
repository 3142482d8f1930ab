"""What is told to the outside: tenants' webhooks, and the outbox of what is sent to them and by e-mail.

A row of the outbox is written in the transaction of the fact that it tells. It is the truth: a task only hurries, and
what was not sent when a process died is sent by the next one, under the same id.
"""

from __future__ import annotations

import datetime as dt

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from tenants.managers import TenantManager, TenantQuerySet
from tenants.models.base import TenantOwned
from tenants.sealing import SealedBinaryField


class WebhookEndpoint(TenantOwned):
    """An address of a tenant's that is told of events, signed as Standard Webhooks.

    ``secret`` and, for a day after a rotation, ``previous_secret`` are sealed; both sign meanwhile. ``failing_since``
    is the first failure after which nothing was taken; after too long of that it is disabled, with the reason.
    """

    name = models.CharField(max_length=80)
    url = models.CharField(max_length=500)
    event_types = ArrayField(models.CharField(max_length=60), help_text="What it is told of.")
    active = models.BooleanField(default=True, help_text="Inactive: nothing is sent there.")
    secret = SealedBinaryField()
    previous_secret = SealedBinaryField(null=True)
    previous_until = models.DateTimeField(null=True, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    disabled_at = models.DateTimeField(null=True, editable=False)
    disabled_reason = models.CharField(max_length=200, blank=True, editable=False)

    class Meta(TenantOwned.Meta):
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="webhook_name_in_tenant",
                violation_error_message="A webhook of this name exists already; choose another name.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class OutboxState(models.TextChoices):
    """How something that is to be sent stands."""

    PENDING = "pending", "Waiting"
    SENT = "sent", "Delivered"
    GIVEN_UP = "given-up", "Given up"


class OutboxQuerySet(TenantQuerySet):
    def due(self, now: dt.datetime) -> OutboxQuerySet:
        """Those to be sent now, the oldest first."""
        return self.filter(state=OutboxState.PENDING, due_at__lte=now).order_by("due_at", "id")


class Outgoing(TenantOwned):
    """Something to be sent. ``event_id`` names the fact and stays the same over all attempts.

    ``due_at`` is when the next attempt is; whoever takes one puts it off first, so that a process that dies over it
    leaves it to the next. ``since`` is when the attempts that are made now began; days after it they end.
    """

    event_id = models.UUIDField()
    event_type = models.CharField(max_length=60)
    state = models.CharField(max_length=8, choices=OutboxState, default=OutboxState.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    since = models.DateTimeField()
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    objects = TenantManager.of(OutboxQuerySet)

    class Meta(TenantOwned.Meta):
        abstract = True


class WebhookDelivery(Outgoing):
    """One event for one webhook. ``body`` is the signed text; ``log`` what became of each attempt, the last ones.

    An entry of ``log`` has ``at``, ``status`` (of the answer, null where there was none), ``took_ms`` and ``note``, the
    beginning of the answer or why there was none.
    """

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    body = models.TextField()
    log = models.JSONField(default=list)

    class Meta(Outgoing.Meta):
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint", "event_id"], name="webhook_event_once_per_endpoint"
            )
        ]
        indexes = [
            # The sweeper: what is due, over all tenants.
            models.Index(
                fields=["due_at"], condition=Q(state=OutboxState.PENDING), name="webhook_delivery_due"
            ),
            # An endpoint's page: its newest deliveries.
            models.Index(fields=["tenant", "endpoint", "-id"], name="webhook_delivery_newest"),
        ]


class Mail(Outgoing):
    """One e-mail to one person, so that one who cannot be reached keeps it from nobody else."""

    recipient = models.EmailField()
    subject = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    sealed = SealedBinaryField(
        null=True, editable=False, help_text="The text, where it holds a secret; forgotten once it is sent."
    )
    note = models.CharField(max_length=300, blank=True, help_text="Why the last attempt failed.")

    class Meta(Outgoing.Meta):
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "event_id", "recipient"], name="mail_once_per_recipient"
            )
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state=OutboxState.PENDING), name="mail_due"),
        ]
