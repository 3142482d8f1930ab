from tenants.models.audit import AuditEntry, AuditHead
from tenants.models.base import Identified, TenantOwned, new_id
from tenants.models.idempotency import IdempotencyRecord, OperatorIdempotencyRecord
from tenants.models.identity import (
    EVERYBODY,
    CacheEntry,
    EmailDomain,
    GroupMapping,
    IdentityProvider,
    Invitation,
    ProviderIdentity,
)
from tenants.models.keys import ApiKey, KeyScope
from tenants.models.limits import RateLimited
from tenants.models.people import SUPERUSER, Membership, PlatformRole, Role, User
from tenants.models.quotas import Quota
from tenants.models.sealing import SealingRotation
from tenants.models.service_accounts import ServiceAccount
from tenants.models.tenants import Project, SecondFactorOf, Tenant
from tenants.models.webhooks import Mail, OutboxState, WebhookDelivery, WebhookEndpoint

__all__ = [
    "EVERYBODY",
    "SUPERUSER",
    "ApiKey",
    "AuditEntry",
    "AuditHead",
    "CacheEntry",
    "EmailDomain",
    "GroupMapping",
    "IdempotencyRecord",
    "Identified",
    "IdentityProvider",
    "Invitation",
    "KeyScope",
    "Mail",
    "Membership",
    "OperatorIdempotencyRecord",
    "OutboxState",
    "PlatformRole",
    "Project",
    "ProviderIdentity",
    "Quota",
    "RateLimited",
    "Role",
    "SealingRotation",
    "SecondFactorOf",
    "ServiceAccount",
    "Tenant",
    "TenantOwned",
    "User",
    "WebhookDelivery",
    "WebhookEndpoint",
    "new_id",
]
