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


class TenantSlugField(serializers.SlugRelatedField):
    """Points at a tenant-owned object by slug or name; another tenant's reads as missing."""

    default_error_messages = {
        "does_not_exist": "There is no {slug_name} {value!r}.",
        "invalid": "This must be text.",
    }

    def to_internal_value(self, data):
        try:
            return self.get_queryset().get(**{self.slug_field: data})
        except self.get_queryset().model.DoesNotExist:
            self.fail("does_not_exist", slug_name=self.field_name.replace("_", " "), value=str(data))
        except (TypeError, ValueError):
            self.fail("invalid")

    def get_queryset(self):
        # A manager, not a queryset, is given: the scope opens after the class body has run.
        return self.queryset.all() if hasattr(self.queryset, "all") else self.queryset
