"""Runs of the rotation of sealing keys, for those who look whether one is needed or got stuck."""

from __future__ import annotations

from django.db import models

from tenants.models.base import Identified


class SealingRotation(Identified):
    """One run: under which key it wrapped values, and how far it came.

    ``left`` are values that others held or that do not open. Without ``ended_at`` it runs still, or was killed; what it
    had wrapped stays wrapped.
    """

    provider = models.CharField(max_length=40)
    key_id = models.CharField(max_length=200)
    with_data = models.BooleanField(default=False, help_text="The values got new data keys, too.")
    wrapped = models.PositiveBigIntegerField(default=0)
    left = models.PositiveBigIntegerField(default=0)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
