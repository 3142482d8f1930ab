"""Short ways to the rows that tests need."""

from __future__ import annotations

import itertools

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection

from tenants import scope, services
from tenants.keys import key_mint
from tenants.models import AuditEntry, KeyScope, Project, Role, Tenant, User

_numbers = itertools.count(1)


def make_user(email: str = "", *, password: str = "a long enough secret", **fields) -> User:
    """Make a person."""
    return User.objects.create_user(email or f"person{next(_numbers)}@example.org", password, **fields)


def make_tenant(slug: str = "", *, owner: User | None = None, gpus: int = 8, **fields) -> Tenant:
    """Make a tenant with an owner, the project ``default`` and a quota of ``gpus`` GPUs."""
    slug = slug or f"tenant{next(_numbers)}"
    return services.tenant_create(
        name=fields.pop("name", slug.title()), slug=slug, owner=owner or make_user(), gpus=gpus, **fields
    )


def default_project(tenant: Tenant) -> Project:
    """Give the tenant's first project."""
    with scope.tenant(tenant.id):
        return Project.objects.get(slug="default")


def management_key(tenant: Tenant, role: str = Role.OWNER) -> str:
    """Mint a management key and give its text."""
    with scope.tenant(tenant.id):
        return key_mint(name=f"{role} key", key_scope=KeyScope.MANAGEMENT, role=role)[1]


def session_of(user: User) -> str:
    """Sign a person in and give the session's key."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return session.session_key


def audit_entries(tenant: Tenant | None = None, **filters) -> list[AuditEntry]:
    """Give a tenant's entries of the audit, or the platform's, the oldest first: also those of this transaction."""
    with scope.platform("a test reads the audit"):
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at the end of the transaction
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        return list(AuditEntry.objects.filter(tenant=tenant, **filters).order_by("number"))
