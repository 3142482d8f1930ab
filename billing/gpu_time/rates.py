"""What GPUs cost their owner: rates that follow each other, and where there is none."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from billing.gpu_time.due import first_moment, hours_changed
from billing.models import AssetRate, GpuSupply
from billing.rating.rounding import places_of
from tenants import scope
from tenants.errors import Invalid
from tenants.validation import clean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unrated:
    """GPUs that are seen now and whose cost nobody said."""

    cluster: str
    gpu_type: str
    gpus: int


@transaction.atomic
def asset_rate_set(
    *,
    amount: Decimal,
    currency: str,
    effective_from: dt.datetime | None = None,
    cluster: str = "",
    gpu_type: str = "",
    note: str = "",
) -> AssetRate:
    """Say what an hour of a GPU costs its owner from ``effective_from`` (default: now) on.

    It follows the rate for the same ``cluster`` and ``gpu_type`` (blank: every one), and may begin in the past: what
    GPUs cost is often known later, and nobody was charged by it. Hours since then are computed anew.

    Raises:
        Invalid: the amount, the currency or the time is wrong, or a rate for the same begins at the same moment.
    """
    now = timezone.now()
    rate = AssetRate(
        amount=amount,
        currency=currency,
        effective_from=effective_from or now,
        cluster=cluster,
        gpu_type=gpu_type,
        note=note,
    )
    errors = _complaints(rate)
    if errors:
        raise Invalid(next(iter(errors.values())), errors={name: [text] for name, text in errors.items()})
    with scope.platform("say what GPUs cost"):
        clean(rate)
        rate.save(force_insert=True)
        first = first_moment()
        if first is not None:
            hours_changed(since=max(first, rate.effective_from), now=now)
    return rate


def asset_rate_in_force(
    rates: Iterable[AssetRate], *, cluster: str, gpu_type: str, slice: str, at: dt.datetime
) -> AssetRate | None:
    """Choose the rate for a device of ``gpu_type`` in ``cluster``; None where there is none.

    A rate that does not name a part of a GPU (``slice``) itself holds for its share of the whole one.
    """
    whole = gpu_type.split("-")[0] if slice else gpu_type
    found = [
        rate
        for rate in rates
        if rate.effective_from <= at
        and rate.cluster in ("", cluster)
        and rate.gpu_type in ("", gpu_type, whole)
    ]
    return max(found, key=lambda rate: _rank(rate, gpu_type), default=None)


def unrated_gpus(*, now: dt.datetime) -> list[Unrated]:
    """Give the GPUs that are seen now without a rate, by cluster and type; 2 queries."""
    with scope.platform("see which GPUs have no asset rate"):
        rates = list(AssetRate.objects.all())
        counted: dict[tuple[str, str], int] = {}
        for row in GpuSupply.objects.filter(ended_at=None):
            facts = {"cluster": row.cluster, "gpu_type": row.gpu_type, "slice": row.slice}
            if asset_rate_in_force(rates, **facts, at=now) is None:
                key = row.cluster, row.gpu_type
                counted[key] = counted.get(key, 0) + row.gpus
    return [
        Unrated(cluster=cluster, gpu_type=gpu_type, gpus=gpus)
        for (cluster, gpu_type), gpus in sorted(counted.items())
    ]


def _rank(rate: AssetRate, gpu_type: str) -> tuple[int, bool, bool, dt.datetime]:
    named = bool(rate.cluster) + bool(rate.gpu_type)
    return named, bool(rate.gpu_type), rate.gpu_type == gpu_type, rate.effective_from


def _complaints(rate: AssetRate) -> dict[str, str]:
    errors: dict[str, str] = {}
    if not isinstance(rate.amount, Decimal) or not rate.amount.is_finite() or rate.amount < 0:
        errors["amount"] = "The amount must be a decimal number of 0 or more."
    try:
        places_of(rate.currency)
    except ValueError:
        errors["currency"] = "A currency is three capital letters, for instance EUR."
    if rate.effective_from.tzinfo is None:
        errors["effective_from"] = "The time needs a time zone."
    return errors
