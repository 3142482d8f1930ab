"""What a tenant is charged for a month."""

from __future__ import annotations

from django.db import models

from tenants.models import Project, TenantOwned


class Statement(TenantOwned):
    """A tenant's chargeback for one calendar month in its own time zone."""

    class State(models.TextChoices):
        DRAFT = "draft"
        FINAL = "final"

    month = models.DateField(help_text="The first day of the month.")
    state = models.CharField(max_length=8, choices=State, default=State.DRAFT)
    currency = models.CharField(max_length=3)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    total = models.DecimalField(max_digits=20, decimal_places=4)
    computed_at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        ordering = ["-month"]
        constraints = [models.UniqueConstraint(fields=["tenant", "month"], name="one_statement_per_month")]


class StatementLine(TenantOwned):
    """One line: a quantity of one thing for one endpoint, and how its amount was reached.

    ``basis`` is ``allocation`` (GPU-hours held; what a dedicated endpoint is charged) or ``usage``
    (tokens at the price book; shown beside it). Only ``charged`` lines add up to the total.
    """

    class Basis(models.TextChoices):
        ALLOCATION = "allocation"
        USAGE = "usage"

    statement = models.ForeignKey(Statement, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveIntegerField()
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    endpoint_id = models.UUIDField()
    endpoint_name = models.CharField(max_length=63)
    sku = models.CharField(max_length=120)
    description = models.CharField(max_length=200)
    basis = models.CharField(max_length=16, choices=Basis)
    charged = models.BooleanField()
    quantity = models.DecimalField(max_digits=30, decimal_places=10)
    unit = models.CharField(max_length=40)
    unit_price = models.DecimalField(max_digits=20, decimal_places=10)
    amount = models.DecimalField(max_digits=20, decimal_places=4)
    how = models.JSONField(default=list)

    class Meta(TenantOwned.Meta):
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "statement", "position"], name="statement_line_position"
            ),
        ]
