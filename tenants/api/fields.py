"""Serializer pieces shared by all rooms."""

from __future__ import annotations

from rest_framework import serializers


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
        row = self.find().filter(**{self.by: text}).first()
        if row is None:
            self.fail("does_not_exist", what=self.what, value=text)
        return row

    def to_representation(self, value) -> str:
        return getattr(value, self.by)
