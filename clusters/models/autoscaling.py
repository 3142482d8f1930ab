"""How many replicas an endpoint may have, when, and what was decided of them."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from clusters.models.endpoints import Endpoint
from tenants.models import TenantOwned

MOST_REPLICAS = 64


class EndpointScaling(TenantOwned):
    """Whether Berth chooses an endpoint's replicas, between what, and what it remembers from look to look.

    ``floor`` and ``ceiling`` are None for the plan's, ``idle_s`` for the class's. ``due_at`` is when to look again,
    None until a gateway tells of it. ``wanted_at``: a request asked for it while it had no replica. ``wants`` are the
    replicas that it should and may have and has no GPUs for, 0 where nothing but GPUs is wanting.
    """

    endpoint = models.OneToOneField(Endpoint, on_delete=models.CASCADE, related_name="scaling")
    enabled = models.BooleanField(default=False)
    floor = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MaxValueValidator(MOST_REPLICAS)]
    )
    ceiling = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MOST_REPLICAS)]
    )
    idle_s = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(60)],
        help_text="Seconds without requests until its last replicas go. Empty: as its class says.",
    )  # fmt: skip

    due_at = models.DateTimeField(null=True, blank=True)
    wanted_at = models.DateTimeField(null=True, blank=True)
    wants = models.PositiveSmallIntegerField(default=0)
    since = models.DateTimeField(auto_now_add=True, help_text="Since when it has as many replicas as it has.")
    quiet_since = models.DateTimeField(null=True, blank=True)
    idle_since = models.DateTimeField(null=True, blank=True)
    burnt = models.FloatField(null=True, blank=True)
    burnt_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(floor=None) | Q(ceiling=None) | Q(floor__lte=F("ceiling")),
                name="scaling_floor_below_ceiling",
            ),
        ]
        indexes = [
            # The sweep: who is looked at now.
            models.Index(fields=["due_at"], condition=Q(enabled=True), name="scaling_due"),
        ]

    def __str__(self) -> str:
        return f"scaling of {self.endpoint_id}"


class ScaleSchedule(TenantOwned):
    """Other bounds at some times of the week, in a time zone of its own; ``days`` are 1 (Monday) to 7.

    Where ``until_time`` is not after ``from_time`` it lasts into the next day.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=60)
    days = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(7)])
    )
    from_time = models.TimeField()
    until_time = models.TimeField()
    time_zone = models.CharField(max_length=60)
    floor = models.PositiveSmallIntegerField(validators=[MaxValueValidator(MOST_REPLICAS)])
    ceiling = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MOST_REPLICAS)]
    )

    class Meta(TenantOwned.Meta):
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                "tenant", "endpoint", Lower("name"), name="schedule_name_of_endpoint",
                violation_error_message="A schedule of this name exists already; choose another name.",
            ),
            models.CheckConstraint(
                condition=Q(ceiling=None) | Q(floor__lte=F("ceiling")), name="schedule_floor_below_ceiling"
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.name


class ScalingDecision(TenantOwned):
    """One decision on the number of replicas: why, and what the tenant pays per hour before and after.

    A refused one changed nothing; it is written when it begins to be refused, not again at each look.
    """

    class Outcome(models.TextChoices):
        DONE = "done", "Done"
        REFUSED = "refused", "Not possible"

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="scaling_decisions")
    at = models.DateTimeField()
    revision = models.PositiveIntegerField(help_text="Number of the revision.")
    before = models.PositiveSmallIntegerField()
    after = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=8, choices=Outcome)
    why = models.CharField(max_length=20)
    reason = models.CharField(max_length=600)
    currency = models.CharField(max_length=3)
    price_before = models.DecimalField(max_digits=20, decimal_places=6, help_text="Per hour.")
    price_after = models.DecimalField(max_digits=20, decimal_places=6, help_text="Per hour.")

    class Meta(TenantOwned.Meta):
        ordering = ["-id"]
        indexes = [models.Index(fields=["tenant", "endpoint", "-id"], name="scaling_history")]

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"
