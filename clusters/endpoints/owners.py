"""Keys, projects and tenants as gateways get them, with their limits."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from decimal import Decimal
from typing import Final

from django.db.models import Count, DecimalField, Sum
from django.db.models.expressions import RawSQL

from gateway import contract
from tenants.models import ApiKey, KeyScope, Project, RateLimited, Tenant

_COLUMNS: Final = (
    "id", "pepper_id", "digest", "tenant_id", "project_id", "name", "expires_at", "requests_per_minute",
    "tokens_per_minute", "slo_class", "context_tokens", "networks", "verbs", "endpoints", "revision", "earlier",
)  # fmt: skip
#: Where a row's version lies: PostgreSQL writes another one with every change, whoever makes it.
_VERSIONS: Final = RawSQL(
    "hashtextextended(concat_ws(' ', tenants_apikey.id, tenants_apikey.xmin, tenants_apikey.ctid), 0)::numeric",
    [],
)
_lock: Final = threading.Lock()
_read: tuple[tuple[int, Decimal | None], tuple[contract.Key, ...]] = ((0, None), ())


def keys(now: dt.datetime) -> tuple[contract.Key, ...]:
    """Give the inference keys of active tenants that may be used at ``now``. Call it in the platform's scope.

    Gateways ask every few seconds and after every change, so that many keys are read only when one of them changed,
    and once for all gateways of a process. The database tells by the versions of their rows.
    """
    global _read
    rows = ApiKey.objects.usable(now).filter(scope=KeyScope.INFERENCE, tenant__state=Tenant.State.ACTIVE)
    with _lock:
        found = rows.aggregate(count=Count("id"), versions=Sum(_VERSIONS, output_field=DecimalField()))
        mark = (found["count"], found["versions"])
        if _read[0] != mark:
            _read = (mark, tuple(_key(*row) for row in rows.order_by("id").values_list(*_COLUMNS)))
        return _read[1]


def _key(
    id: uuid.UUID,
    pepper_id: int,
    digest: str,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    name: str,
    expires_at: dt.datetime | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    slo_class: str,
    context_tokens: int | None,
    networks: list[str],
    verbs: list[str],
    endpoints: list[uuid.UUID],
    revision: uuid.UUID | None,
    earlier: list[uuid.UUID],
) -> contract.Key:
    return contract.Key(
        key_id=str(id),
        pepper_id=pepper_id,
        digest=digest,
        tenant_id=str(tenant_id),
        project_id=str(project_id),
        name=name,
        expires_at=expires_at,
        rates=contract.RateLimits(
            requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
        ),
        slo_class=slo_class,
        context_tokens=context_tokens,
        networks=tuple(networks),
        verbs=tuple(verbs),
        endpoints=tuple(map(str, endpoints)),
        revision_id="" if revision is None else str(revision),
        earlier=tuple(map(str, earlier)),
    )


def project(row: Project) -> contract.Project:
    """Give a project."""
    return contract.Project(
        project_id=str(row.id), tenant_id=str(row.tenant_id), name=row.name, rates=rates(row)
    )


def tenant(row: Tenant) -> contract.Tenant:
    """Give a tenant with what it chose."""
    return contract.Tenant(
        tenant_id=str(row.id),
        name=row.name,
        rates=rates(row),
        refuse_after_s=row.refuse_after_s,
        files_days=row.files_days,
        share=row.share,
    )


def rates(row: RateLimited) -> contract.RateLimits:
    """Give the limits a minute of whatever has some."""
    return contract.RateLimits(
        requests_per_minute=row.requests_per_minute, tokens_per_minute=row.tokens_per_minute
    )
