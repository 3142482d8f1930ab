"""Service classes."""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from tenants.models import Identified


class SloClass(Identified):
    """Targets and policies of a class of service. Latencies in milliseconds, None: no target."""

    name = models.SlugField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    description = models.CharField(max_length=300)
    ttft_p95_ms = models.PositiveIntegerField("TTFT p95 (ms)", null=True, blank=True)
    itl_p95_ms = models.PositiveIntegerField("ITL p95 (ms)", null=True, blank=True)
    availability = models.DecimalField(max_digits=6, decimal_places=5, help_text="0.999 means 99.9 %.")
    priority = models.PositiveSmallIntegerField(help_text="1 is served first.")
    price_factor = models.DecimalField(max_digits=6, decimal_places=3, default=Decimal(1))
    spare_replicas = models.PositiveSmallIntegerField(
        default=0, help_text="Replicas beyond what the load needs, so that a lost one is not missed."
    )
    connect_timeout_s = models.FloatField(default=2)
    first_token_timeout_s = models.FloatField(default=30)
    between_tokens_timeout_s = models.FloatField(default=15)
    total_timeout_s = models.FloatField(default=300)
    attempts = models.PositiveSmallIntegerField(default=2)

    class Meta:
        ordering = ["priority"]
        verbose_name = "SLO class"
        verbose_name_plural = "SLO classes"

    def __str__(self) -> str:
        return self.title
