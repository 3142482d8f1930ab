from tenants.models.base import Identified, TenantOwned, new_id
from tenants.models.idempotency import IdempotencyRecord, OperatorIdempotencyRecord
from tenants.models.keys import ApiKey, KeyScope
from tenants.models.limits import RateLimited
from tenants.models.people import Membership, PlatformRole, Role, User
from tenants.models.quotas import Quota
from tenants.models.tenants import Project, Tenant

__all__ = [
    "ApiKey",
    "IdempotencyRecord",
    "Identified",
    "KeyScope",
    "Membership",
    "OperatorIdempotencyRecord",
    "PlatformRole",
    "Project",
    "Quota",
    "RateLimited",
    "Role",
    "Tenant",
    "TenantOwned",
    "User",
    "new_id",
]
