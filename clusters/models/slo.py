"""Service classes."""

from __future__ import annotations

from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from tenants.models import Identified


class OnOverload(models.TextChoices):
    """What happens to a request that its endpoint has no room for."""

    REFUSE = "refuse", "Refuse it"
    FALLBACK = "fallback", "Send it to the endpoint's fallbacks"
    SHORTEN = "shorten", "Admit it with a shorter context"


class SloClass(Identified):
    """Targets and policies of a class of service. Latencies in milliseconds, None: no target.

    ``queue_s`` is the longest a request waits for a replica, ``floor`` the share of admissions that stays with the
    class while higher ones wait too: the floors of all classes sum to less than 1.
    """

    name = models.SlugField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    description = models.CharField(max_length=300)
    ttft_p95_ms = models.PositiveIntegerField("TTFT p95 (ms)", null=True, blank=True)
    itl_p95_ms = models.PositiveIntegerField("ITL p95 (ms)", null=True, blank=True)
    availability = models.DecimalField(max_digits=6, decimal_places=5, help_text="0.999 means 99.9 %.")
    priority = models.PositiveSmallIntegerField(help_text="1 is served first.")
    price_factor = models.DecimalField(max_digits=6, decimal_places=3, default=Decimal(1))
    credit_percent = models.DecimalField(
        max_digits=5, decimal_places=2, default=Decimal(10),
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(100))],
        help_text="Credited of an endpoint's charge of a month in which it misses a target.",
    )  # fmt: skip
    cost_target = models.DecimalField(
        max_digits=12, decimal_places=4, null=True, blank=True, validators=[MinValueValidator(Decimal(0))],
        help_text="What a million tokens should cost at most, in the platform's currency. Empty: no target.",
    )  # fmt: skip
    spare_replicas = models.PositiveSmallIntegerField(
        default=0, help_text="Replicas beyond what the load needs, so that a lost one is not missed."
    )
    connect_timeout_s = models.FloatField(default=2)
    first_token_timeout_s = models.FloatField(default=30)
    between_tokens_timeout_s = models.FloatField(default=15)
    total_timeout_s = models.FloatField(default=300)
    attempts = models.PositiveSmallIntegerField(default=2)
    backoff_s = models.FloatField(default=0.05, validators=[MinValueValidator(0.0)])
    backoff_most_s = models.FloatField(default=1, validators=[MinValueValidator(0.0)])
    queue_s = models.FloatField(default=5, validators=[MinValueValidator(0.0)])
    floor = models.FloatField(default=0, validators=[MinValueValidator(0.0), MaxValueValidator(0.99)])
    context_tokens = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(2)],
        help_text="Most tokens of a request with its answer. Empty: what the endpoint allows.",
    )  # fmt: skip
    on_overload = models.CharField(max_length=8, choices=OnOverload, default=OnOverload.REFUSE)
    degraded_context_tokens = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(2)],
        help_text="Most tokens of a request with its answer while its endpoint has no room.",
    )  # fmt: skip

    class Meta:
        ordering = ["priority"]
        verbose_name = "SLO class"
        verbose_name_plural = "SLO classes"
        constraints = [
            models.CheckConstraint(condition=Q(floor__gte=0, floor__lt=1), name="slo_floor_is_a_share"),
            models.CheckConstraint(
                condition=~Q(on_overload=OnOverload.SHORTEN) | Q(degraded_context_tokens__isnull=False),
                name="slo_shortens_to_something",
            ),
            models.CheckConstraint(
                condition=Q(context_tokens=None)
                | Q(degraded_context_tokens=None)
                | Q(degraded_context_tokens__lt=F("context_tokens")),
                name="slo_shortens_below_its_cap",
            ),
        ]

    def __str__(self) -> str:
        return self.title
