"""Answers kept so that a repeated create is answered, not carried out, again."""

from __future__ import annotations

from django.db import models

from tenants.models.base import Identified, TenantOwned
from tenants.sealing import SealedBinaryField


class KeptAnswer(models.Model):
    """The first answer to an Idempotency-Key, per principal, method and path."""

    principal = models.CharField(max_length=64)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the canonical JSON body.")
    status = models.PositiveSmallIntegerField(null=True)
    body = SealedBinaryField(null=True)
    headers = models.JSONField(default=dict)

    class Meta:
        abstract = True


class IdempotencyRecord(KeptAnswer, TenantOwned):
    """An answer to a tenant's caller."""

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "principal", "method", "path", "key"], name="idempotency_key_once"
            ),
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_expiry")]


class OperatorIdempotencyRecord(KeptAnswer, Identified):
    """An answer to an operator, who acts for no tenant."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["principal", "method", "path", "key"], name="operator_idempotency_key_once"
            ),
        ]
        indexes = [models.Index(fields=["created_at"], name="operator_idempotency_expiry")]
