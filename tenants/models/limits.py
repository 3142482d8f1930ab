"""Rates that keys, projects, tenants and endpoints may be limited to."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models


class RateLimited(models.Model):
    """A row with limits a minute, over all gateways. Empty: no limit."""

    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    tokens_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Input and output together."
    )

    class Meta:
        abstract = True
