"""Serializer pieces shared by all rooms."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

#: Moments and days that people mean lie within. Beyond, a step in a calendar or to another zone may not exist.
EARLIEST: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
LATEST: Final = dt.datetime(2200, 1, 1, tzinfo=dt.UTC)
#: A time of the day, seconds or none. JSON Schema's "time" demands an offset, which a clock does not have.
CLOCK: Final = re.compile(r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$")


class StrictSerializer(serializers.Serializer):
    """Refuses fields it does not know, naming them and what it knows."""

    def to_internal_value(self, data):
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
                raise serializers.ValidationError(
                    {name: [f"There is no such field here. Known fields: {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


class MomentField(serializers.DateTimeField):
    """A moment from 2000 to 2200."""

    default_error_messages = {"far": "Choose a moment from 2000 to 2199."}

    def to_internal_value(self, value):
        moment = super().to_internal_value(value)
        if not EARLIEST <= moment < LATEST:
            self.fail("far")
        return moment

    def enforce_timezone(self, value):
        try:
            return super().enforce_timezone(value)
        except OverflowError:
            self.fail("far")


class DayField(serializers.DateField):
    """A day from 2000 to 2199."""

    default_error_messages = {"far": "Choose a day from 2000 to 2199."}

    def to_internal_value(self, value):
        day = super().to_internal_value(value)
        if not EARLIEST.date() <= day < LATEST.date():
            self.fail("far")
        return day


@extend_schema_field({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$", "example": "2026-05"})
class MonthField(serializers.DateField):
    """A calendar month, shown as YYYY-MM of its first day."""

    def __init__(self, **options) -> None:
        super().__init__(format="%Y-%m", **options)


@extend_schema_field({"type": "string", "pattern": CLOCK.pattern, "example": "08:00:00"})
class ClockTimeField(serializers.TimeField):
    """A time by the clock of some zone that is named beside it, shown as HH:MM:SS; the seconds may be left out."""

    default_error_messages = {"form": "Write it as HH:MM, for instance 08:00."}

    def to_internal_value(self, value):
        if not isinstance(value, str) or not CLOCK.fullmatch(value):
            self.fail("form")
        return dt.time.fromisoformat(value)


class ReferenceField(serializers.CharField):
    """Points at a row by its slug or name. ``find`` gives the rows it may point at, when it is asked.

    Another tenant's row reads as missing.
    """

    default_error_messages = {"does_not_exist": "There is no {what} {value!r}."}

    def __init__(self, *, find, by: str, what: str, **options) -> None:
        super().__init__(**options)
        self.find, self.by, self.what = find, by, what

    def to_internal_value(self, data):
        text = super().to_internal_value(data)
        # The database takes no NUL, not even to find nothing.
        row = None if "\0" in text else self.find().filter(**{self.by: text}).first()
        if row is None:
            self.fail("does_not_exist", what=self.what, value=text)
        return row

    def to_representation(self, value) -> str:
        return getattr(value, self.by)
