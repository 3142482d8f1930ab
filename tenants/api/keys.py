"""Keys of the caller's tenant."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from tenants import key_sweeps
from tenants.api.base import IF_MATCH, EditableTenantViewSet
from tenants.api.idempotency import idempotent
from tenants.api.key_serializers import (
    KeyChange,
    KeyCreate,
    KeyLeaked,
    KeyRotate,
    KeySerializer,
    KeysRevoke,
    NewKeySerializer,
    SweptKeysSerializer,
)
from tenants.keys import key_mint, key_revoke, key_rotate, may_end
from tenants.limits import key_change
from tenants.models import ApiKey, KeyScope, Project
from tenants.roles import Action


class KeyFilter(django_filters.FilterSet):
    scope = django_filters.ChoiceFilter(choices=KeyScope.choices)
    project = django_filters.CharFilter(field_name="project__slug", help_text="Slug of the project.")
    service_account = django_filters.CharFilter(
        field_name="service_account__name", help_text="Name of the service account."
    )


@extend_schema(tags=["keys"])
class KeyViewSet(EditableTenantViewSet):
    """Keys for calling models (inference) and for this API (management)."""

    create_body: ClassVar[type[KeyCreate]] = KeyCreate
    change_body: ClassVar[type[KeyChange]] = KeyChange

    model = ApiKey
    serializer_class = KeySerializer
    filterset_class = KeyFilter
    project_field = "project"
    role_actions = dict.fromkeys(
        ("create", "partial_update", "rotate", "revoke", "destroy", "revoke_many", "leaked"), Action.MINT_KEYS
    )

    def rows(self):
        return key_sweeps.listed()

    @extend_schema(request=KeyCreate, responses={201: NewKeySerializer})
    @idempotent
    def create(self, request) -> Response:
        wishes = self.validated(self.create_body)
        self._check_endpoints(wishes.get("project"), wishes)
        key, key.text = key_mint(
            key_scope=wishes.pop("scope"), created_by=self.caller.maker, **self._granter(), **wishes
        )
        return self.created(NewKeySerializer, key)

    @extend_schema(request=KeyChange, responses=KeySerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        """Change its name, its limits or what it reaches; gateways follow within a second."""
        changes = self.validated(self.change_body)
        key = self.to_edit()
        self._check_endpoints(key.project, changes)
        return self.versioned(key_change(key=key, **self._granter(), **changes))

    @extend_schema(request=KeyRotate, responses={201: NewKeySerializer}, operation_id="keys_rotate")
    @idempotent
    def rotate(self, request, id) -> Response:
        """Make a key that takes its place. The old one goes on for the overlap; both count as one key to limits."""
        wishes = self.validated(KeyRotate)
        key, key.text = key_rotate(
            key=self.get_object(), created_by=self.caller.maker, **self._granter(), **wishes
        )
        location = request.build_absolute_uri(f"{request.path.rpartition('/')[0]}/{key.pk}")
        return self.shown(NewKeySerializer, key, code=201, Location=location)

    @extend_schema(request=None, responses=KeySerializer, operation_id="keys_revoke")
    def revoke(self, request, id) -> Response:
        """Revoke at once and for ever. Revoking again changes nothing."""
        return self.shown(KeySerializer, self._revoke())

    @extend_schema(responses={204: None})
    def destroy(self, request, id) -> Response:
        """The same as revoking: a revoked key stays in the list."""
        self._revoke()
        return Response(status=204)

    @extend_schema(
        request=KeysRevoke, responses=SweptKeysSerializer, operation_id="keys_revoke_many", filters=False
    )
    def revoke_many(self, request) -> Response:
        """Revoke many at once: a dry run shows which keys filters mean, and then exactly the ids sent are revoked."""
        wishes = self.validated(KeysRevoke)
        ids, role = wishes["ids"], self.caller.role
        if wishes["dry_run"]:
            keys = key_sweeps.keys_swept(wishes["sweep"]) if ids is None else key_sweeps.keys_named(ids)
        else:
            keys = key_sweeps.keys_revoke(ids=ids, granter_role=role)
        return self._swept(keys, dry_run=wishes["dry_run"])

    @extend_schema(
        request=KeyLeaked,
        responses={200: KeySerializer, 404: None},
        operation_id="keys_leaked",
        filters=False,
    )
    def leaked(self, request) -> Response:
        """Revoke the key with this text at once, whatever its role. The text is kept nowhere."""
        return self.shown(KeySerializer, key_sweeps.key_leaked(text=self.validated(KeyLeaked)["key"]))

    def check_endpoints(self, project: Project, ids: Sequence[uuid.UUID]) -> None:
        """Check that keys of ``project`` can call what has these ids, which another room knows.

        Raises:
            Invalid: they cannot call one of them.
        """
        raise NotImplementedError

    def _check_endpoints(self, project: Project | None, wishes: Mapping[str, Any]) -> None:
        ids = wishes.get("narrowed", {}).get("endpoints")
        if project is not None and ids:
            self.check_endpoints(project, ids)

    def _swept(self, keys: Iterable[ApiKey], *, dry_run: bool) -> Response:
        for key in keys:
            key.revocable = may_end(key, self.caller.role)
        return self.shown(SweptKeysSerializer, {"dry_run": dry_run, "results": keys})

    def _revoke(self) -> ApiKey:
        return key_revoke(key=self.get_object(), granter_role=self.caller.role)

    def _granter(self) -> dict[str, Any]:
        return {"granter_role": self.caller.role, "granted_by": self.caller.key}
