"""Immutable deployable specs of endpoints."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models

from clusters.models.clusters import Cluster, NodePool
from clusters.models.endpoints import Endpoint
from tenants.models import TenantOwned


class Revision(TenantOwned):
    """The plan's answer, as it is to be run. Only ``replicas`` moves, by scaling, and ``cleaned_at``.

    ``spec`` is the whole of it as the cluster gets it, see ``clusters.specs.DeploymentSpec``. The newest that is not
    retired is the current one; older ones that are not retired serve until it does.

    ``applied_at`` is written before anything is made on the cluster, so that a crash in between leaves a
    record to clean up by; ``cleaned_at`` once the cluster shows nothing of it any more.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    generation = models.PositiveIntegerField()
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="revisions")
    pool = models.ForeignKey(NodePool, on_delete=models.PROTECT, related_name="revisions")
    deployment = models.CharField(max_length=63, help_text="Its name on the cluster.")
    runtime = models.CharField(max_length=40)
    gpu_type = models.CharField(max_length=40)
    precision = models.CharField(max_length=16)
    tensor_parallel = models.PositiveSmallIntegerField()
    pipeline_parallel = models.PositiveSmallIntegerField()
    replicas = models.PositiveSmallIntegerField()
    price_factor = models.DecimalField(
        max_digits=6, decimal_places=3, default=Decimal(1), help_text="Of the SLO class, as it was quoted."
    )
    context_tokens = models.PositiveIntegerField()
    max_batch_size = models.PositiveIntegerField()
    plan = models.JSONField(help_text="The whole plan with reasons, as it was shown.")
    spec = models.JSONField(default=dict)
    restored_from = models.PositiveIntegerField(
        null=True, blank=True, help_text="Number of the revision copied."
    )
    policy_version = models.PositiveIntegerField(
        default=0, help_text="Of the tenant's policy under which it was placed. 0: there was none."
    )
    policy_exceptions = ArrayField(
        models.UUIDField(), default=list, blank=True, help_text="Exceptions that held for it then."
    )
    place = models.JSONField(
        null=True, blank=True,
        help_text="Region, country, zones and certifications of its cluster when it was placed there.",
    )  # fmt: skip
    terms = models.JSONField(
        default=dict, blank=True,
        help_text="Of the order as it was planned by: what is the order's again when this is restored.",
    )  # fmt: skip
    applied_at = models.DateTimeField(null=True, blank=True)
    shrunk_at = models.DateTimeField(
        null=True, blank=True,
        help_text="Since when it wants fewer replicas; its cluster is told once gateways send those none.",
    )  # fmt: skip
    grown_from = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="How many replicas it had before more were wanted, until those answer.",
    )
    retired_at = models.DateTimeField(null=True, blank=True, help_text="Since when it is no longer wanted.")
    cleaned_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint", "number"], name="revision_number"),
            models.UniqueConstraint(fields=["cluster", "deployment"], name="revision_deployment_name"),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint.name} r{self.number}"

    @property
    def gpus_per_replica(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


class RenderedConfiguration(TenantOwned):
    """What a cluster was told for a revision: name of each document and its text, as first applied."""

    revision = models.OneToOneField(Revision, on_delete=models.PROTECT, related_name="rendered")
    documents = models.JSONField()

    class Meta(TenantOwned.Meta):
        pass
