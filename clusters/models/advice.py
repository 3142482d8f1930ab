"""The advisor's rows: re-plans of the fleet, the moves each proposed, and what may be applied unasked.

They are the platform's and are seen in its scope only, for a move names a tenant's endpoint.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from clusters.models.endpoints import Endpoint
from tenants.models import Identified

WEEK = (0, 1, 2, 3, 4, 5, 6)


class AdvicePolicy(Identified):
    """How sure the advisor must be before it proposes a move, and what may be applied without being asked.

    There is one row. Days are 0 (Monday) to 6; hours are of UTC, and a window whose end is not after its beginning
    goes on past midnight. Money is in the currency of the endpoint that is moved.
    """

    single = models.BooleanField(default=True, editable=False, unique=True)
    least_saving_percent = models.DecimalField(
        max_digits=5, decimal_places=2, default=Decimal(5),
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(100))],
        help_text="A move saves at least this share of what the endpoint costs.",
    )  # fmt: skip
    least_saving_per_hour = models.DecimalField(
        max_digits=12, decimal_places=4, default=Decimal("0.10"), validators=[MinValueValidator(Decimal(0))],
        help_text="And at least this much money per hour.",
    )  # fmt: skip
    payback_days = models.PositiveSmallIntegerField(
        default=7, validators=[MinValueValidator(1), MaxValueValidator(365)],
        help_text="Within so many days a move has earned what its rollout costs.",
    )  # fmt: skip
    cool_down_hours = models.PositiveSmallIntegerField(
        default=24, validators=[MaxValueValidator(8760)],
        help_text="An endpoint that was changed stays where it is for so long.",
    )  # fmt: skip
    concurrent_moves = models.PositiveSmallIntegerField(
        default=2, validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="So many endpoints are moved at a time; the others wait for their turn.",
    )  # fmt: skip
    solve_limit_s = models.PositiveSmallIntegerField(
        "time limit (s)", default=60, validators=[MinValueValidator(1), MaxValueValidator(600)],
        help_text="How long the solver may look for a better placement.",
    )  # fmt: skip

    automatic = models.BooleanField("apply without asking", default=False)
    replan_drift = models.BooleanField(
        "plan anew by measured load", default=False,
        help_text="Also orders whose load has drifted, where that saves enough. It changes what was ordered.",
    )  # fmt: skip
    days = ArrayField(
        models.PositiveSmallIntegerField(validators=[MaxValueValidator(6)]), default=list, blank=True,
        help_text="Empty: every day.",
    )  # fmt: skip
    from_hour = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(23)])
    until_hour = models.PositiveSmallIntegerField(
        default=24, validators=[MinValueValidator(1), MaxValueValidator(24)]
    )
    automatic_saving_per_hour = models.DecimalField(
        max_digits=12, decimal_places=4, default=Decimal(1), validators=[MinValueValidator(Decimal(0))],
        help_text="Only moves that save at least this much per hour are applied unasked.",
    )  # fmt: skip
    moves_per_day = models.PositiveSmallIntegerField(
        default=10,
        validators=[MinValueValidator(1)],
        help_text="So many moves are begun unasked in 24 hours.",
    )
    run_every_hours = models.PositiveSmallIntegerField(
        default=6, validators=[MinValueValidator(1), MaxValueValidator(720)],
        help_text="How often the fleet is planned anew within the window.",
    )  # fmt: skip

    class Meta:
        verbose_name = "advice policy"
        verbose_name_plural = "advice policies"

    @classmethod
    def current(cls) -> AdvicePolicy:
        """Give the policy, not saved yet where nobody changed it."""
        return cls.objects.first() or cls()

    def is_open(self, now: dt.datetime) -> bool:
        """Say whether moves may be begun unasked at ``now``."""
        moment = now.astimezone(dt.UTC)
        days, hour = self.days or WEEK, moment.hour
        if self.from_hour < self.until_hour:
            return moment.weekday() in days and self.from_hour <= hour < self.until_hour
        if hour >= self.from_hour:
            return moment.weekday() in days
        # After midnight the window is still that of the day before.
        return hour < self.until_hour and (moment.weekday() - 1) % 7 in days


class AdviceRun(Identified):
    """One re-plan of the fleet.

    ``totals`` has an object for each currency: ``currency``, ``endpoints``, ``cost_now``, ``cost_after``, ``saving``
    (per hour, as decimal strings, of what is proposed), and of the solver ``status``, ``objective``, ``bound``,
    ``seconds``. ``kept`` counts the endpoints that were not looked at, by the reason.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting for a worker"
        RUNNING = "running", "Running"
        FINISHED = "finished", "Finished"
        FAILED = "failed", "Failed"

    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    state_reason = models.CharField(max_length=500, blank=True)
    started_by = models.CharField(max_length=120, help_text="Who asked for it.")
    automatic = models.BooleanField(default=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    endpoints = models.PositiveIntegerField(default=0, help_text="So many could be moved.")
    kept = models.JSONField(default=dict)
    totals = models.JSONField(default=list)

    class Meta:
        ordering = ["-id"]

    @property
    def is_under_way(self) -> bool:
        return self.state in (self.State.WAITING, self.State.RUNNING)

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class AdviceMoveQuerySet(models.QuerySet):
    def open(self) -> AdviceMoveQuerySet:
        """Those that may still be decided upon."""
        return self.filter(state=AdviceMove.State.PROPOSED)

    def under_way(self) -> AdviceMoveQuerySet:
        """Those that were decided upon and are not over."""
        return self.filter(state__in=[AdviceMove.State.ACCEPTED, AdviceMove.State.APPLYING])


class AdviceMove(Identified):
    """One endpoint's way from where it runs to where it would cost less, or out of the queue.

    One that is planned anew takes over the load that was measured, and what that needs.

    ``before`` and ``after`` have ``pool``, ``cluster``, ``region``, ``gpu``, ``precision``, ``tp``, ``pp``,
    ``replicas``; ``before`` is null of an endpoint that waits for capacity. Money is per hour, at the prices of GPUs
    without the factor of the class. ``step`` says in which order they go: those of step 2 take GPUs that those of
    step 1 leave. ``from_revision`` is the number of the revision that it is about, ``revision`` of the one it made.
    """

    class Kind(models.TextChoices):
        MOVE = "move", "Move"
        REPLAN = "replan", "Plan anew"
        PLACE = "place", "Place"

    class State(models.TextChoices):
        PROPOSED = "proposed", "Proposed"
        ACCEPTED = "accepted", "Waiting for its turn"
        APPLYING = "applying", "Applying"
        APPLIED = "applied", "Applied"
        REFUSED = "refused", "Refused"
        DISMISSED = "dismissed", "Dismissed"
        OUTDATED = "outdated", "Outdated"

    run = models.ForeignKey(AdviceRun, on_delete=models.CASCADE, related_name="moves")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.MOVE)
    step = models.PositiveSmallIntegerField(default=1)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="+")
    from_revision = models.PositiveIntegerField(null=True, blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField()
    currency = models.CharField(max_length=3)
    cost_before = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    cost_after = models.DecimalField(max_digits=14, decimal_places=6)
    saving = models.DecimalField(max_digits=14, decimal_places=6)
    rollout_cost = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    load_s = models.FloatField(default=0, help_text="How long both run side by side, as expected.")
    payback_h = models.FloatField(null=True, blank=True)
    risks = models.JSONField(default=list)
    state = models.CharField(max_length=12, choices=State, default=State.PROPOSED)
    state_reason = models.CharField(max_length=500, blank=True)
    state_since = models.DateTimeField(auto_now_add=True)
    decided_by = models.CharField(max_length=120, blank=True)
    begun_at = models.DateTimeField(null=True, blank=True)
    begun_unasked = models.BooleanField(default=False)
    revision = models.PositiveIntegerField(null=True, blank=True)

    objects = AdviceMoveQuerySet.as_manager()

    class Meta:
        ordering = ["run", "number"]
        constraints = [
            models.UniqueConstraint(fields=["run", "number"], name="advice_move_number"),
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=Q(state__in=["accepted", "applying"]),
                name="one_move_per_endpoint",
            ),
        ]
        indexes = [
            # The sweep: what is under way.
            models.Index(
                fields=["state"],
                condition=Q(state__in=["accepted", "applying"]),
                name="advice_move_under_way",
            ),
        ]

    @property
    def is_costly(self) -> bool:
        """Whether it costs more than it saves, to make room for somebody who waits."""
        return self.kind == self.Kind.MOVE and self.saving <= 0
