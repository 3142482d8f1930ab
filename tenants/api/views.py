"""Projects and members of the caller's tenant."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from tenants import services
from tenants.api.base import IF_MATCH, EditableTenantViewSet
from tenants.api.idempotency import idempotent
from tenants.api.serializers import (
    MemberChange,
    MemberSerializer,
    ProjectChange,
    ProjectCreate,
    ProjectSerializer,
)
from tenants.limits import project_limits_set
from tenants.members import member_change_role, member_remove
from tenants.models import Membership, Project
from tenants.roles import Action


@extend_schema(tags=["projects"])
class ProjectViewSet(EditableTenantViewSet):
    """Cost centres. Every endpoint and every inference key belongs to one."""

    model = Project
    serializer_class = ProjectSerializer
    role_actions = {"create": Action.MANAGE_PROJECTS, "partial_update": Action.MANAGE_PROJECTS}
    project_field = "id"

    @extend_schema(request=ProjectCreate, responses={201: ProjectSerializer})
    @idempotent
    def create(self, request) -> Response:
        self.caller.require_whole_tenant()
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
    """People and their roles in the tenant. They join by an invitation, or by the groups of a sign-in provider."""

    model = Membership
    serializer_class = MemberSerializer
    role_actions = dict.fromkeys(("partial_update", "destroy"), Action.MANAGE_MEMBERS)

    def rows(self):
        return Membership.objects.select_related("user")

    @extend_schema(request=MemberChange, responses=MemberSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, id) -> Response:
        membership = member_change_role(
            membership=self.to_edit(),
            **self.validated(MemberChange),
            granter_role=self.caller.role,
            granted_by=self.caller.key,
        )
        return self.versioned(membership)

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        member_remove(membership=self.to_edit(), granter_role=self.caller.role)
        return Response(status=204)
