"""The price book: effective-dated, superseded, never edited."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from tenants.models import Identified, Tenant, TenantOwned


class Book(Identified):
    """A price book that operators try: a month is rated by it to see the difference. Prices in force have no book."""

    name = models.CharField(max_length=80, unique=True)
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Price(Identified):
    """What one GPU-hour or one million tokens cost from a moment on.

    A blank selector matches everything, no ``tenant`` every tenant. A tenant's own price wins, then the most specific
    match, then the newest ``effective_from``. A new row supersedes an old one; the database refuses updates.
    ``class_factor`` is no price: token prices that name no class are multiplied by it.
    """

    class Kind(models.TextChoices):
        GPU_HOUR = "gpu_hour", "GPU-hour"
        INPUT_TOKENS = "input_tokens", "Million input tokens"
        OUTPUT_TOKENS = "output_tokens", "Million output tokens"
        CACHED_TOKENS = "cached_tokens", "Million cached input tokens"
        CLASS_FACTOR = "class_factor", "Factor of a class"

    book = models.ForeignKey(Book, on_delete=models.CASCADE, null=True, blank=True, related_name="prices")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=16, choices=Kind)
    gpu_type = models.CharField(max_length=40, blank=True)
    region = models.CharField(max_length=40, blank=True)
    model = models.CharField(max_length=80, blank=True)
    slo_class = models.CharField(max_length=40, blank=True)
    amount = models.DecimalField(max_digits=20, decimal_places=10)
    currency = models.CharField(max_length=3)
    effective_from = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["kind", "gpu_type", "model", "slo_class", "-effective_from"]
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "book", "tenant", "kind", "gpu_type", "region", "model", "slo_class", "currency",
                    "effective_from",
                ],
                name="price_once_per_moment",
                nulls_distinct=False,
                violation_error_message="A price for this begins at the same moment; choose another time.",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="price_not_negative"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.amount.normalize():f} {self.currency}"


class Commitment(TenantOwned):
    """GPUs that a tenant took for a time at a rate of its own, held or not; what it holds beyond them is at list.

    Only its end ever changes, to an earlier time that has not passed. It was withdrawn if it ends when it starts.
    """

    name = models.CharField(max_length=80)
    gpu_type = models.CharField(max_length=40)
    region = models.CharField(max_length=40, blank=True, help_text="Blank: in every region.")
    gpus = models.PositiveIntegerField()
    rate = models.DecimalField(max_digits=20, decimal_places=10, help_text="For each GPU-hour.")
    currency = models.CharField(max_length=3)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gte=F("starts_at")), name="commitment_ends_after_start"
            ),
            models.CheckConstraint(condition=Q(rate__gte=0, gpus__gte=1), name="commitment_is_positive"),
        ]

    def __str__(self) -> str:
        return self.name


class Credit(TenantOwned):
    """Money granted to a tenant: taken off its statements from ``available_from`` on until it is used up or expires."""

    amount = models.DecimalField(max_digits=20, decimal_places=4)
    currency = models.CharField(max_length=3)
    reason = models.CharField(max_length=200)
    available_from = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["available_from", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="credit_is_positive"),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("available_from")),
                name="credit_expires_after_start",
            ),
        ]
