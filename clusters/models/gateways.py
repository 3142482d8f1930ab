"""Gateways that may pull snapshots and ship usage."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models

from clusters.models.clusters import Cluster, Region
from tenants.models import Identified
from tenants.models.tenants import slug_rule
from tenants.sealing import SealedBinaryField


class Gateway(Identified):
    """One gateway: its region, how clients reach it, and the digest of its token.

    With a ``cluster`` Berth runs it there, ``replicas`` pods of it; without, somebody else runs its process.
    """

    class State(models.TextChoices):
        ELSEWHERE = "elsewhere", "Run elsewhere"
        DEPLOYING = "deploying", "Deploying"
        RUNNING = "running", "Running"
        FAILED = "failed", "Failed"
        UNREACHABLE = "unreachable", "Unreachable"
        REMOVING = "removing", "Removing"

    name = models.SlugField(max_length=40, unique=True, validators=[slug_rule])
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="gateways")
    public_url = models.URLField(blank=True)
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    snapshot_version = models.CharField(max_length=32, blank=True, help_text="What it held when last seen.")
    confirmed_at = models.DateTimeField(
        null=True, blank=True, help_text="When it last held what was then the newest snapshot."
    )
    cluster = models.ForeignKey(
        Cluster, on_delete=models.PROTECT, null=True, blank=True, related_name="gateways"
    )
    replicas = models.PositiveSmallIntegerField(default=2, validators=[MinValueValidator(1)])
    storage_gib = models.PositiveSmallIntegerField(default=10, validators=[MinValueValidator(1)])
    token = SealedBinaryField(null=True, help_text="Sealed; only where Berth runs it.")
    state = models.CharField(max_length=16, choices=State, default=State.ELSEWHERE)
    state_reason = models.CharField(max_length=300, blank=True)
    ready_replicas = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
