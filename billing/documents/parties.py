"""Who a statement is from and for, as it says so."""

from __future__ import annotations

import dataclasses

from django.conf import settings

from billing.models import Statement
from tenants.models import Tenant


@dataclasses.dataclass(frozen=True)
class Parties:
    """The issuer, the tenant and the zone whose calendar the tenant's months follow."""

    issuer: str
    tenant: str
    time_zone: str


def parties_of(statement: Statement) -> Parties:
    """Give who ``statement`` is between."""
    tenant = Tenant.objects.get(id=statement.tenant_id)
    return Parties(settings.FOCUS_INVOICE_ISSUER_NAME, tenant.name, tenant.time_zone)
