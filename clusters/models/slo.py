"""Service classes."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from tenants.models import Identified


class OnOverload(models.TextChoices):
    """What happens to a request that its endpoint has no room for."""

    REFUSE = "refuse", "Refuse it"
    FALLBACK = "fallback", "Send it to the endpoint's fallbacks"
    SHORTEN = "shorten", "Admit it with a shorter context"


class RolloutWay(models.TextChoices):
    """Where a new revision finds its GPUs."""

    SURGE = "surge", "Beside what runs"
    BORROW = "borrow", "In place of its own replicas, a few at a time"
    REPLACE = "replace", "In place of what runs, with an outage"


class OnLittleTraffic(models.TextChoices):
    """What becomes of a canary that too few requests reach to judge it."""

    HOLD = "hold", "Hold it until somebody decides"
    PROMOTE = "promote", "Go on with it"


def all_ways() -> list[str]:
    """Give every way of a rollout, in the order in which they are tried."""
    return [str(way) for way in RolloutWay]


def canary_steps() -> list[int]:
    """Give the shares of requests, in percent, that a canary gets one after the other."""
    return [5, 25, 50]


class SloClass(Identified):
    """Targets and policies of a class of service. Latencies in milliseconds, None: no target.

    ``queue_s`` is the longest a request waits for a replica, ``floor`` the share of admissions that stays with the
    class while higher ones wait too: the floors of all classes sum to less than 1. What begins with ``rollout_`` says
    how endpoints of the class change what they run, see :mod:`clusters.endpoints.rollouts`.
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
    may_scale_to_zero = models.BooleanField(
        default=False, help_text="Endpoints that get no requests may give all their GPUs back."
    )
    idle_to_zero_s = models.PositiveIntegerField(
        default=900, validators=[MinValueValidator(60)],
        help_text="Seconds without requests until the last replicas go, where the endpoint says nothing else.",
    )  # fmt: skip
    wake_hold_s = models.FloatField(
        default=300, validators=[MinValueValidator(0.0), MaxValueValidator(600.0)],
        help_text="Seconds that requests are held while an endpoint that was scaled to zero wakes.",
    )  # fmt: skip
    high_water = models.FloatField(
        default=0.8, validators=[MinValueValidator(0.1), MaxValueValidator(1.0)],
        help_text="Share of the requests that replicas work on at once, above which there are to be more.",
    )  # fmt: skip
    low_water = models.FloatField(
        default=0.5, validators=[MinValueValidator(0.05), MaxValueValidator(0.95)],
        help_text="Share up to which the other replicas would be loaded without one, for it to be given back.",
    )  # fmt: skip
    quiet_s = models.PositiveIntegerField(
        default=300, validators=[MinValueValidator(30)],
        help_text="Seconds that this must be so before one is given back.",
    )  # fmt: skip
    needs_evaluation = models.BooleanField(
        default=False,
        help_text="A change that asks for an evaluation is refused where there is no set for it.",
    )
    on_overload = models.CharField(max_length=8, choices=OnOverload, default=OnOverload.REFUSE)
    degraded_context_tokens = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(2)],
        help_text="Most tokens of a request with its answer while its endpoint has no room.",
    )  # fmt: skip

    rollout_ways = ArrayField(
        models.CharField(max_length=8, choices=RolloutWay), default=all_ways,
        help_text="How a new revision may find its GPUs, in the order in which that is tried.",
    )  # fmt: skip
    rollout_days = ArrayField(
        models.PositiveSmallIntegerField(validators=[MaxValueValidator(6)]), default=list, blank=True,
        help_text="Days, 0 (Monday) to 6, on which what runs may be replaced with an outage. Empty: every day.",
    )  # fmt: skip
    rollout_from_hour = models.PositiveSmallIntegerField(
        default=0, validators=[MaxValueValidator(23)], help_text="Of UTC."
    )
    rollout_until_hour = models.PositiveSmallIntegerField(
        default=24, validators=[MinValueValidator(1), MaxValueValidator(24)],
        help_text="Of UTC; not after the first hour: past midnight.",
    )  # fmt: skip
    rollout_steps = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(99)]),
        default=canary_steps, blank=True,
        help_text="Percent of requests that a new revision gets, one step after the other. Empty: all at once.",
    )  # fmt: skip
    rollout_step_s = models.PositiveIntegerField(
        default=300, validators=[MaxValueValidator(604_800)], help_text="A step takes at least this long."
    )
    rollout_requests = models.PositiveIntegerField(
        default=200, validators=[MinValueValidator(60), MaxValueValidator(1_000_000)],
        help_text="Requests of either revision in a step that are enough to tell.",
    )  # fmt: skip
    rollout_patience_s = models.PositiveIntegerField(
        default=3600, validators=[MaxValueValidator(2_592_000)],
        help_text="After this long in a step too few requests are taken for little traffic.",
    )  # fmt: skip
    rollout_little_traffic = models.CharField(
        max_length=8, choices=OnLittleTraffic, default=OnLittleTraffic.HOLD
    )
    rollout_start_s = models.PositiveIntegerField(
        default=3600, validators=[MinValueValidator(10), MaxValueValidator(604_800)],
        help_text="A new revision that does not serve after this long is given up.",
    )  # fmt: skip
    rollout_ttft_factor = models.FloatField(
        null=True, blank=True, default=1.25, validators=[MinValueValidator(1.0), MaxValueValidator(100.0)],
        help_text="Times the TTFT p95 of the old revision. Empty: not judged.",
    )  # fmt: skip
    rollout_itl_factor = models.FloatField(
        null=True, blank=True, default=1.25, validators=[MinValueValidator(1.0), MaxValueValidator(100.0)],
        help_text="Times the ITL p95 of the old revision. Empty: not judged.",
    )  # fmt: skip
    rollout_error_points = models.FloatField(
        null=True, blank=True, default=0.5, validators=[MinValueValidator(0.0), MaxValueValidator(100.0)],
        help_text="Percentage points of failed requests above the old revision. Empty: not judged.",
    )  # fmt: skip
    rollout_cost_factor = models.FloatField(
        null=True, blank=True, default=1.25, validators=[MinValueValidator(1.0), MaxValueValidator(100.0)],
        help_text="Times the cost per million tokens of the old revision. Empty: not judged.",
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
            models.CheckConstraint(
                condition=Q(low_water__lt=F("high_water")), name="slo_low_below_high_water"
            ),
        ]

    def __str__(self) -> str:
        return self.title
