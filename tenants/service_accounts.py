"""What can be done to service accounts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.db.models.aggregates import Count
from django.utils import timezone

from tenants import reach, roles, scope
from tenants.announcements import announce
from tenants.errors import Forbidden, Invalid, OverQuota
from tenants.models import ApiKey, KeyScope, Role, ServiceAccount, Tenant, User
from tenants.services import quota_limits
from tenants.validation import clean

RESOURCE: Final = "service-accounts"
#: How many a tenant may have for which no quota was set.
USUAL_QUOTA: Final = 50


@transaction.atomic
def service_account_create(
    *,
    name: str,
    role: str,
    description: str = "",
    projects: Sequence[uuid.UUID] = (),
    created_by: User | None = None,
    granter_role: str = Role.OWNER,
    granted_by: ApiKey | None = None,
) -> ServiceAccount:
    """Make a service account in the open tenant.

    Raises:
        Forbidden: the role is above the granter's own, or the account could do what the key that asks may not.
        Invalid: the name is taken or malformed, or there is no such role or project.
        OverQuota: the tenant has as many as it may.
    """
    _check_role(role, granter_role, granted_by)
    account = ServiceAccount(
        tenant_id=scope.current_tenant_id(), name=name, description=description, role=role,
        projects=_projects(projects), created_by=created_by,
    )  # fmt: skip
    # Two at once would both find room for one more.
    Tenant.objects.select_for_update(no_key=True).get(id=account.tenant_id)
    limit = quota_limits().get(RESOURCE, USUAL_QUOTA)
    used = service_account_count()
    if used >= limit:
        raise OverQuota(
            f"The tenant has {used} service accounts and may have {limit}. Remove one, or ask for more.",
            resource=RESOURCE, limit=limit, used=used,
        )  # fmt: skip
    clean(account)
    account.save()
    return account


@transaction.atomic
def service_account_change(
    *,
    account: ServiceAccount,
    name: str | None = None,
    description: str | None = None,
    role: str | None = None,
    projects: Sequence[uuid.UUID] | None = None,
    active: bool | None = None,
    granter_role: str = Role.OWNER,
    granted_by: ApiKey | None = None,
) -> ServiceAccount:
    """Change what is given. Another role, other projects and disabling hold for its keys at once.

    Raises:
        Forbidden: the role it has or gets is above the granter's own, or could do what the key that asks may not.
        Invalid: the name is taken or malformed, there is no such role or project, or it has inference keys of
            projects that it would lose.
    """
    _check_role(account.role, granter_role, granted_by)
    if role is not None:
        _check_role(role, granter_role, granted_by)
    wishes: dict[str, Any] = {"name": name, "description": description, "role": role, "active": active}
    if projects is not None:
        wishes["projects"] = _projects(projects)
        _keep_projects_of_keys(account, wishes["projects"])
    changed = [
        field for field, wish in wishes.items() if wish is not None and wish != getattr(account, field)
    ]
    for field in changed:
        setattr(account, field, wishes[field])
    if changed:
        clean(account)
        account.save(update_fields=changed)
        announce()
    return account


@transaction.atomic
def service_account_remove(
    *, account: ServiceAccount, granter_role: str = Role.OWNER, granted_by: ApiKey | None = None
) -> None:
    """Remove an account and revoke all its keys. Its row stays for the history of its keys.

    Raises:
        Forbidden: its role is above the granter's own, or could do what the key that asks may not.
    """
    _check_role(account.role, granter_role, granted_by)
    now = timezone.now()
    ApiKey.objects.filter(service_account=account, revoked_at=None).update(revoked_at=now)
    account.active, account.removed_at = False, now
    account.save(update_fields=["active", "removed_at"])
    announce()


def service_account_count() -> int:
    """Count the open tenant's accounts."""
    return ServiceAccount.objects.filter(removed_at=None).count()


def service_accounts() -> QuerySet[ServiceAccount]:
    """Give the open tenant's accounts with how many usable keys each has and when one was used last."""
    now = timezone.now()
    usable = Q(keys__revoked_at=None) & (Q(keys__expires_at=None) | Q(keys__expires_at__gt=now))
    return (
        ServiceAccount.objects.filter(removed_at=None)
        .select_related("created_by")
        .annotate(
            key_count=Count("keys", filter=usable & Q(keys__id__isnull=False)),
            last_used_at=Max("keys__last_used_at"),
        )
    )


def _check_role(role: str, granter_role: str, granted_by: ApiKey | None) -> None:
    if role not in Role.values:
        raise Invalid(
            f"{role!r} is not a role.", errors={"role": [f"Choose one of {', '.join(Role.values)}."]}
        )
    if not roles.may_grant(granter_role, role):
        raise Forbidden(
            f"A member with role {granter_role} cannot make, change or remove a service account with role {role}."
        )
    reach.refuse_wider_role(role, granted_by)


def _projects(ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    found = list(dict.fromkeys(ids))
    if len(found) > reach.MOST_PROJECTS:
        text = f"Name at most {reach.MOST_PROJECTS} projects."
        raise Invalid(text, errors={"projects": [text]})
    reach.known_projects(found)
    return found


def _keep_projects_of_keys(account: ServiceAccount, projects: Sequence[uuid.UUID]) -> None:
    if not projects:
        return
    keys = ApiKey.objects.filter(service_account=account, scope=KeyScope.INFERENCE).usable(timezone.now())
    if (key := keys.exclude(project_id__in=projects).select_related("project").first()) is not None:
        text = f"Its key {key.name} calls models for the project {key.project.name}; revoke that key first."
        raise Invalid(text, errors={"projects": [text]})
