"""How an endpoint's replicas follow its load, as documents say it: bounds and schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rest_framework import serializers

from clusters.api.autoscaling_serializers import AutoscalingBody, ScheduleBody
from clusters.endpoints.autoscaling.setting import (
    MOST_SCHEDULES,
    ScheduleTerms,
    endpoint_scaling_set,
    scaling_of,
    schedule_delete,
    schedule_set,
    schedules_of,
)
from clusters.models import Endpoint, ScaleSchedule
from portal.configuration.writing import plain
from tenants.api.fields import StrictSerializer
from tenants.errors import Invalid

_BOUNDS: Final = ("enabled", "floor", "ceiling", "idle_s")
_SCHEDULE: Final = ("name", "days", "from_time", "until_time", "time_zone", "floor", "ceiling")


class ScalingSpec(StrictSerializer):
    """The part of an endpoint's spec that is about its replicas."""

    autoscaling = AutoscalingBody(
        required=False, help_text="Whether Berth chooses the replicas, and between what."
    )
    schedules = ScheduleBody(
        many=True, required=False, max_length=MOST_SCHEDULES, help_text="Other bounds at times of the week."
    )

    def validate_autoscaling(self, bounds: dict[str, Any]) -> dict[str, Any]:
        _refuse_missing(bounds, ("enabled",))
        return bounds

    def validate_schedules(self, schedules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, each in enumerate(schedules):
            try:
                _refuse_missing(each, [name for name in _SCHEDULE if name != "ceiling"])
            except serializers.ValidationError as error:
                raise serializers.ValidationError({number: error.detail}) from error
        names = [each["name"].strip().lower() for each in schedules]
        if len(set(names)) < len(names):
            raise serializers.ValidationError("Give each schedule a name of its own.")
        return schedules


def scaling_told(endpoint: Endpoint) -> dict[str, Any]:
    """Give what is said of an endpoint's replicas, as a document says it."""
    scaling = scaling_of(endpoint)
    return {
        "autoscaling": {name: getattr(scaling, name) for name in _BOUNDS},
        "schedules": schedules_told([_terms_of(each) for each in schedules_of(endpoint)]),
    }


def scaling_spec(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give what checked values say of replicas, as a document says it."""
    found: dict[str, Any] = {}
    if "autoscaling" in values:
        found["autoscaling"] = {name: values["autoscaling"].get(name) for name in _BOUNDS}
    if "schedules" in values:
        found["schedules"] = schedules_told(values["schedules"])
    return found


def schedules_told(schedules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give schedules as a document says them, by name."""
    told = [
        {
            name: each[name].isoformat() if name.endswith("_time") else plain(each.get(name))
            for name in _SCHEDULE
        }
        for each in schedules
    ]
    for each in told:
        each["name"], each["days"] = each["name"].strip(), sorted(set(each["days"]))
    return sorted(told, key=lambda each: str(each["name"]))


def scaling_apply(endpoint: Endpoint, values: Mapping[str, Any], *, actor: str) -> None:
    """Make an endpoint's replicas follow the load as checked values say; what is so already is left alone.

    Raises:
        Invalid, Conflict, OverQuota, OverBudget, PolicyRefused: as for setting it by hand.
    """
    wanted, held = scaling_spec(values), scaling_told(endpoint)
    if "schedules" in wanted and wanted["schedules"] != held["schedules"]:
        _set_schedules(endpoint, values["schedules"], actor=actor)
    if "autoscaling" in wanted and wanted["autoscaling"] != held["autoscaling"]:
        try:
            endpoint_scaling_set(endpoint=endpoint, actor=actor, **wanted["autoscaling"])
        except Invalid as error:
            raise _at("autoscaling", error) from error


def _set_schedules(endpoint: Endpoint, wanted: Sequence[Mapping[str, Any]], *, actor: str) -> None:
    there = {each.name: each for each in schedules_of(endpoint)}
    named = {each["name"].strip() for each in wanted}
    for name in there.keys() - named:
        schedule_delete(schedule=there[name], actor=actor)
    for number, values in enumerate(wanted):
        held = there.get(values["name"].strip())
        if held is not None and schedules_told([_terms_of(held)]) == schedules_told([values]):
            continue
        try:
            schedule_set(endpoint=endpoint, terms=ScheduleTerms(**values), actor=actor, schedule=held)
        except Invalid as error:
            raise _at(f"schedules.{number}", error) from error


def _terms_of(schedule: ScaleSchedule) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in _SCHEDULE}


def _refuse_missing(values: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse what lacks a field: bounds and schedules are given whole, also where the rest of a spec is not."""
    missing = [name for name in names if name not in values]
    if missing:
        raise serializers.ValidationError({name: ["This field is required."] for name in missing})


def _at(path: str, error: Invalid) -> Invalid:
    return Invalid(
        error.message, errors={f"{path}.{name}": messages for name, messages in error.errors.items()}
    )
