"""Projects, members and keys of the caller's tenant."""

from __future__ import annotations

from typing import ClassVar

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from tenants import services
from tenants.api.base import IF_MATCH, EditableTenantViewSet
from tenants.api.idempotency import idempotent
from tenants.api.serializers import (
    KeyChange,
    KeyCreate,
    KeySerializer,
    MemberChange,
    MemberCreate,
    MemberSerializer,
    NewKeySerializer,
    ProjectChange,
    ProjectCreate,
    ProjectSerializer,
)
from tenants.keys import key_mint, key_revoke
from tenants.limits import key_change, project_limits_set
from tenants.members import member_add, member_change_role, member_remove
from tenants.models import ApiKey, KeyScope, Membership, Project
from tenants.roles import Action


@extend_schema(tags=["projects"])
class ProjectViewSet(EditableTenantViewSet):
    """Cost centres. Every endpoint and every inference key belongs to one."""

    model = Project
    serializer_class = ProjectSerializer
    role_actions = {"create": Action.MANAGE_PROJECTS, "partial_update": Action.MANAGE_PROJECTS}

    @extend_schema(request=ProjectCreate, responses={201: ProjectSerializer})
    @idempotent
    def create(self, request) -> Response:
        return self.created(ProjectSerializer, services.project_create(**self.validated(ProjectCreate)))

    @extend_schema(request=ProjectChange, responses=ProjectSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        changes = self.validated(ProjectChange)
        project = self.to_edit()
        if limits := changes.pop("limits", None):
            project_limits_set(project=project, limits=limits)
        return self.versioned(services.project_change(project=project, **changes))


@extend_schema(tags=["members"])
class MemberViewSet(EditableTenantViewSet):
    """People and their roles in the tenant."""

    model = Membership
    serializer_class = MemberSerializer
    role_actions = dict.fromkeys(("create", "partial_update", "destroy"), Action.MANAGE_MEMBERS)

    def rows(self):
        return Membership.objects.select_related("user")

    @extend_schema(request=MemberCreate, responses={201: MemberSerializer})
    @idempotent
    def create(self, request) -> Response:
        membership = member_add(**self.validated(MemberCreate), granter_role=self.caller.role)
        return self.created(MemberSerializer, membership)

    @extend_schema(request=MemberChange, responses=MemberSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        membership = member_change_role(
            membership=self.to_edit(), **self.validated(MemberChange), granter_role=self.caller.role
        )
        return self.versioned(membership)

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        member_remove(membership=self.to_edit(), granter_role=self.caller.role)
        return Response(status=204)


class KeyFilter(django_filters.FilterSet):
    scope = django_filters.ChoiceFilter(choices=KeyScope.choices)
    project = django_filters.CharFilter(field_name="project__slug", help_text="Slug of the project.")


@extend_schema(tags=["keys"])
class KeyViewSet(EditableTenantViewSet):
    """Keys for calling models (inference) and for this API (management)."""

    create_body: ClassVar[type[KeyCreate]] = KeyCreate
    change_body: ClassVar[type[KeyChange]] = KeyChange

    model = ApiKey
    serializer_class = KeySerializer
    filterset_class = KeyFilter
    role_actions = dict.fromkeys(("create", "partial_update", "revoke", "destroy"), Action.MINT_KEYS)

    def rows(self):
        return ApiKey.objects.filter(ephemeral=False).select_related("project")

    @extend_schema(request=KeyCreate, responses={201: NewKeySerializer})
    @idempotent
    def create(self, request) -> Response:
        wishes = self.validated(self.create_body)
        key, key.text = key_mint(
            key_scope=wishes.pop("scope"),
            created_by=self.caller.user,
            granter_role=self.caller.role,
            **wishes,
        )
        return self.created(NewKeySerializer, key)

    @extend_schema(request=KeyChange, responses=KeySerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        """Change its name or its limits; gateways follow within a second."""
        changes = self.validated(self.change_body)
        return self.versioned(key_change(key=self.to_edit(), granter_role=self.caller.role, **changes))

    @extend_schema(request=None, responses=KeySerializer, operation_id="keys_revoke")
    def revoke(self, request, id) -> Response:
        """Revoke at once and for ever. Revoking again changes nothing."""
        return self.shown(KeySerializer, self._revoke())

    @extend_schema(responses={204: None})
    def destroy(self, request, id) -> Response:
        """The same as revoking: a revoked key stays in the list."""
        self._revoke()
        return Response(status=204)

    def _revoke(self) -> ApiKey:
        return key_revoke(key=self.get_object(), granter_role=self.caller.role)
