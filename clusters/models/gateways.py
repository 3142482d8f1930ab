"""Gateways that may pull snapshots and ship usage."""

from __future__ import annotations

from django.db import models

from clusters.models.clusters import Region
from tenants.models import Identified
from tenants.models.tenants import slug_rule


class Gateway(Identified):
    """One gateway process: its region, how clients reach it, and the digest of its token."""

    name = models.SlugField(max_length=40, unique=True, validators=[slug_rule])
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="gateways")
    public_url = models.URLField(blank=True)
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    snapshot_version = models.CharField(max_length=32, blank=True, help_text="What it held when last seen.")
    confirmed_at = models.DateTimeField(
        null=True, blank=True, help_text="When it last held what was then the newest snapshot."
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
