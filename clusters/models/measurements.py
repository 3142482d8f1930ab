"""What replays measured on pools: rows of the planner's table."""

from __future__ import annotations

from django.db import models

from clusters.models.catalog import CatalogModel
from clusters.models.clusters import NodePool
from tenants.models import Identified


class PoolMeasurement(Identified):
    """How fast one shape of a model was on a pool's GPUs, by a report of ``python -m gateway.replay``.

    The shape is what served: ``replicas`` of ``tensor_parallel`` x ``pipeline_parallel`` GPUs. The load is what was
    sent, lengths in tokens; times are milliseconds, means beside percentiles. ``digest`` names the report, without its
    single answers. Rows never change; one is removed to undo it.
    """

    pool = models.ForeignKey(NodePool, on_delete=models.CASCADE, related_name="measurements")
    model = models.ForeignKey(CatalogModel, on_delete=models.CASCADE, related_name="measurements")
    runtime = models.CharField(max_length=40)
    engine_version = models.CharField(max_length=40, blank=True)
    precision = models.CharField(max_length=16)
    tensor_parallel = models.PositiveSmallIntegerField()
    pipeline_parallel = models.PositiveSmallIntegerField()
    replicas = models.PositiveIntegerField()
    max_batch_size = models.PositiveIntegerField()
    max_num_tokens = models.PositiveIntegerField()

    digest = models.CharField(max_length=64)
    target = models.CharField(max_length=120)
    speed = models.FloatField()
    measured_at = models.DateTimeField()
    measured_by = models.CharField(max_length=200)

    requests = models.PositiveIntegerField()
    failed_percent = models.FloatField()
    seconds = models.FloatField()
    requests_per_second = models.FloatField()
    input_tokens = models.PositiveIntegerField()
    output_tokens = models.PositiveIntegerField()
    input_cv = models.FloatField()
    output_cv = models.FloatField()
    burstiness = models.FloatField()
    prefix_share = models.FloatField()
    in_flight = models.FloatField(help_text="Requests at once at each replica, on average.")
    output_tokens_per_s_per_gpu = models.FloatField()
    ttft_mean_ms = models.FloatField()
    ttft_p50_ms = models.FloatField()
    ttft_p95_ms = models.FloatField()
    ttft_p99_ms = models.FloatField()
    itl_mean_ms = models.FloatField()
    itl_p50_ms = models.FloatField()
    itl_p95_ms = models.FloatField()
    itl_p99_ms = models.FloatField()

    class Meta:
        ordering = ["-measured_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["pool", "digest", "target", "speed"], name="pool_measurement_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.pool}, {self.measured_at:%Y-%m-%d %H:%M}"
