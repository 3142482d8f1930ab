"""Keys, whose class and endpoints are those of the clusters room."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from rest_framework import serializers

from clusters.endpoints.shared import callable_targets
from clusters.models import SloClass
from tenants.api.key_serializers import KeyChange, KeyCreate
from tenants.api.keys import KeyViewSet
from tenants.errors import Invalid
from tenants.models import Project


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

    def check_endpoints(self, project: Project, ids: Sequence[uuid.UUID]) -> None:
        check_key_endpoints(project, ids)


def check_key_endpoints(project: Project, ids: Sequence[uuid.UUID]) -> None:
    """Check that keys of ``project`` can call the endpoints and named routes with these ids.

    Raises:
        Invalid: they cannot call one of them.
    """
    known = callable_targets(project.id) if ids else {}
    if missing := next((each for each in ids if each not in known), None):
        text = f"Keys of the project {project.slug} can call no endpoint or named route {missing}."
        raise Invalid(text, errors={"endpoints": [text]})
