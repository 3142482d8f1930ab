"""What tenants order."""

from __future__ import annotations

import datetime as dt

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from clusters.models.catalog import CatalogModel
from clusters.models.clusters import Cluster
from clusters.models.slo import SloClass
from tenants.managers import TenantManager, TenantQuerySet
from tenants.models import Project, RateLimited, TenantOwned, User

name_rule = RegexValidator(
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "Use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
)


class Wanted(models.TextChoices):
    """What the tenant wants of an endpoint."""

    RUNNING = "running"
    PAUSED = "paused"
    DELETED = "deleted"


class EndpointState(models.TextChoices):
    """The badge, derived from conditions and wishes; see ``clusters.endpoints.states``."""

    WAITING_FOR_APPROVAL = "waiting-for-approval", "Waiting for approval"
    WAITING_FOR_CAPACITY = "waiting-for-capacity", "Waiting for capacity"
    PROVISIONING = "provisioning", "Provisioning"
    READY = "ready", "Ready"
    UPDATING = "updating", "Updating"
    DEGRADED = "degraded", "Degraded"
    PAUSED = "paused", "Paused"
    SCALED_TO_ZERO = "scaled-to-zero", "Scaled to zero"
    UNREACHABLE = "unreachable", "Unreachable"
    FAILED = "failed", "Failed"
    UPDATE_FAILED = "update-failed", "Update failed"
    DELETING = "deleting", "Deleting"
    DELETED = "deleted", "Deleted"


class EndpointQuerySet(TenantQuerySet):
    def live(self) -> EndpointQuerySet:
        """Those not yet gone."""
        return self.filter(deleted_at=None)

    def due(self, now: dt.datetime) -> EndpointQuerySet:
        """Those that the reconciler should look at now."""
        return self.live().filter(due_at__lte=now)


class Endpoint(RateLimited, TenantOwned):
    """Model x SLO class x residency, with expected load and limits.

    ``fallbacks`` are ids of the tenant's endpoints that take its requests, in order, where the class says so; those
    that are gone are passed over. ``shared`` ones are published by the platform to every tenant.

    ``generation`` counts the wishes; the reconciler writes ``observed_generation`` when it has acted on one.
    ``due_at`` is when it is to look again, None while all is settled. A pass claims the endpoint by an
    advisory lock of its database session: no write, and gone at once when the worker dies.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="endpoints")
    name = models.CharField(max_length=63, validators=[name_rule])
    model = models.ForeignKey(CatalogModel, on_delete=models.PROTECT, related_name="endpoints")
    slo_class = models.ForeignKey(SloClass, on_delete=models.PROTECT, related_name="endpoints")
    residency = models.CharField(max_length=60, default="global")
    certifications = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    requests_per_second = models.FloatField(
        default=1, validators=[MinValueValidator(0.0), MaxValueValidator(1e6)]
    )
    input_tokens = models.PositiveIntegerField(default=500, validators=[MinValueValidator(1)])
    output_tokens = models.PositiveIntegerField(default=200, validators=[MinValueValidator(1)])
    burstiness = models.FloatField(
        default=1, validators=[MinValueValidator(1.0), MaxValueValidator(1e4)],
        help_text="The busiest minute's rate over the mean.",
    )  # fmt: skip
    input_cv = models.FloatField(default=1, validators=[MinValueValidator(0.0), MaxValueValidator(10.0)])
    output_cv = models.FloatField(default=1, validators=[MinValueValidator(0.0), MaxValueValidator(10.0)])
    prefix_share = models.FloatField(default=0, validators=[MinValueValidator(0.0), MaxValueValidator(0.99)])
    profile = models.CharField(
        max_length=40, blank=True, help_text="The named profile it was ordered with. Empty: given by numbers."
    )
    context_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Most tokens of a request with its answer. Empty: all of the model's.",
    )
    output_limit = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)],
        help_text="Most tokens of an answer. Empty: what the context leaves.",
    )  # fmt: skip
    near = models.CharField(
        max_length=60, blank=True, help_text="Region or zone that is preferred where it costs little more."
    )
    pins = models.JSONField(
        default=dict, blank=True,
        help_text="What Berth may not choose: gpu, cluster, precision, tp, pp, max_batch_size.",
    )  # fmt: skip
    approved_precisions = ArrayField(
        models.CharField(max_length=16), default=list, blank=True,
        help_text="Those whose quality note was accepted with the order.",
    )  # fmt: skip
    replicas = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(64)],
        help_text="Empty: as many as the expected load needs.",
    )  # fmt: skip

    fallbacks = ArrayField(models.UUIDField(), default=list, blank=True)
    shared = models.BooleanField(default=False)

    cluster = models.ForeignKey(
        Cluster, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        help_text="Where operators moved it. Empty: Berth chooses.",
    )  # fmt: skip
    restoring = models.PositiveIntegerField(
        null=True, blank=True, help_text="Number of the revision to run again, once there is room."
    )

    cleared = models.BooleanField(
        default=False,
        help_text="The rules of approval were asked about where it is placed first, or after a pause.",
    )
    wanted = models.CharField(max_length=16, choices=Wanted, default=Wanted.RUNNING)
    generation = models.PositiveIntegerField(default=1)
    observed_generation = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=32, choices=EndpointState, default=EndpointState.PROVISIONING)
    state_reason = models.CharField(max_length=300, blank=True)
    state_since = models.DateTimeField(auto_now_add=True)

    due_at = models.DateTimeField(null=True, blank=True)
    wakes = models.PositiveIntegerField(default=0, help_text="Counts those who wanted a look.")
    attempts = models.PositiveIntegerField(default=0, help_text="Failed passes in a row.")
    ready_at = models.DateTimeField(null=True, blank=True, help_text="First time ready.")
    deleted_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    objects = TenantManager.of(EndpointQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                "tenant_id",
                Lower("name"),
                condition=Q(deleted_at=None),
                name="endpoint_name_in_tenant",
                violation_error_message="An endpoint of this name exists already; choose another name.",
            ),
            models.UniqueConstraint(
                Lower("name"),
                condition=Q(deleted_at=None, shared=True),
                name="endpoint_name_among_shared",
                violation_error_message="A shared endpoint of this name exists already.",
            ),
        ]
        indexes = [
            # The sweeper: what is due.
            models.Index(fields=["due_at"], condition=Q(deleted_at=None), name="endpoint_due"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def context_cap(self) -> int:
        """Most tokens of a request with its answer."""
        return self.context_tokens or self.model.context_tokens

    @property
    def answer_cap(self) -> int:
        """Most tokens of an answer."""
        return max(1, min(self.output_limit or self.context_cap, self.context_cap - 1))
