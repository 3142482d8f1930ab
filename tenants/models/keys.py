"""API keys: for calling models (inference) or for automation (management)."""

from __future__ import annotations

import datetime as dt
import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from tenants.managers import TenantManager, TenantQuerySet
from tenants.models.base import TenantOwned
from tenants.models.limits import RateLimited
from tenants.models.people import Role, User
from tenants.models.service_accounts import ServiceAccount
from tenants.models.tenants import Project
from tenants.networks import known_networks


class KeyScope(models.TextChoices):
    INFERENCE = "inference"
    MANAGEMENT = "management"


class ApiKeyQuerySet(TenantQuerySet):
    def usable(self, now: dt.datetime) -> ApiKeyQuerySet:
        """Those neither revoked nor expired at ``now``, whose service account, if they have one, is active."""
        return (
            self.filter(revoked_at=None)
            .filter(Q(expires_at=None) | Q(expires_at__gt=now))
            .filter(Q(service_account=None) | Q(service_account__active=True))
        )


class ApiKey(RateLimited, TenantOwned):
    """A key as it rests: its first characters to recognise it by, and an HMAC of the whole.

    Inference keys may be limited: in rates, in ``context_tokens`` of a request with its answer, and to
    ``slo_class``, the name of a class that holds for its requests where it is lower than the endpoint's.

    What a key reaches may be narrowed, whatever it is for: ``networks`` from which it may be used, ``verbs`` it may be
    used for (:mod:`tenants.reach`), and, of inference keys, ``endpoints`` or named routes that it may call; of
    management keys, the ``projects`` whose objects it sees. Empty lists narrow nothing.

    A key that took another's place knows the ids of those before it, the first one first, as ``earlier``: limits,
    budgets and rules of routes go on holding for all of them together.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, null=True, blank=True, related_name="keys")
    name = models.CharField(max_length=80)
    scope = models.CharField(max_length=16, choices=KeyScope)
    role = models.CharField(max_length=16, choices=Role, blank=True)
    service_account = models.ForeignKey(
        ServiceAccount, on_delete=models.PROTECT, null=True, blank=True, related_name="keys"
    )
    networks = ArrayField(
        models.CharField(max_length=43), default=list, blank=True, validators=[known_networks],
        help_text="From which it may be used, as CIDR. Empty: from anywhere.",
    )  # fmt: skip
    endpoints = ArrayField(models.UUIDField(), default=list, blank=True)
    verbs = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    projects = ArrayField(models.UUIDField(), default=list, blank=True)
    hint = models.CharField(max_length=16, help_text="The first characters, to recognise the key by.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    pepper_id = models.PositiveSmallIntegerField(editable=False)
    ephemeral = models.BooleanField(
        default=False, help_text="Minted by the portal for its playground, or for an evaluation."
    )
    revision = models.UUIDField(
        null=True, blank=True, editable=False,
        help_text="The one revision that answers its requests, for evaluations. Empty: any.",
    )  # fmt: skip
    slo_class = models.CharField(max_length=40, blank=True)
    context_tokens = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(2)])
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(
        null=True, blank=True, help_text="To the minute; of inference keys, as usage tells it."
    )
    last_used_from = models.GenericIPAddressField(
        null=True, blank=True, help_text="Of management keys; where models are called from is kept nowhere."
    )
    earlier = ArrayField(models.UUIDField(), default=list, blank=True, editable=False)
    replaced_by = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="replaces", editable=False
    )
    rotated_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")

    objects = TenantManager.of(ApiKeyQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(scope=KeyScope.MANAGEMENT, role__gt="", service_account=None, project=None)
                | Q(scope=KeyScope.MANAGEMENT, role="", service_account__isnull=False, project=None)
                | Q(scope=KeyScope.INFERENCE, role="", project__isnull=False),
                name="key_has_role_or_project",
            ),
            models.CheckConstraint(
                condition=Q(scope=KeyScope.INFERENCE, projects=[], last_used_from=None)
                | Q(scope=KeyScope.MANAGEMENT, endpoints=[]),
                name="key_reach_goes_with_scope",
            ),
            models.CheckConstraint(
                condition=Q(revision=None) | Q(scope=KeyScope.INFERENCE, ephemeral=True),
                name="key_of_a_revision_is_ephemeral",
            ),
            models.CheckConstraint(
                condition=Q(replaced_by=None, rotated_at=None)
                | Q(replaced_by__isnull=False, rotated_at__isnull=False),
                name="key_rotated_when_replaced",
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
        """Say whether the key is active, expired, revoked, or of a disabled service account at ``now``."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at and self.expires_at <= now:
            return "expired"
        return "active" if self.service_account is None or self.service_account.active else "disabled"

    @property
    def acting_role(self) -> str:
        """The role with which a management key acts: its own, or that of its service account as of now."""
        return self.service_account.role if self.service_account and not self.project_id else self.role

    @property
    def seen_projects(self) -> frozenset[uuid.UUID] | None:
        """The projects whose objects a management key sees, None for the whole tenant."""
        lists = [frozenset(self.projects)] if self.projects else []
        if self.service_account and self.service_account.projects:
            lists.append(frozenset(self.service_account.projects))
        return frozenset.intersection(*lists) if lists else None

    @property
    def line(self) -> tuple[uuid.UUID, ...]:
        """The key and those whose place it took, the first one first."""
        return (*self.earlier, self.id)
