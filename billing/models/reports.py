"""What operators' reports read: GPU time, tokens and money by day and month, kept from hours and usage.

Every row is a sum of rows that are kept elsewhere and can be made again from them (:mod:`billing.reports.keeping`).
"""

from __future__ import annotations

from django.db import models

from billing.models.gpu_time import _cost, _gpu_seconds
from tenants.managers import TenantManager
from tenants.models import Tenant


class _GpuTime(models.Model):
    """Seconds of whole GPUs by what was done in them, as :class:`~billing.models.HeldHour` tells them apart."""

    queued = _gpu_seconds()
    loading = _gpu_seconds()
    serving = _gpu_seconds()
    idle = _gpu_seconds()
    draining = _gpu_seconds()
    held = _gpu_seconds()

    class Meta:
        abstract = True


class _Served(models.Model):
    """What was served on GPU time, what that time costs at the price book, and what it cost its owner.

    ``input_tokens`` include ``cached_tokens``. ``planned_tokens`` are the output tokens that the plans of the revisions
    say the GPUs could have given in ``planned_seconds``, those of the serving seconds whose plan is known. ``amount``
    is in ``currency``, ``asset_cost`` in ``asset_currency``; ``idle_asset_cost`` is the part of it that was idle.
    """

    requests = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    planned_tokens = _cost()
    planned_seconds = _gpu_seconds()
    currency = models.CharField(max_length=3)
    amount = _cost()
    asset_currency = models.CharField(max_length=3, blank=True)
    asset_cost = _cost()
    idle_asset_cost = _cost()

    class Meta:
        abstract = True


class _OfEndpoint(_GpuTime, _Served):
    """Belonging as of then. What was served counts the requests of all tenants who used the endpoint."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_index=False)
    project_id = models.UUIDField()
    endpoint_id = models.UUIDField()
    cluster = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    pool = models.CharField(max_length=40)
    gpu_type = models.CharField(max_length=40)
    model = models.CharField(max_length=80, blank=True)
    slo_class = models.CharField(max_length=40, blank=True)

    objects = TenantManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"


class EndpointDay(_OfEndpoint):
    """A revision's GPU time and what it served on one UTC day."""

    day = models.DateField()
    revision_id = models.UUIDField()

    class Meta(_OfEndpoint.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "tenant", "day", "endpoint_id", "revision_id", "project_id", "cluster", "pool", "gpu_type",
                    "asset_currency",
                ],
                name="endpoint_day_once",
            )
        ]  # fmt: skip
        # The operators' reports: which tenants and endpoints come first over some days, read from the index alone.
        indexes = [
            models.Index(
                fields=["day"],
                include=["tenant", "project_id", "endpoint_id", "held", "serving", "amount"],
                name="endpoint_day_ranks",
            )
        ]


class EndpointMonth(_OfEndpoint):
    """The same by calendar month (UTC); ``month`` is its first day."""

    month = models.DateField()

    class Meta(_OfEndpoint.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "tenant", "month", "endpoint_id", "project_id", "cluster", "region", "pool", "gpu_type", "model",
                    "slo_class", "currency", "asset_currency",
                ],
                name="endpoint_month_once",
            )
        ]  # fmt: skip
        indexes = [models.Index(fields=["month"], name="endpoint_month_month")]


class ModelDay(_GpuTime, _Served):
    """All tenants' endpoints of one model and class on one GPU type on one UTC day."""

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()
    model = models.CharField(max_length=80, blank=True)
    slo_class = models.CharField(max_length=40, blank=True)
    gpu_type = models.CharField(max_length=40)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["day", "model", "slo_class", "gpu_type", "currency", "asset_currency"],
                name="model_day_once",
            )
        ]


class ReportDay(models.Model):
    """When the rows of one UTC day were last made for the reports."""

    day = models.DateField(primary_key=True)
    kept_at = models.DateTimeField()
