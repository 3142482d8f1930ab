"""Keeping the findings: some endpoints every hour, each a few times a day."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterable, Sequence
from typing import Final

from django.db import transaction

from clusters.endpoints.savings.finding import Found, Held, Rates, find_idle, find_smaller, held_of
from clusters.models import Endpoint, Saving, Wanted
from tenants import locks, scope
from tenants.errors import Invalid
from tenants.validation import clean

log = logging.getLogger(__name__)

#: Each endpoint is looked at in one of so many hours: planning takes tens of milliseconds each.
SHARES: Final = 6
MOST: Final = 1_000
LONGEST_DISMISSAL: Final = dt.timedelta(days=366)


def savings_keep(*, now: dt.datetime, everything: bool = False) -> int:
    """Look at the endpoints whose turn it is, or at all; give how many findings there are of them.

    At most :data:`MOST` are looked at. Nothing is done while another worker is at it.
    """
    with locks.claimed("find:savings") as mine:
        if not mine:
            return 0
        until = now.astimezone(dt.UTC).date()
        with scope.platform("find endpoints whose savings are looked for"):
            endpoints = [each for each in _running() if everything or _turn(each.id, now)][:MOST]
            held = held_of([each.id for each in endpoints], until=until)
            rates = Rates(until=until)
        # A transaction for each: a long one would hold up the roll-up of usage.
        return sum(_look(each, held.get(each.id), rates, now) for each in endpoints)


def _running() -> Iterable[Endpoint]:
    rows = Endpoint.objects.live().filter(wanted=Wanted.RUNNING, ready_at__isnull=False)
    return rows.select_related("tenant", "project", "model", "slo_class", "cluster").order_by("id")


def _turn(endpoint_id: uuid.UUID, now: dt.datetime) -> bool:
    return endpoint_id.int % SHARES == now.hour % SHARES


def _look(endpoint: Endpoint, held: Held | None, rates: Rates, now: dt.datetime) -> int:
    try:
        with scope.tenant(endpoint.tenant_id):
            idle = find_idle(endpoint, held)
            # An endpoint that nobody calls needs no plan, but an end.
            smaller = [] if idle and held and not held.requests else find_smaller(endpoint, held, rates)
            found = [*([idle] if idle else []), *smaller]
            _write(endpoint, found, now)
    except Exception:
        log.exception("what endpoint %s could save cannot be found", endpoint.id)
        return 0
    return len(found)


def _write(endpoint: Endpoint, found: Sequence[Found], now: dt.datetime) -> None:
    Saving.objects.filter(endpoint=endpoint).exclude(kind__in=[each.kind for each in found]).delete()
    for each in found:
        Saving.objects.update_or_create(
            tenant_id=endpoint.tenant_id,
            endpoint=endpoint,
            kind=each.kind,
            defaults={
                "what": each.what,
                "amount": round(each.amount, 4),
                "currency": endpoint.tenant.currency,
                "asset_amount": None if each.asset_amount is None else round(each.asset_amount, 4),
                "asset_currency": each.asset_currency,
                "gpu_hours": round(each.gpu_hours, 4),
                "how": list(each.how),
                "computed_at": now,
            },
        )


@transaction.atomic
def saving_dismiss(
    *, saving: Saving, reason: str, until: dt.datetime, actor: str, now: dt.datetime
) -> Saving:
    """Put a finding off until a moment, for a reason that others can read.

    Raises:
        Invalid: there is no reason, or the moment is past or more than a year away.
    """
    reason = reason.strip()
    errors = {}
    if not reason:
        errors["reason"] = ["Say why, for those who come after you."]
    if not now < until <= now + LONGEST_DISMISSAL:
        errors["until"] = [f"Choose a day within the next {LONGEST_DISMISSAL.days} days."]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)
    saving.dismissed_reason, saving.dismissed_until, saving.dismissed_by = reason, until, actor
    clean(saving)
    saving.save(update_fields=["dismissed_reason", "dismissed_until", "dismissed_by"])
    return saving
