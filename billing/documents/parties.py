"""Who a statement is from and for, as it says so."""

from __future__ import annotations

import dataclasses

from django.conf import settings

from billing.models import Statement


@dataclasses.dataclass(frozen=True)
class Parties:
    """The issuer, the tenant and the zone whose calendar the tenant's months follow."""

    issuer: str
    tenant: str
    time_zone: str


def parties_of(statement: Statement) -> Parties:
    """Give who ``statement`` is between, as they were called then."""
    return Parties(settings.FOCUS_INVOICE_ISSUER_NAME, statement.tenant_name, statement.time_zone)
