"""What the tenant lets itself use: its policy with all versions, and exceptions from it."""

from __future__ import annotations

import django_filters
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.approval_serializers import (
    ApprovalSerializer,
    ExceptionCreate,
    ExceptionSerializer,
    FloorBody,
    TenantPolicyBody,
    TenantPolicyInForceSerializer,
    TenantPolicySerializer,
)
from clusters.api.approvals import asker_of, decider_of
from clusters.api.operators import OperatorViewSet
from clusters.endpoints.approvals.deciding import Decider
from clusters.endpoints.approvals.selectors import request_list
from clusters.endpoints.policy import exceptions, setting
from clusters.models import PolicyException, TenantPolicy
from tenants import scope
from tenants.api.base import IF_MATCH, ReadOnlyTenantViewSet, TenantViewSet
from tenants.api.filters import PAGING, TrueOrFalseFilter, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, etag, refuse_stale
from tenants.models import Tenant
from tenants.roles import Action, PlatformAction


@extend_schema(tags=["policy"])
class PolicyViewSet(TenantViewSet):
    """The policy in force. Each change is a version that never changes."""

    model = TenantPolicy
    serializer_class = TenantPolicyInForceSerializer
    role_actions = {"update": Action.MANAGE_POLICY}

    @extend_schema(responses=TenantPolicyInForceSerializer, filters=False)
    def retrieve(self, request) -> Response:
        """What holds now. Version 0: everything is allowed. The ETag is for If-Match."""
        return self._answer(status.HTTP_200_OK)

    @extend_schema(
        request=TenantPolicyBody,
        responses={200: TenantPolicyInForceSerializer, 202: TenantPolicyInForceSerializer},
        parameters=[IF_MATCH],
    )
    def update(self, request) -> Response:
        """Set it. 202 where it loosens what holds and waits for a second person; what holds goes on until then."""
        values = self.validated(TenantPolicyBody)
        Tenant.objects.select_for_update(no_key=True).get(id=self.caller.tenant_id)
        held = TenantPolicy.objects.in_force()
        version = held.version if held else 0
        refuse_stale(request, version)
        note = values.pop("note")
        done = setting.policy_set(
            values=values,
            set_by=asker_of(self.caller),
            set_as=self.caller.actor,
            role=self.caller.role,
            note=note,
            if_version=version if asks_for_version(request) else None,
        )
        return self._answer(status.HTTP_202_ACCEPTED if done.request else status.HTTP_200_OK)

    @extend_schema(responses=TenantPolicySerializer(many=True), operation_id="policy_versions", filters=False)
    def versions(self, request) -> Response:
        """All versions, newest first."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(TenantPolicy.objects.all())
        return self.get_paginated_response(TenantPolicySerializer(page, many=True).data)

    def _answer(self, code: int) -> Response:
        held = TenantPolicy.objects.in_force()
        shown = held or TenantPolicy(version=0, effective_from=None, set_as="", four_eyes=True)
        return self.shown(TenantPolicyInForceSerializer, shown, code=code, ETag=etag(shown.version))


@extend_schema(tags=["policy"])
class PolicyFloorViewSet(OperatorViewSet):
    """What operators lock of a tenant's policy."""

    model = TenantPolicy
    serializer_class = TenantPolicySerializer
    lookup_url_kwarg = "slug"
    default_platform_action = PlatformAction.MANAGE_TENANTS
    reason = "an operator locks part of a tenant's policy through the REST API"

    @extend_schema(request=FloorBody, responses=TenantPolicySerializer, operation_id="platform_policy_floor")
    def update(self, request, slug) -> Response:
        """Lock zones and certifications: the tenant's own policy and its exceptions cannot go beyond."""
        tenant = get_object_or_404(Tenant, slug=slug)
        values = self.validated(FloorBody)
        with scope.tenant(tenant.id):
            policy = setting.policy_floor_set(
                zones=values["floor_zones"],
                certifications=values["floor_certifications"],
                set_by=self.caller.user,
                set_as=self.caller.actor,
                note=values["note"],
            )
        self.audit("policy.floor", tenant=slug, version=policy.version)
        return self.shown(TenantPolicySerializer, policy)


class ExceptionFilter(django_filters.FilterSet):
    restriction = django_filters.ChoiceFilter(choices=PolicyException.Restriction.choices)
    in_force = TrueOrFalseFilter(method="only", help_text="Only those that hold now, or do not.")
    endpoint = django_filters.UUIDFilter(field_name="endpoint_id", help_text="Id of the endpoint.")

    def only(self, queryset, name, value):
        held = queryset.in_force(timezone.now())
        return held if value else queryset.exclude(id__in=held.values("id"))


@extend_schema(tags=["policy"])
class ExceptionViewSet(ReadOnlyTenantViewSet):
    """Exceptions from the policy. Each was approved, and each ends."""

    model = PolicyException
    serializer_class = ExceptionSerializer
    filterset_class = ExceptionFilter
    role_actions = {"create": Action.ORDER, "end": Action.MANAGE_POLICY}

    def rows(self):
        return PolicyException.objects.select_related("endpoint", "project")

    @property
    def decider(self) -> Decider:
        return decider_of(self.caller)

    @extend_schema(request=ExceptionCreate, responses={202: ApprovalSerializer})
    @idempotent
    def create(self, request) -> Response:
        """Ask for one. An owner or admin decides upon the request that is answered with."""
        asked = exceptions.exception_ask(
            **self.validated(ExceptionCreate), asked_by=asker_of(self.caller), asked_as=self.caller.actor
        )
        found = request_list().get(id=asked.id)
        return self.shown(ApprovalSerializer, found, code=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=ExceptionSerializer, operation_id="policy_exceptions_end")
    def end(self, request, id) -> Response:
        """End it now. What ran under it is judged at once; what is then elsewhere than allowed is paused."""
        exceptions.exception_end(exception=self.get_object(), actor=self.caller.actor)
        return self.shown(ExceptionSerializer, self.get_object())
