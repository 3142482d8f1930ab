"""Who vouches for people besides passwords: sign-in providers, their groups, invitations."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.managers import TenantManager, TenantQuerySet
from tenants.models.base import Identified, TenantOwned
from tenants.models.people import PlatformRole, Role, User
from tenants.sealing import SealedBinaryField

#: In a mapping: everybody whom the provider signs in, whatever their groups.
EVERYBODY: Final = "*"

domain_rule = RegexValidator(
    r"^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$",
    "Write a domain such as example.org, in lower case.",
)


class MaybeTenants(Identified):
    """A row of one tenant or, without one, of the platform, which tenants do not see."""

    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )

    objects = TenantManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"


class IdentityProvider(MaybeTenants):
    """An OpenID Connect provider: the platform's, for everybody, or one tenant's.

    Its id stands in the address that the provider sends people back to. ``client_secret`` is sealed.
    ``second_factor`` says that the provider itself asks for one, so that Berth need not.
    """

    name = models.CharField(max_length=40, help_text="What the button says.")
    issuer = models.CharField(max_length=300)
    client_id = models.CharField(max_length=191)
    client_secret = SealedBinaryField(null=True)
    scopes = models.CharField(max_length=200, default="openid profile email")
    groups_claim = models.CharField(max_length=80, default="groups")
    makes_accounts = models.BooleanField(default=True)
    second_factor = models.BooleanField(default=False)
    active = models.BooleanField(default=True)

    class Meta(MaybeTenants.Meta):
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class EmailDomain(MaybeTenants):
    """A domain whose addresses a provider speaks for, once an operator has confirmed that it is theirs."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="domains")
    domain = models.CharField(max_length=253, validators=[domain_rule])
    confirmed_at = models.DateTimeField(null=True, editable=False)
    confirmed_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )

    class Meta(MaybeTenants.Meta):
        ordering = ["domain"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "domain"], name="domain_once_per_provider"),
            # What nobody confirmed keeps nobody out: a domain cannot be reserved by naming it.
            models.UniqueConstraint(
                fields=["domain"], condition=Q(confirmed_at__isnull=False), name="domain_of_one_provider"
            ),
        ]

    def __str__(self) -> str:
        return self.domain


class GroupMapping(MaybeTenants):
    """What a group of a provider's may do: a role in a tenant or, for the platform's providers, a platform role."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="mappings")
    group = models.CharField(max_length=200)
    role = models.CharField(max_length=16, choices=Role, blank=True)
    platform_role = models.CharField(max_length=16, choices=PlatformRole, blank=True)

    class Meta(MaybeTenants.Meta):
        ordering = ["group"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "group", "tenant"],
                nulls_distinct=False,
                name="mapping_once_per_group",
                violation_error_message="This group is mapped already; remove that mapping first.",
            ),
            models.CheckConstraint(
                condition=(
                    (Q(tenant__isnull=False) & ~Q(role="") & Q(platform_role=""))
                    | (Q(tenant__isnull=True) & Q(role="") & ~Q(platform_role=""))
                ),
                name="mapping_to_one_role",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group}: {self.role or self.platform_role}"


class ProviderIdentity(Identified):
    """A person as a provider knows them, with the groups that it told last.

    ``refresh_token`` and ``access_token`` are sealed; with them the provider is asked again at ``checked_at`` plus
    ``SSO_RECHECK_MINUTES``.
    """

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="identities")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="identities")
    subject = models.CharField(max_length=191)
    groups = ArrayField(models.CharField(max_length=200), default=list)
    access_token = SealedBinaryField(null=True)
    refresh_token = SealedBinaryField(null=True)
    checked_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "subject"], name="identity_once_per_subject")
        ]

    def __str__(self) -> str:
        return f"{self.user} at {self.provider}"


class InvitationQuerySet(TenantQuerySet):
    def open(self, now: dt.datetime) -> InvitationQuerySet:
        """Those that can still be accepted."""
        return self.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)


class Invitation(TenantOwned):
    """A person asked to join. Of the link's token only its HMAC is kept."""

    email = models.EmailField()
    role = models.CharField(max_length=16, choices=Role)
    invited_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    pepper_id = models.PositiveIntegerField(editable=False)
    sent_at = models.DateTimeField(editable=False)
    expires_at = models.DateTimeField(editable=False)
    accepted_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = TenantManager.of(InvitationQuerySet)

    class Meta(TenantOwned.Meta):
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "email"],
                condition=Q(accepted_at=None, revoked_at=None),
                name="invitation_once_per_address",
                violation_error_message="This person is invited already; send the invitation again, or revoke it.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.email} ({self.role})"

    @property
    def state(self) -> str:
        """Give ``accepted``, ``revoked``, ``expired`` or ``pending``."""
        if self.accepted_at:
            return "accepted"
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at <= timezone.now() else "pending"


class CacheEntry(models.Model):
    """What :mod:`tenants.identity.cache` keeps for all processes: counts of attempts, codes that were used."""

    key = models.CharField(primary_key=True, max_length=250)
    value = models.JSONField()
    expires_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="cache_expired")]

    def __str__(self) -> str:
        return self.key
