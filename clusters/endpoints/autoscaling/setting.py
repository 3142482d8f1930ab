"""What tenants say of an endpoint's replicas: whether Berth chooses them, between what, and when."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from collections.abc import Sequence
from typing import Final

from django.db import transaction
from django.utils import timezone

from clusters.endpoints import placement
from clusters.endpoints.autoscaling.bounds import agreed_replicas, own_bounds
from clusters.endpoints.history import record
from clusters.endpoints.wishes import bump, for_update
from clusters.models import Endpoint, EndpointScaling, Revision, ScaleSchedule
from clusters.models.autoscaling import MOST_REPLICAS
from tenants.errors import Invalid
from tenants.validation import clean

MOST_SCHEDULES: Final = 20
LEAST_IDLE_S: Final = 60
MOST_IDLE_S: Final = 7 * 86_400


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleTerms:
    """A schedule as it is asked for; see :class:`~clusters.models.ScaleSchedule`."""

    name: str
    days: Sequence[int]
    from_time: dt.time
    until_time: dt.time
    time_zone: str
    floor: int
    ceiling: int | None = None


def scaling_of(endpoint: Endpoint) -> EndpointScaling:
    """Give what is said of an endpoint's replicas; where nothing is, what a new endpoint has, not saved."""
    found = EndpointScaling.objects.filter(endpoint=endpoint).first()
    return found or EndpointScaling(tenant_id=endpoint.tenant_id, endpoint=endpoint, since=timezone.now())


def schedules_of(endpoint: Endpoint) -> list[ScaleSchedule]:
    """Give an endpoint's schedules by name."""
    return list(ScaleSchedule.objects.filter(endpoint=endpoint).order_by("name"))


@transaction.atomic
def endpoint_scaling_set(
    *,
    endpoint: Endpoint,
    actor: str,
    enabled: bool,
    floor: int | None = None,
    ceiling: int | None = None,
    idle_s: int | None = None,
    if_generation: int | None = None,
) -> EndpointScaling:
    """Let Berth choose an endpoint's replicas within bounds, or stop it; None is the plan's, or the class's.

    What has no replica when this is switched off gets its floor, at least one, but no more than rules of approval were
    asked about.

    Raises:
        Invalid: a bound is out of range, they contradict each other, or its class may not be scaled to zero.
        Conflict: the endpoint is being deleted; or its floor has no room.
        OverQuota, OverBudget, PolicyRefused: as for scaling by hand.
    """
    endpoint = for_update(endpoint, if_generation)
    scaling = scaling_of(endpoint)
    before = (scaling.enabled, scaling.floor, scaling.ceiling, scaling.idle_s)
    scaling.enabled, scaling.floor, scaling.ceiling, scaling.idle_s = enabled, floor, ceiling, idle_s
    revision = placement.current_revision(endpoint)
    _check(endpoint, scaling, revision)
    if before == (enabled, floor, ceiling, idle_s) and not scaling._state.adding:
        return scaling
    clean(scaling)
    scaling.due_at, scaling.wants = timezone.now(), 0
    scaling.quiet_since = scaling.idle_since = None
    scaling.save()
    if not enabled and revision is not None and revision.replicas == 0:
        # More than was agreed to is had by scaling by hand, which asks for approval.
        floor = min(own_bounds(scaling, revision, endpoint)[0], agreed_replicas(endpoint, revision))
        placement.resize(endpoint, revision, max(1, floor))
    bump(endpoint)
    record(endpoint, "autoscaling", _told(scaling, revision, endpoint), actor=actor)
    return scaling


def scaling_ordered(
    endpoint: Endpoint,
    *,
    enabled: bool,
    floor: int | None = None,
    ceiling: int | None = None,
    idle_s: int | None = None,
) -> EndpointScaling:
    """Write down what an order says of its replicas; it is looked at once it is ready.

    Raises:
        Invalid: as for :func:`endpoint_scaling_set`.
    """
    scaling = EndpointScaling(
        tenant_id=endpoint.tenant_id,
        endpoint=endpoint,
        enabled=enabled,
        floor=floor,
        ceiling=ceiling,
        idle_s=idle_s,
    )
    _check(endpoint, scaling, None)
    clean(scaling)
    scaling.save()
    return scaling


def scaling_by_hand(endpoint: Endpoint, *, actor: str) -> bool:
    """Leave an endpoint's replicas to whoever has just set them; give whether Berth chose them until now.

    Callers hold the endpoint.
    """
    stopped = EndpointScaling.objects.filter(endpoint=endpoint, enabled=True).first()
    if stopped is None:
        return False
    stopped.enabled, stopped.due_at, stopped.wants = False, None, 0
    stopped.save(update_fields=["enabled", "due_at", "wants"])
    record(endpoint, "autoscaling", "Autoscaling off: its replicas were set by hand.", actor=actor)
    return True


@transaction.atomic
def schedule_set(
    *, endpoint: Endpoint, terms: ScheduleTerms, actor: str, schedule: ScaleSchedule | None = None
) -> ScaleSchedule:
    """Add a schedule, or give ``schedule`` other terms.

    Raises:
        Invalid: the time zone is unknown, a day or bound is out of range, the name is taken, or there are too many.
        Conflict: the endpoint is being deleted.
    """
    endpoint = for_update(endpoint, None)
    if schedule is None:
        if ScaleSchedule.objects.filter(endpoint=endpoint).count() >= MOST_SCHEDULES:
            raise Invalid(f"An endpoint has at most {MOST_SCHEDULES} schedules; take one away first.")
        schedule = ScaleSchedule(tenant_id=endpoint.tenant_id, endpoint=endpoint)
    for name, value in dataclasses.asdict(terms).items():
        setattr(schedule, name, value)
    schedule.name = terms.name.strip()
    schedule.days = sorted(set(terms.days))
    _check_schedule(endpoint, schedule)
    clean(schedule)
    schedule.save()
    _look_again(endpoint)
    record(endpoint, "autoscaling", f"Schedule {schedule.name} set: {schedule_text(schedule)}.", actor=actor)
    return schedule


@transaction.atomic
def schedule_delete(*, schedule: ScaleSchedule, actor: str) -> None:
    """Take a schedule away; the endpoint's own bounds hold from then on."""
    endpoint = for_update(schedule.endpoint, None)
    schedule.delete()
    _look_again(endpoint)
    record(endpoint, "autoscaling", f"Schedule {schedule.name} taken away.", actor=actor)


def schedule_text(schedule: ScaleSchedule) -> str:
    """Say what a schedule says."""
    bounds = f"floor {schedule.floor}"
    if schedule.ceiling is not None:
        bounds += f", ceiling {schedule.ceiling}"
    days = days_text(schedule.days)
    return (
        f"{bounds}, {days} {schedule.from_time:%H:%M} to {schedule.until_time:%H:%M} ({schedule.time_zone})"
    )


def days_text(days: Sequence[int]) -> str:
    """Say which days of the week."""
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    whole = {(1, 2, 3, 4, 5, 6, 7): "every day", (1, 2, 3, 4, 5): "Mon to Fri", (6, 7): "Sat and Sun"}
    return whole.get(tuple(days)) or ", ".join(names[day - 1] for day in days)


def _look_again(endpoint: Endpoint) -> None:
    EndpointScaling.objects.filter(endpoint=endpoint, enabled=True).update(due_at=timezone.now())
    bump(endpoint)  # whether gateways hold requests for it may have changed


def _told(scaling: EndpointScaling, revision: Revision | None, endpoint: Endpoint) -> str:
    if not scaling.enabled:
        return "Autoscaling off."
    floor, ceiling = own_bounds(scaling, revision, endpoint)
    return f"Autoscaling on, between {floor} and {ceiling} replicas."


def _check(endpoint: Endpoint, scaling: EndpointScaling, revision: Revision | None) -> None:
    errors: dict[str, list[str]] = {}
    if scaling.floor is not None and not 0 <= scaling.floor <= MOST_REPLICAS:
        errors["floor"] = [f"Choose 0 to {MOST_REPLICAS}."]
    if scaling.ceiling is not None and not 1 <= scaling.ceiling <= MOST_REPLICAS:
        errors["ceiling"] = [f"Choose 1 to {MOST_REPLICAS}."]
    if scaling.idle_s is not None and not LEAST_IDLE_S <= scaling.idle_s <= MOST_IDLE_S:
        errors["idle_s"] = [f"Choose {LEAST_IDLE_S} to {MOST_IDLE_S} seconds."]
    if scaling.floor == 0 and "floor" not in errors and not endpoint.slo_class.may_scale_to_zero:
        errors["floor"] = [_no_zero(endpoint)]
    if not errors and scaling.floor is not None:
        most = scaling.ceiling
        if most is None and revision is not None:
            most = own_bounds(EndpointScaling(floor=0), revision, endpoint)[1]
        if most is not None and scaling.floor > most:
            errors["floor"] = [f"The floor cannot be above the ceiling, which is {most}."]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)


def _check_schedule(endpoint: Endpoint, schedule: ScaleSchedule) -> None:
    errors: dict[str, list[str]] = {}
    if not schedule.name:
        errors["name"] = ["Give it a name."]
    if not schedule.days or not set(schedule.days) <= set(range(1, 8)):
        errors["days"] = ["Choose at least one day, 1 (Monday) to 7 (Sunday)."]
    if schedule.time_zone not in zoneinfo.available_timezones():
        errors["time_zone"] = ["Choose a time zone by its IANA name, for instance Europe/Berlin."]
    if not 0 <= schedule.floor <= MOST_REPLICAS:
        errors["floor"] = [f"Choose 0 to {MOST_REPLICAS}."]
    elif schedule.floor == 0 and not endpoint.slo_class.may_scale_to_zero:
        errors["floor"] = [_no_zero(endpoint)]
    if schedule.ceiling is not None and not 1 <= schedule.ceiling <= MOST_REPLICAS:
        errors["ceiling"] = [f"Choose 1 to {MOST_REPLICAS}, or leave it empty."]
    elif schedule.ceiling is not None and "floor" not in errors and schedule.floor > schedule.ceiling:
        errors["floor"] = ["The floor cannot be above the ceiling."]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)


def _no_zero(endpoint: Endpoint) -> str:
    return (
        f"Endpoints of class {endpoint.slo_class.name} keep at least 1 replica: the class does not allow none. "
        "Choose 1, or another class."
    )
