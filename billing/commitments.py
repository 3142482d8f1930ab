"""Commitments: GPUs that a tenant takes for a time at a rate of its own, and how they are used."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from billing.models import Allocation, Commitment, SharedPeriod
from billing.prices import LATE
from billing.quantities import HOUR, round_down, round_up
from billing.rating import commitments as rating
from billing.rating.charges import shown
from billing.rating.periods import Period, month_containing
from tenants import scope
from tenants.errors import Invalid
from tenants.models import Tenant
from tenants.validation import clean

MOST_GPUS: Final = 1_000_000
#: Decimal places of GPU-hours that are shown.
HOUR_PLACES: Final = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitmentUse:
    """GPU-hours of a commitment in a period: those that covered what was held, and those that nobody held."""

    commitment: Commitment
    covered: Decimal
    unused: Decimal

    @property
    def percent(self) -> int | None:
        """How much of it was used, 0..100, None before it began."""
        total = self.covered + self.unused
        return int(100 * self.covered / total) if total else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitmentsUse:
    """How a tenant used its commitments from ``start`` to ``end``. ``overflow``: GPU-hours beyond, by GPU type."""

    start: dt.datetime
    end: dt.datetime
    uses: tuple[CommitmentUse, ...]
    overflow: dict[str, Decimal]


@transaction.atomic
def commitment_create(
    *,
    tenant: Tenant,
    name: str,
    gpu_type: str,
    gpus: int,
    rate: Decimal,
    starts_at: dt.datetime,
    ends_at: dt.datetime,
    region: str = "",
    currency: str = "",
    note: str = "",
    now: dt.datetime | None = None,
) -> Commitment:
    """Agree with ``tenant`` on ``gpus`` GPUs at ``rate`` per GPU-hour, held or not, from ``starts_at`` to ``ends_at``.

    It may begin in the tenant's running month, whose statement is still open, and no earlier.

    Raises:
        Invalid: a value is out of range, or the currency is not the tenant's.
    """
    now = now or timezone.now()
    commitment = Commitment(
        tenant=tenant,
        name=name.strip(),
        gpu_type=gpu_type,
        region=region,
        gpus=gpus,
        rate=rate,
        currency=currency or tenant.currency,
        starts_at=starts_at,
        ends_at=ends_at,
        note=note.strip(),
    )
    errors = _complaints(commitment, tenant, now)
    if errors:
        raise Invalid(next(iter(errors.values())), errors={field: [text] for field, text in errors.items()})
    with scope.tenant(tenant.id):
        clean(commitment)
        commitment.save(force_insert=True)
    return commitment


@transaction.atomic
def commitment_end_early(
    *, commitment: Commitment, ends_at: dt.datetime, now: dt.datetime | None = None
) -> Commitment:
    """Let a commitment end at an earlier time that has not passed; one that has not begun may end as it begins.

    Raises:
        Invalid: it has ended, or the time is no earlier one, has passed, or is before its start.
    """
    now = now or timezone.now()
    with scope.tenant(commitment.tenant_id):
        # Two at once: the second looks at what the first left.
        commitment = Commitment.objects.select_for_update().get(id=commitment.id)
        complaint = ""
        if ends_at.tzinfo is None:
            complaint = "The time needs a time zone."
        elif commitment.ends_at <= now:
            complaint = "The commitment has ended already."
        elif ends_at >= commitment.ends_at:
            complaint = f"Choose a time before {commitment.ends_at:%Y-%m-%d %H:%M} UTC, when it ends anyway."
        elif ends_at < now - LATE:
            complaint = "A commitment cannot end in the past: what it covered then is charged so."
        elif ends_at < commitment.starts_at:
            complaint = (
                f"It begins at {commitment.starts_at:%Y-%m-%d %H:%M} UTC; choose that time to withdraw it."
            )
        if complaint:
            raise Invalid(complaint, errors={"ends_at": [complaint]})
        commitment.ends_at = ends_at
        commitment.save(update_fields=["ends_at"])
    return commitment


def commitments_use(*, now: dt.datetime) -> CommitmentsUse:
    """Say how the open tenant has used its commitments so far in its running month."""
    tenant = Tenant.objects.get(id=scope.current_tenant_id())
    month = month_containing(now, tenant.time_zone)
    end = min(month.end, max(now, month.start))
    commitments = list(
        Commitment.objects.filter(
            starts_at__lt=end, ends_at__gt=month.start, currency=tenant.currency
        ).exclude(ends_at=F("starts_at"))
    )
    types = {commitment.gpu_type for commitment in commitments}
    found = rating.cover(
        _held(types, month, end), [_rated(commitment) for commitment in commitments], month.start, end
    )
    covered: defaultdict[str, Fraction] = defaultdict(Fraction)
    unused: defaultdict[str, Fraction] = defaultdict(Fraction)
    beyond: defaultdict[str, Fraction] = defaultdict(Fraction)
    for each in found.covered:
        covered[each.commitment_id] += each.gpu_seconds
    for spare in found.unused:
        unused[spare.commitment_id] += spare.gpu_seconds
    for over in found.overflow:
        beyond[str(over.key)] += over.gpu_seconds
    return CommitmentsUse(
        start=month.start,
        end=end,
        uses=tuple(
            CommitmentUse(
                commitment=commitment,
                covered=_hours(covered[str(commitment.id)]),
                unused=_hours(unused[str(commitment.id)]),
            )
            for commitment in commitments
        ),
        overflow={gpu_type: _hours(seconds) for gpu_type, seconds in sorted(beyond.items())},
    )


def _held(types: Iterable[str], month: Period, end: dt.datetime) -> Iterator[rating.Holding]:
    """Give what was held of ``types`` and is charged: not the UTC hours in which it was sold by the token."""
    rows = list(
        Allocation.objects.filter(
            Q(ended_at=None) | Q(ended_at__gt=month.start), gpu_type__in=list(types), started_at__lt=end
        )
    )
    periods = SharedPeriod.objects.filter(endpoint_id__in={row.endpoint_id for row in rows})
    shared: defaultdict[object, list[SharedPeriod]] = defaultdict(list)
    for period in periods:
        shared[period.endpoint_id].append(period)
    for row in rows:
        since, until = row.started_at, min(row.ended_at or end, end)
        for period in sorted(shared[row.endpoint_id], key=lambda each: each.started_at):
            sold_since = min(round_down(period.started_at, HOUR), until)
            if since < sold_since:
                yield _holding(row, since, sold_since)
            since = max(since, round_up(period.ended_at, HOUR) if period.ended_at else until)
        if since < until:
            yield _holding(row, since, until)


def _holding(row: Allocation, start: dt.datetime, end: dt.datetime) -> rating.Holding:
    return rating.Holding(
        key=row.gpu_type, gpu_type=row.gpu_type, region=row.region, gpus=row.gpus, start=start, end=end
    )


def _rated(commitment: Commitment) -> rating.Commitment:
    return rating.Commitment(
        id=str(commitment.id),
        gpu_type=commitment.gpu_type,
        region=commitment.region or None,
        gpus=commitment.gpus,
        rate=commitment.rate,
        start=commitment.starts_at,
        end=commitment.ends_at,
    )


def _complaints(commitment: Commitment, tenant: Tenant, now: dt.datetime) -> dict[str, str]:
    errors: dict[str, str] = {}
    if not 1 <= commitment.gpus <= MOST_GPUS:
        errors["gpus"] = f"A commitment is for 1 to {MOST_GPUS:,} GPUs."
    if not commitment.rate.is_finite() or commitment.rate < 0:
        errors["rate"] = "The rate must be a decimal number of 0 or more."
    if commitment.currency != tenant.currency:
        errors["currency"] = f"{tenant.name} is charged in {tenant.currency}."
    if commitment.starts_at.tzinfo is None or commitment.ends_at.tzinfo is None:
        errors["starts_at"] = "Both times need a time zone."
        return errors
    opened = month_containing(now, tenant.time_zone).start
    if commitment.starts_at < opened:
        errors["starts_at"] = (
            f"A commitment may begin in the running month, from {opened:%Y-%m-%d %H:%M} UTC on: "
            "what was before is charged already."
        )
    if commitment.ends_at <= max(commitment.starts_at, now):
        errors["ends_at"] = "The end must be after the start, and still to come."
    return errors


def _hours(seconds: Fraction) -> Decimal:
    return shown(seconds / 3600, HOUR_PLACES)
