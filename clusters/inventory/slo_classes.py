"""SLO classes: what is promised with an endpoint, and how gateways treat its requests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.db import transaction

from clusters.models import OnOverload, RolloutWay, SloClass
from tenants.announcements import announce
from tenants.errors import Invalid
from tenants.validation import clean

#: Replicas that a class may keep beyond what the load needs.
MOST_SPARE: Final = 16

#: Fewer requests than these tell nothing of a 95th percentile.
FEWEST_REQUESTS: Final = 60

_TIMEOUTS: Final = (
    "connect_timeout_s", "first_token_timeout_s", "between_tokens_timeout_s", "total_timeout_s",
)  # fmt: skip


@transaction.atomic
def slo_class_add(*, name: str, **values: Any) -> SloClass:
    """Add an SLO class; ``values`` are fields of :class:`SloClass`.

    Raises:
        Invalid: the name is taken, or a value is out of bounds.
    """
    slo_class = SloClass(name=name, **values)
    _check(slo_class)
    clean(slo_class)
    slo_class.save()
    announce()
    return slo_class


@transaction.atomic
def slo_class_change(*, slo_class: SloClass, **wishes: Any) -> SloClass:
    """Change fields of an SLO class; None gives up a target or a cap.

    Gateways follow new timeouts and policies within a second; new targets hold for plans made from now on.

    Raises:
        Invalid: a value is out of bounds.
    """
    changed = [field for field, wish in wishes.items() if wish != getattr(slo_class, field)]
    for field in changed:
        setattr(slo_class, field, wishes[field])
    if changed:
        _check(slo_class)
        clean(slo_class)
        slo_class.save(update_fields=changed)
        announce()
    return slo_class


def _check(slo_class: SloClass) -> None:
    errors = {
        **_wrong_promises(slo_class),
        **_wrong_policies(slo_class),
        **_wrong_marks(slo_class),
        **_wrong_rollouts(slo_class),
    }
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)


def _wrong_promises(slo_class: SloClass) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    if not Decimal(0) < slo_class.availability < Decimal(1):
        errors["availability"] = ["Write a share above 0 and below 1, for instance 0.999 for 99.9 %."]
    if slo_class.price_factor <= 0:
        errors["price_factor"] = ["The factor on prices must be above 0."]
    if slo_class.priority < 1:
        errors["priority"] = ["1 is the first."]
    if not 0 <= slo_class.spare_replicas <= MOST_SPARE:
        errors["spare_replicas"] = [f"0 to {MOST_SPARE} replicas can stand by."]
    if slo_class.attempts < 1:
        errors["attempts"] = ["At least one attempt."]
    for name in _TIMEOUTS:
        if getattr(slo_class, name) <= 0:
            errors[name] = ["A timeout must be longer than 0 seconds."]
    if not errors and slo_class.first_token_timeout_s > slo_class.total_timeout_s:
        errors["first_token_timeout_s"] = [
            "Waiting for the first token cannot take longer than the whole answer."
        ]
    return errors


def _wrong_marks(slo_class: SloClass) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    if not 0 < slo_class.low_water < slo_class.high_water <= 1:
        errors["low_water"] = [
            "The low-water mark must be below the high-water mark, which is 1 at most: else replicas come and go."
        ]
    return errors


def _wrong_rollouts(slo_class: SloClass) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    ways, steps = slo_class.rollout_ways, slo_class.rollout_steps
    known = [str(way) for way in RolloutWay]
    if not ways or len(set(ways)) < len(ways) or not set(ways) <= set(known):
        errors["rollout_ways"] = [
            f"Name at least one of {', '.join(known)}, each once, in the order to try them."
        ]
    if steps != sorted(set(steps)) or not all(1 <= step <= 99 for step in steps):
        errors["rollout_steps"] = [
            "Write rising percentages from 1 to 99, for instance 5, 25, 50; none: no canary."
        ]
    if not set(slo_class.rollout_days) <= set(range(7)):
        errors["rollout_days"] = ["Days are 0 (Monday) to 6 (Sunday)."]
    if slo_class.rollout_patience_s < slo_class.rollout_step_s:
        errors["rollout_patience_s"] = ["It cannot be shorter than a step."]
    if slo_class.rollout_requests < FEWEST_REQUESTS:
        errors["rollout_requests"] = [
            f"Fewer than {FEWEST_REQUESTS} requests tell nothing of a 95th percentile."
        ]
    return errors


def _wrong_policies(slo_class: SloClass) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    if not 0 <= slo_class.queue_s <= slo_class.total_timeout_s:
        errors["queue_s"] = [
            "A request waits 0 seconds or more, and no longer than its whole answer may take."
        ]
    # Held, so that two changes at once cannot pass 1 together.
    everyone = SloClass.objects.select_for_update().order_by("id")
    floors = sum(other.floor for other in everyone if other.id != slo_class.id)
    if slo_class.floor < 0 or slo_class.floor + floors >= 1:
        errors["floor"] = [
            f"The floors of all classes must sum to less than 1; the others have {floors:g} together."
        ]
    if not 0 <= slo_class.backoff_s <= slo_class.backoff_most_s:
        errors["backoff_most_s"] = ["The longest pause cannot be shorter than the first."]
    shorter, cap = slo_class.degraded_context_tokens, slo_class.context_tokens
    if slo_class.on_overload == OnOverload.SHORTEN and shorter is None:
        errors["degraded_context_tokens"] = ["Say to how many tokens requests are shortened."]
    elif shorter is not None and cap is not None and shorter >= cap:
        errors["degraded_context_tokens"] = [f"It must be below the class's cap of {cap:,} tokens."]
    return errors
