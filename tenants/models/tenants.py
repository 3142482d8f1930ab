"""Tenants and their projects."""

from __future__ import annotations

import functools
import zoneinfo
from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower

from tenants.models.base import Identified, TenantOwned
from tenants.models.limits import RateLimited

#: How long files and batches may be kept, in days.
MOST_FILES_DAYS: Final = 30

slug_rule = RegexValidator(
    r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
    "Use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
)


@functools.cache
def zones() -> frozenset[str]:
    """Give the names of all time zones; the zone database is hundreds of files, read once."""
    return frozenset(zoneinfo.available_timezones())


def known_zone(name: str) -> None:
    """Refuse a time zone that the zone database does not hold."""
    if name not in zones():
        raise ValidationError(f"{name!r} is not a time zone; use a name such as Europe/Berlin or UTC.")


class SecondFactorOf(models.TextChoices):
    """Which members a tenant demands a second factor of."""

    NOBODY = "", "Nobody"
    OWNERS = "owners"
    ALL = "all", "All members"


class Tenant(RateLimited, Identified):
    """An organisation.

    ``share`` and the rates are the operators' to set, ``refuse_after_s`` and ``files_days`` its own choice.
    """

    class State(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=40, unique=True, validators=[slug_rule])
    time_zone = models.CharField(max_length=64, default="UTC", validators=[known_zone])
    currency = models.CharField(max_length=3, default="EUR")
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    refuse_after_s = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(60), MaxValueValidator(366 * 86_400)],
        help_text="How long a gateway that hears nothing of Berth goes on serving it. Empty: for ever.",
    )  # fmt: skip
    files_days = models.PositiveSmallIntegerField(
        default=7, validators=[MinValueValidator(1), MaxValueValidator(MOST_FILES_DAYS)],
        help_text="How long files and batches are kept.",
    )  # fmt: skip
    share = models.FloatField(
        default=1, validators=[MinValueValidator(0.01), MaxValueValidator(100.0)],
        help_text="Its weight beside other tenants on shared endpoints.",
    )  # fmt: skip

    second_factor_of = models.CharField(
        max_length=8, choices=SecondFactorOf, blank=True, default=SecondFactorOf.NOBODY,
        help_text="Who needs a second factor to sign in.",
    )  # fmt: skip
    provider_only = models.BooleanField(
        default=False, help_text="Members but owners sign in by a provider, not by a password of Berth's."
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Project(RateLimited, TenantOwned):
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
