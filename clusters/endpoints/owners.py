"""Keys, projects and tenants as gateways get them, with their limits."""

from __future__ import annotations

from gateway import contract
from tenants.models import ApiKey, Project, RateLimited, Tenant


def key(row: ApiKey) -> contract.Key:
    """Give an inference key."""
    return contract.Key(
        key_id=str(row.id),
        pepper_id=row.pepper_id,
        digest=row.digest,
        tenant_id=str(row.tenant_id),
        project_id=str(row.project_id),
        name=row.name,
        expires_at=row.expires_at,
        rates=rates(row),
        slo_class=row.slo_class,
        context_tokens=row.context_tokens,
        networks=tuple(row.networks),
        verbs=tuple(row.verbs),
        endpoints=tuple(map(str, row.endpoints)),
        earlier=tuple(map(str, row.earlier)),
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
