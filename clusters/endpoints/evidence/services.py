"""Making evidence."""

from __future__ import annotations

import datetime as dt

from clusters.endpoints.evidence.gather import gather, period_of
from clusters.endpoints.evidence.packing import pack
from clusters.models import Endpoint
from tenants import acting
from tenants.audit.writing import note


def evidence_make(*, endpoint: Endpoint, first: dt.date, end: dt.date, now: dt.datetime, by: str) -> bytes:
    """Give the signed evidence of an endpoint for the UTC days from ``first`` to before ``end``, as a zip.

    The tenant's audit tells that it was made.

    Raises:
        Invalid: the period is empty or too long.
        SigningNotSetUp: there is no key to sign with.
    """
    packed = pack(gather(endpoint=endpoint, period=period_of(first, end), now=now, by=by))
    note(
        "evidence.make",
        actor=None if acting.actor() != acting.NOBODY else acting.Actor("system", name=by),
        tenant_id=endpoint.tenant_id,
        target=("endpoint", str(endpoint.id), endpoint.name),
        facts={"from": first.isoformat(), "to": end.isoformat()},
    )
    return packed


def evidence_name(endpoint: Endpoint, first: dt.date, end: dt.date) -> str:
    """Give the name of its file."""
    return f"evidence-{endpoint.tenant.slug}-{endpoint.name}-{first:%Y%m%d}-{end:%Y%m%d}.zip"
