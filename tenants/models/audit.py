"""The audit: entries in one hash chain for each tenant and one for the platform."""

from __future__ import annotations

from django.db import models

from tenants.managers import TenantManager
from tenants.models.base import new_id


class AuditEntry(models.Model):
    """What was done, as it was told in the transaction that did it. Written by the database alone; never changes.

    ``tenant`` is whose chain it stands in, None the platform's; ``number`` its place there, without gaps from 1.
    ``before`` and ``after`` are what changed of a row: all of it where it was made or deleted. ``facts`` are an act's.
    ``hash`` is over all of this and ``previous``, the hash before it: see :mod:`tenants.audit.canonical`.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # Without a foreign key: its check would wait for locks on the tenant while the chain is locked.
    tenant = models.ForeignKey(
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        null=True,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    number = models.BigIntegerField()
    at = models.DateTimeField()
    action = models.CharField(max_length=80)
    actor_kind = models.CharField(max_length=20)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=200, blank=True)
    on_behalf = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=64, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    target_kind = models.CharField(max_length=40, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    target_name = models.CharField(max_length=200, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    facts = models.JSONField(null=True)
    previous = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects = TenantManager()

    class Meta:
        base_manager_name = "objects"
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "number"], name="audit_number_in_chain", nulls_distinct=False
            ),
        ]
        indexes = [
            # What was done to one thing, and what one person did.
            models.Index(fields=["tenant", "target_id", "number"], name="audit_of_target"),
            models.Index(fields=["tenant", "actor_id", "number"], name="audit_of_actor"),
            models.Index(fields=["tenant", "request_id"], name="audit_of_request"),
            # A period of a chain: lists, exports and evidence.
            models.Index(fields=["tenant", "at"], name="audit_of_period"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.action}"


class AuditHead(models.Model):
    """The end of a chain, kept apart so that cutting off its tail shows. ``chain`` is the tenant's id, or all zeros."""

    chain = models.UUIDField(primary_key=True)
    number = models.BigIntegerField()
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.chain} {self.number}"
