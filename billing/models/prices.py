"""The price book: effective-dated, superseded, never edited."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tenants.models import Identified


class Price(Identified):
    """What one GPU-hour or one million tokens cost from a moment on.

    A blank selector matches everything; the most specific match wins, then the newest
    ``effective_from``. A new row supersedes an old one; the database refuses updates.
    """

    class Kind(models.TextChoices):
        GPU_HOUR = "gpu_hour", "GPU-hour"
        INPUT_TOKENS = "input_tokens", "Million input tokens"
        OUTPUT_TOKENS = "output_tokens", "Million output tokens"
        CACHED_TOKENS = "cached_tokens", "Million cached input tokens"

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
                fields=["kind", "gpu_type", "region", "model", "slo_class", "currency", "effective_from"],
                name="price_once_per_moment",
                violation_error_message="A price for this begins at the same moment; choose another time.",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="price_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.amount.normalize():f} {self.currency}"
