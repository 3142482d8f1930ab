"""Tenants and their projects."""

from __future__ import annotations

import zoneinfo

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower

from tenants.models.base import Identified, TenantOwned

slug_rule = RegexValidator(
    r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
    "Use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
)


def known_zone(name: str) -> None:
    """Refuse a time zone that the zone database does not hold."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name!r} is not a time zone; use a name such as Europe/Berlin or UTC.")


class Tenant(Identified):
    """An organisation."""

    class State(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=40, unique=True, validators=[slug_rule])
    time_zone = models.CharField(max_length=64, default="UTC", validators=[known_zone])
    currency = models.CharField(max_length=3, default="EUR")
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Project(TenantOwned):
    """A cost centre inside a tenant."""

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=40, validators=[slug_rule])
    cost_centre = models.CharField(max_length=64, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                "tenant_id",
                Lower("slug"),
                name="project_slug_in_tenant",
                violation_error_message="A project of this name exists already; choose another slug.",
            ),
        ]

    def __str__(self) -> str:
        return self.name
