"""Service accounts of the caller's tenant."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from tenants.api.base import IF_MATCH, EditableTenantViewSet
from tenants.api.fields import StrictSerializer
from tenants.api.idempotency import idempotent
from tenants.models import Role, ServiceAccount
from tenants.reach import MOST_PROJECTS
from tenants.roles import Action
from tenants.service_accounts import (
    service_account_change,
    service_account_create,
    service_account_remove,
    service_accounts,
)


class ServiceAccountSerializer(serializers.ModelSerializer):
    """What programs act as. Its management keys have its role."""

    created_by = serializers.EmailField(source="created_by.email", allow_null=True, default=None)
    keys = serializers.IntegerField(source="key_count", help_text="Those that can be used.")
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="One of its keys.")

    class Meta:
        model = ServiceAccount
        fields = [
            "id", "name", "description", "role", "projects", "active", "keys", "created_by", "created_at",
            "last_used_at",
        ]  # fmt: skip


class _Body(StrictSerializer):
    description = serializers.CharField(max_length=300, allow_blank=True, required=False)
    projects = serializers.ListField(
        child=serializers.UUIDField(), max_length=MOST_PROJECTS, required=False,
        help_text="Ids of the projects that its keys may be for. Empty: all.",
    )  # fmt: skip


class ServiceAccountCreate(_Body):
    name = serializers.CharField(max_length=80)
    role = serializers.ChoiceField(choices=Role.choices)


class ServiceAccountChange(_Body):
    """Only what is sent is changed, for its keys at once."""

    name = serializers.CharField(max_length=80, required=False)
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    active = serializers.BooleanField(required=False, help_text="False: none of its keys is taken.")


@extend_schema(tags=["service accounts"])
class ServiceAccountViewSet(EditableTenantViewSet):
    """What programs act as, whoever set them up."""

    model = ServiceAccount
    serializer_class = ServiceAccountSerializer
    role_actions = dict.fromkeys(("create", "partial_update", "destroy"), Action.MANAGE_SERVICE_ACCOUNTS)

    def rows(self):
        return service_accounts()

    @extend_schema(request=ServiceAccountCreate, responses={201: ServiceAccountSerializer})
    @idempotent
    def create(self, request) -> Response:
        wishes = self.validated(ServiceAccountCreate)
        made = service_account_create(**wishes, created_by=self.caller.maker, **self._granter())
        return self.created(ServiceAccountSerializer, self.rows().get(id=made.id))

    @extend_schema(request=ServiceAccountChange, responses=ServiceAccountSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        """Change it. Its role, its projects and whether it is active hold for its keys at once."""
        changes = self.validated(ServiceAccountChange)
        account = service_account_change(account=self.to_edit(), **changes, **self._granter())
        return self.versioned(self.rows().get(id=account.id))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        """Remove it and revoke all its keys."""
        service_account_remove(account=self.to_edit(), **self._granter())
        return Response(status=204)

    def _granter(self) -> dict[str, Any]:
        return {"granter_role": self.caller.role, "granted_by": self.caller.key}
