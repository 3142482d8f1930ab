"""When endpoints were sold by the token to every tenant: clusters writes it, statements and pages read it."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection

from django.db.models import F, Q, Value
from django.db.models.functions import Greatest

from billing.models import SharedPeriod
from tenants import scope


def shared_open(
    *,
    owner_id: uuid.UUID,
    endpoint_id: uuid.UUID,
    name: str,
    model: str,
    slo_class: str,
    started_at: dt.datetime,
) -> SharedPeriod:
    """Note that an endpoint is sold to every tenant from ``started_at`` on.

    Repeating it gives the period that is open. One that follows another begins where that one ended at the earliest.
    """
    with scope.platform("note that an endpoint is published to every tenant"):
        last = SharedPeriod.objects.filter(endpoint_id=endpoint_id).order_by("-started_at", "-id").first()
        if last is not None and last.ended_at is None:
            return last
        if last is not None and last.ended_at is not None:
            started_at = max(started_at, last.ended_at)
        period, _ = SharedPeriod.objects.get_or_create(
            endpoint_id=endpoint_id,
            ended_at=None,
            defaults={
                "owner_id": owner_id,
                "name": name,
                "model": model,
                "slo_class": slo_class,
                "started_at": started_at,
            },
        )
        return period


def shared_close(*, endpoint_id: uuid.UUID, ended_at: dt.datetime) -> bool:
    """Note that an endpoint is sold to its owner alone from ``ended_at`` on; give whether it was shared until now."""
    with scope.platform("note that an endpoint is no longer published"):
        changed = SharedPeriod.objects.filter(endpoint_id=endpoint_id, ended_at=None).update(
            ended_at=Greatest(Value(ended_at), F("started_at"))
        )
        return bool(changed)


def shared_names(endpoint_ids: Collection[uuid.UUID] | None = None) -> dict[uuid.UUID, str]:
    """Give by id the name under which endpoints are or were sold to every tenant, all of them unless some are named.

    One query; any scope may ask.
    """
    periods = SharedPeriod.objects.order_by("started_at", "id")
    if endpoint_ids is not None:
        periods = periods.filter(endpoint_id__in=endpoint_ids)
    return dict(periods.values_list("endpoint_id", "name"))


def shared_periods(
    *, start: dt.datetime, end: dt.datetime, endpoint_ids: Collection[uuid.UUID] | None = None
) -> list[SharedPeriod]:
    """Give the periods that overlap ``[start, end)``, oldest first; one query, any scope may ask."""
    periods = SharedPeriod.objects.filter(Q(ended_at=None) | Q(ended_at__gt=start), started_at__lt=end)
    if endpoint_ids is not None:
        periods = periods.filter(endpoint_id__in=endpoint_ids)
    return list(periods.order_by("started_at", "id"))
