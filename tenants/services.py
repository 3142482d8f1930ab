"""What can be done to tenants, projects and quotas."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from tenants import scope
from tenants.announcements import announce
from tenants.errors import Invalid
from tenants.models import Membership, Project, Quota, Role, Tenant, User
from tenants.validation import clean


@transaction.atomic
def tenant_create(
    *, name: str, slug: str, owner: User, time_zone: str = "UTC", currency: str = "EUR", gpus: int = 0
) -> Tenant:
    """Make a tenant with its owner, a first project and its GPU quota."""
    tenant = Tenant(name=name, slug=slug, time_zone=time_zone, currency=currency)
    clean(tenant)
    with scope.platform("create a tenant"):
        tenant.save()
    with scope.tenant(tenant.id):
        Membership.objects.create(user=owner, role=Role.OWNER)
        project_create(name="Default", slug="default")
        quota_set(resource="gpus", limit=gpus)
        quota_set(resource="endpoints", limit=20)
    return tenant


@transaction.atomic
def tenant_open(
    *,
    name: str,
    slug: str,
    owner_email: str,
    owner_name: str = "",
    password: str = "",
    time_zone: str = "UTC",
    currency: str = "EUR",
    gpus: int = 0,
) -> Tenant:
    """Make a tenant whose owner is named by e-mail address, making their account when there is none.

    Without ``password`` a new account cannot sign in before its owner has chosen one by way of a reset.

    Raises:
        Invalid: the slug is taken, or the address or the password will not do.
    """
    email = owner_email.strip().lower()
    owner = User.objects.filter(email=email).first()
    if owner is None:
        owner = User(email=email, name=owner_name)
        if password:
            _check_password(password, owner)
        owner.set_password(password or None)
        try:
            clean(owner)
        except Invalid as error:
            found = {f"owner_{field}": texts for field, texts in error.errors.items()}
            raise Invalid(error.message, errors=found) from error
        owner.save()
    return tenant_create(name=name, slug=slug, owner=owner, time_zone=time_zone, currency=currency, gpus=gpus)


def _check_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid(error.messages[0], errors={"password": error.messages}) from error


@transaction.atomic
def project_create(
    *, name: str, slug: str, cost_centre: str = "", limits: Mapping[str, int | None] | None = None
) -> Project:
    """Make a project in the open tenant; ``limits`` are those of :mod:`tenants.limits`.

    Raises:
        Invalid: the slug is taken or malformed, or a limit is out of bounds.
    """
    project = Project(
        tenant_id=scope.current_tenant_id(), name=name, slug=slug, cost_centre=cost_centre, **(limits or {})
    )
    clean(project, identified_by="slug")
    project.save()
    announce()
    return project


@transaction.atomic
def project_change(*, project: Project, name: str | None = None, cost_centre: str | None = None) -> Project:
    """Change what is given of a project's name and cost centre."""
    wishes = {"name": name, "cost_centre": cost_centre}
    changed = [
        field for field, wish in wishes.items() if wish is not None and wish != getattr(project, field)
    ]
    for field in changed:
        setattr(project, field, wishes[field])
    if changed:
        clean(project, identified_by="slug")
        project.save(update_fields=changed)
        announce()
    return project


@transaction.atomic
def quota_set(*, resource: str, limit: int) -> Quota:
    """Set a quota of the open tenant."""
    quota, _ = Quota.objects.update_or_create(
        tenant_id=scope.current_tenant_id(), resource=resource, defaults={"limit": limit}
    )
    return quota


def quota_limits() -> dict[str, int]:
    """Give the open tenant's limits by resource."""
    return dict(Quota.objects.filter(tenant_id=scope.current_tenant_id()).values_list("resource", "limit"))
