"""The tenant scope: which tenant's rows the running code may see.

The scope lives in a context variable for the explicit filters of :class:`tenants.managers.TenantManager`
and, for the same block, as a transaction-local setting in PostgreSQL for row-level security. Both end
with the block, so that neither a pooled connection nor a worker thread can carry it on.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import logging
import uuid
from collections.abc import Iterator

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from tenants import acting

log = logging.getLogger(__name__)


class ScopeError(RuntimeError):
    """Tenant-owned rows were touched outside a scope, or a scope was opened for no tenant."""


@dataclasses.dataclass(frozen=True)
class Scope:
    """Either one tenant, or the platform with the reason why all tenants' rows are needed."""

    tenant_id: uuid.UUID | None = None
    platform_reason: str = ""

    @property
    def is_platform(self) -> bool:
        return bool(self.platform_reason)


@dataclasses.dataclass(frozen=True)
class _Open:
    """A scope, and the connection whose transaction carries its settings."""

    scope: Scope
    carrier: object


_open: contextvars.ContextVar[_Open | None] = contextvars.ContextVar("berth_scope", default=None)


def current() -> Scope:
    """Give the open scope.

    Raises:
        ScopeError: there is none, or it is open on another thread's connection.
    """
    opened = _open.get()
    if opened is None:
        raise ScopeError(
            "Tenant-owned rows were asked for outside a tenant scope; wrap the code in tenants.scope.tenant(...)."
        )
    if opened.carrier is not connections[DEFAULT_DB_ALIAS]:
        raise ScopeError(
            "The scope came along into another thread, whose connection knows nothing of it; open one there."
        )
    return opened.scope


def is_open() -> bool:
    """Say whether there is an open scope."""
    return _open.get() is not None


def current_tenant_id() -> uuid.UUID:
    """Give the tenant of the open scope.

    Raises:
        ScopeError: there is no scope, or it is the platform's.
    """
    scope = current()
    if scope.tenant_id is None:
        raise ScopeError("This code needs the scope of one tenant, not the platform's.")
    return scope.tenant_id


@contextlib.contextmanager
def tenant(tenant_id: uuid.UUID | str) -> Iterator[None]:
    """See and write the rows of one tenant for the length of the block, in one transaction."""
    with _enter(Scope(tenant_id=uuid.UUID(str(tenant_id)))):
        yield


@contextlib.contextmanager
def platform(reason: str) -> Iterator[None]:
    """See and write every tenant's rows for the length of the block, in one transaction.

    This is the door of Berth's own work, for which ``reason`` is logged. People who look across tenants come
    through :func:`tenants.across.across_tenants`, which writes down who looked at what.

    Raises:
        ScopeError: no reason was given.
    """
    if not reason.strip():
        raise ScopeError("Say why rows of all tenants are needed.")
    log.debug("platform scope: %s", reason)
    with _enter(Scope(platform_reason=reason)):
        yield


@contextlib.contextmanager
def _enter(scope: Scope) -> Iterator[None]:
    outer, nested = _open.get(), connection.in_atomic_block
    with transaction.atomic():
        _apply(scope)
        token = _open.set(_Open(scope, connections[DEFAULT_DB_ALIAS]))
        try:
            yield
        finally:
            # Before the transaction ends: what waits for its commit runs in no scope.
            _open.reset(token)
        # Inside an outer block the transaction goes on, so its own settings come back; after an error the
        # rollback brings them back. The settings end with the outermost transaction by themselves.
        if nested and not connection.needs_rollback:
            _apply(outer.scope if outer else None)


def _apply(scope: Scope | None) -> None:
    tenant_id = str(scope.tenant_id) if scope and scope.tenant_id else ""
    platform_on = "on" if scope and scope.is_platform else ""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('berth.tenant', %s, true), set_config('berth.platform', %s, true), "
            "set_config('berth.actor', %s, true)",
            [tenant_id, platform_on, acting.told()],
        )
