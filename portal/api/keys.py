"""Keys, whose class is one of the clusters room's."""

from __future__ import annotations

from rest_framework import serializers

from clusters.models import SloClass
from tenants.api.serializers import KeyChange, KeyCreate
from tenants.api.views import KeyViewSet


class _KnownClass(serializers.Serializer):
    def validate_slo_class(self, name: str) -> str:
        if name and not SloClass.objects.filter(name=name).exists():
            raise serializers.ValidationError(f"There is no SLO class {name!r}.")
        return name


class _KeyCreate(_KnownClass, KeyCreate):
    pass


class _KeyChange(_KnownClass, KeyChange):
    pass


class LimitedKeyViewSet(KeyViewSet):
    """Keys for calling models (inference) and for this API (management)."""

    create_body = _KeyCreate
    change_body = _KeyChange
