"""The double-entry ledger. Each transaction's entries sum to zero, and nothing in it ever changes: the database
refuses anything else."""

from __future__ import annotations

from django.db import models

from billing.models.statements import Statement
from tenants.models import TenantOwned


class LedgerAccount(TenantOwned):
    """One account of a tenant in one currency."""

    class Kind(models.TextChoices):
        RECEIVABLE = "receivable"  # what the tenant is charged in all
        GPU_TIME = "gpu_time"
        IDLE_GPU_TIME = "idle_gpu_time"
        TOKENS = "tokens"
        COMMITMENTS = "commitments"
        SLO_CREDITS = "slo_credits"
        GRANTED_CREDITS = "granted_credits"  # what credits cost us
        CREDIT_BALANCE = "credit_balance"  # what of them is not used yet
        EXPIRED_CREDITS = "expired_credits"

    kind = models.CharField(max_length=16, choices=Kind)
    currency = models.CharField(max_length=3)

    class Meta(TenantOwned.Meta):
        ordering = ["kind", "currency"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "kind", "currency"], name="one_ledger_account_per_kind")
        ]


class LedgerTransaction(TenantOwned):
    """What was posted at once, and why. ``reference`` makes posting it twice impossible."""

    reference = models.CharField(max_length=120)
    statement = models.ForeignKey(Statement, on_delete=models.PROTECT, null=True, related_name="postings")
    posted_at = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["posted_at"]
        constraints = [models.UniqueConstraint(fields=["tenant", "reference"], name="ledger_reference_once")]


class LedgerEntry(TenantOwned):
    """One side of a transaction: a debit is positive, a credit negative."""

    transaction = models.ForeignKey(LedgerTransaction, on_delete=models.PROTECT, related_name="entries")
    account = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="entries")
    amount = models.DecimalField(max_digits=20, decimal_places=4)

    class Meta(TenantOwned.Meta):
        ordering = ["id"]
