"""Models that may be ordered."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models

from tenants.models import Identified

model_name_rule = RegexValidator(
    r"^[a-z0-9]([a-z0-9._-]{0,78}[a-z0-9])?$",
    "Use lower-case letters, digits, dots, hyphens and underscores, beginning and ending with a letter or digit.",
)


class CatalogModel(Identified):
    """A model of the catalog. ``architecture`` holds the numbers the planner reads.

    Keys of ``architecture``: parameters, active_parameters, layers, hidden, heads, kv_heads, head_size,
    vocabulary (all whole numbers).
    """

    name = models.CharField(max_length=80, unique=True, validators=[model_name_rule])
    title = models.CharField(max_length=120)
    description = models.TextField()
    licence = models.CharField(max_length=80)
    allowed_zones = ArrayField(
        models.CharField(max_length=40), default=list, blank=True, help_text="Empty: anywhere."
    )
    runtimes = ArrayField(models.CharField(max_length=40), default=list)
    precisions = ArrayField(models.CharField(max_length=16), default=list)
    architecture = models.JSONField(default=dict)
    context_tokens = models.PositiveIntegerField()
    chat_template = models.TextField()
    derived_from = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="variants"
    )
    published = models.BooleanField(default=True)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title
