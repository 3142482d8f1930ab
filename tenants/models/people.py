"""People and what they may do."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower

from tenants.models.base import Identified, TenantOwned


class Role(models.TextChoices):
    """What a member may do inside a tenant; see :mod:`tenants.roles`."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


class PlatformRole(models.TextChoices):
    """What a person may do for the platform, across tenants."""

    NONE = "", "None"
    OPERATOR = "operator"
    FINANCE = "finance"
    AUDITOR = "auditor"


#: How the doors of the platform name whoever may do everything.
SUPERUSER = "superuser"


class UserManager(BaseUserManager):
    """Makes people by e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields):
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields):
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(Identified, AbstractBaseUser, PermissionsMixin):
    """A person, signed in by e-mail address."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    platform_role = models.CharField(
        max_length=16, choices=PlatformRole, blank=True, default=PlatformRole.NONE
    )
    platform_role_by = models.ForeignKey(
        "tenants.IdentityProvider", on_delete=models.PROTECT, null=True, related_name="+", editable=False,
        help_text="The provider whose groups give the platform role; none: it was given by hand.",
    )  # fmt: skip
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False, help_text="May use the Django admin.")

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: list[str] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def acts_as(self) -> str:
        """The role in which the console is open to this person; empty where it is not."""
        if not self.is_active:
            return ""
        return SUPERUSER if self.is_superuser else self.platform_role

    @property
    def acts_for_platform(self) -> bool:
        """Whether this person has rights across tenants, whichever."""
        return self.is_superuser or self.is_staff or bool(self.platform_role)


class Membership(TenantOwned):
    """A person's role in a tenant."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    managed_by = models.ForeignKey(
        "tenants.IdentityProvider", on_delete=models.PROTECT, null=True, related_name="+", editable=False,
        help_text="The provider whose groups decide the role; none: people do.",
    )  # fmt: skip

    class Meta(TenantOwned.Meta):
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "user"],
                name="one_membership_per_tenant",
                violation_error_message="This person is a member already.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"
