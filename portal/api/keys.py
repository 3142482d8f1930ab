"""Keys, whose class and endpoints are those of the clusters room."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Final

from django.utils import timezone
from rest_framework import serializers

from clusters.endpoints.shared import callable_targets
from clusters.models import Revision, SloClass
from tenants.api.key_serializers import KeyChange, KeyCreate
from tenants.api.keys import KeyViewSet
from tenants.errors import Invalid
from tenants.models import KeyScope, Project

#: How long a key of one revision lasts at most, and by itself.
LONGEST_OF_A_REVISION: Final = dt.timedelta(days=1)


class _KnownClass(serializers.Serializer):
    def validate_slo_class(self, name: str) -> str:
        if name and not SloClass.objects.filter(name=name).exists():
            raise serializers.ValidationError(f"There is no SLO class {name!r}.")
        return name


class _KeyCreate(_KnownClass, KeyCreate):
    revision_id = serializers.UUIDField(
        required=False,
        help_text="A revision of an endpoint of the project, which alone answers this inference key, whatever its share"
        " of the requests is, for a day at most: to measure revisions side by side.",
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        values = super().validate(values)
        revision_id = values.pop("revision_id", None)
        return values if revision_id is None else values | _bound(revision_id, values)


def _bound(revision_id: uuid.UUID, values: dict[str, Any]) -> dict[str, Any]:
    """Give what a key has that one revision answers."""
    if values["scope"] != KeyScope.INFERENCE or "project" not in values:
        raise serializers.ValidationError(
            {"revision_id": ["Only an inference key of a project is answered."]}
        )
    found = Revision.objects.filter(
        id=revision_id, cleaned_at=None, endpoint__project=values["project"]
    ).first()
    if found is None:
        text = f"The project {values['project'].slug} has no revision {revision_id} that runs."
        raise serializers.ValidationError({"revision_id": [text]})
    if values.get("narrowed", {}).get("endpoints"):
        raise serializers.ValidationError({"endpoints": ["The revision says which. Leave it out."]})
    latest = timezone.now() + LONGEST_OF_A_REVISION
    if values.get("expires_at", latest) > latest:
        raise serializers.ValidationError({"expires_at": ["A key of one revision lasts a day at most."]})
    return {
        "revision": found.id,
        "ephemeral": True,
        "expires_at": values.get("expires_at", latest),
        "narrowed": values.get("narrowed", {}) | {"endpoints": [found.endpoint_id]},
    }


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
