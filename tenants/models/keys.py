"""API keys: for calling models (inference) or for automation (management)."""

from __future__ import annotations

import datetime as dt

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from tenants.managers import TenantManager, TenantQuerySet
from tenants.models.base import TenantOwned
from tenants.models.limits import RateLimited
from tenants.models.people import Role, User
from tenants.models.tenants import Project


class KeyScope(models.TextChoices):
    INFERENCE = "inference"
    MANAGEMENT = "management"


class ApiKeyQuerySet(TenantQuerySet):
    def usable(self, now: dt.datetime) -> ApiKeyQuerySet:
        """Those neither revoked nor expired at ``now``."""
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=now))


class ApiKey(RateLimited, TenantOwned):
    """A key as it rests: its first characters to recognise it by, and an HMAC of the whole.

    Inference keys may be limited: in rates, in ``context_tokens`` of a request with its answer, and to
    ``slo_class``, the name of a class that holds for its requests where it is lower than the endpoint's.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, null=True, blank=True, related_name="keys")
    name = models.CharField(max_length=80)
    scope = models.CharField(max_length=16, choices=KeyScope)
    role = models.CharField(max_length=16, choices=Role, blank=True)
    hint = models.CharField(max_length=16, help_text="The first characters, to recognise the key by.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    pepper_id = models.PositiveSmallIntegerField(editable=False)
    ephemeral = models.BooleanField(default=False, help_text="Minted by the portal for its playground.")
    slo_class = models.CharField(max_length=40, blank=True)
    context_tokens = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(2)])
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    objects = TenantManager.of(ApiKeyQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(scope=KeyScope.MANAGEMENT, role__gt="", project=None)
                | Q(scope=KeyScope.INFERENCE, role="", project__isnull=False),
                name="key_has_role_or_project",
            ),
            models.CheckConstraint(
                condition=Q(scope=KeyScope.INFERENCE)
                | Q(slo_class="", context_tokens=None, requests_per_minute=None, tokens_per_minute=None),
                name="key_limits_are_of_inference",
                violation_error_message="Only inference keys have limits.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    def state(self, now: dt.datetime) -> str:
        """Say whether the key is active, expired or revoked at ``now``."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= now else "active"
