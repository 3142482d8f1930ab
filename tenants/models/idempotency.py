"""Answers kept so that a repeated create is answered, not carried out, again."""

from __future__ import annotations

from django.db import models

from tenants.models.base import TenantOwned


class IdempotencyRecord(TenantOwned):
    """The first answer to an Idempotency-Key, per principal, method and path."""

    principal = models.CharField(max_length=64)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the canonical JSON body.")
    status = models.PositiveSmallIntegerField(null=True)
    body = models.BinaryField(null=True)
    headers = models.JSONField(default=dict)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "principal", "method", "path", "key"], name="idempotency_key_once"
            ),
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_expiry")]
