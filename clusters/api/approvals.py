"""Requests that somebody has to agree to, the rules that ask for them, and asking again."""

from __future__ import annotations

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.approval_serializers import (
    ApprovalSerializer,
    AskAgainBody,
    DecisionBody,
    OtherTermsBody,
    RuleChange,
    RuleCreate,
    RuleSerializer,
)
from clusters.api.operators import OperatorViewSet
from clusters.api.serializers import EndpointDetailSerializer
from clusters.endpoints import selectors
from clusters.endpoints.approvals import decisions, rules
from clusters.endpoints.approvals.deciding import Asker, Decider, parts_for
from clusters.endpoints.approvals.rewording import endpoint_ask_again
from clusters.endpoints.approvals.selectors import operators_requests, request_list
from clusters.models import ApprovalRequest, ApprovalRule, Endpoint
from tenants import scope
from tenants.api.base import IF_MATCH, EditableTenantViewSet, ReadOnlyTenantViewSet, TenantViewSet
from tenants.api.caller import Caller
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, etag, refuse_stale
from tenants.errors import Forbidden
from tenants.roles import Action, PlatformAction


def decider_of(caller: Caller) -> Decider:
    """Give who decides through the REST API: a person, by session or by a key that they made."""
    return Decider(user=caller.user, actor=caller.actor, role=caller.role, via="api")


def asker_of(caller: Caller) -> Asker:
    """Give who asks through the REST API, with those who stand behind a service account or a key."""
    key = caller.key
    if key is None:
        return Asker(user=caller.user)
    makers = {key.created_by_id, key.service_account.created_by_id if key.service_account else None}
    return Asker(user=caller.user, behind=frozenset(makers - {None}))


class ApprovalFilter(django_filters.FilterSet):
    state = django_filters.MultipleChoiceFilter(
        choices=ApprovalRequest.State.choices, help_text="Repeat for several."
    )
    what = django_filters.MultipleChoiceFilter(choices=ApprovalRequest.What.choices)
    endpoint = django_filters.UUIDFilter(field_name="endpoint_id", help_text="Id of the endpoint.")


@extend_schema(tags=["approvals"])
class ApprovalViewSet(ReadOnlyTenantViewSet):
    """Requests of the tenant. Who may decide upon one, its rules say; each decision names them."""

    model = ApprovalRequest
    serializer_class = ApprovalSerializer
    filterset_class = ApprovalFilter

    def rows(self):
        return request_list()

    @property
    def decider(self) -> Decider:
        return decider_of(self.caller)

    @extend_schema(
        request=DecisionBody, responses=ApprovalSerializer, operation_id="approval_requests_approve"
    )
    @idempotent
    def approve(self, request, id) -> Response:
        """Agree to it. It is carried out at once, or stays pending: for others, or with a fresh quote."""
        return self._decide(decisions.approval_approve, DecisionBody)

    @extend_schema(
        request=DecisionBody, responses=ApprovalSerializer, operation_id="approval_requests_refuse"
    )
    @idempotent
    def refuse(self, request, id) -> Response:
        """Refuse it. What runs goes on as it is."""
        return self._decide(decisions.approval_refuse, DecisionBody)

    @extend_schema(
        request=OtherTermsBody, responses=ApprovalSerializer, operation_id="approval_requests_change"
    )
    @idempotent
    def change(self, request, id) -> Response:
        """Change what is asked for and agree to it so; dearer than quoted, it stays pending with its new quote."""
        return self._decide(decisions.approval_change, OtherTermsBody)

    @extend_schema(request=None, responses=ApprovalSerializer, operation_id="approval_requests_withdraw")
    @idempotent
    def withdraw(self, request, id) -> Response:
        """Take your own request back."""
        found = decisions.approval_withdraw(request=self.get_object(), decider=self.decider)
        return self.shown(ApprovalSerializer, self.rows().get(id=found.id))

    def _decide(self, service, body) -> Response:
        found = self.get_object()
        if self.caller.key is not None and not self.caller.may(Action.APPROVE):
            raise Forbidden("This key may not approve; sign in, or use a key whose role and verbs have it.")
        parts_for(found, self.decider)  # who may not decide is told that, whatever they sent
        found = service(request=found, decider=self.decider, **self.validated(body))
        return self.shown(ApprovalSerializer, self.rows().get(id=found.id))


@extend_schema(tags=["approvals"])
class OperatorApprovalViewSet(OperatorViewSet):
    """Requests that the platform's operators decide upon: those for GPUs that are reserved."""

    model = ApprovalRequest
    serializer_class = ApprovalSerializer
    reason = "an operator looks at or decides upon requests through the REST API"

    default_platform_action = PlatformAction.VIEW_ENDPOINTS
    platform_actions = dict.fromkeys(("approve", "refuse"), PlatformAction.MANAGE_ENDPOINTS)

    def rows(self):
        return operators_requests(self.caller)

    @property
    def decider(self) -> Decider:
        return Decider(user=self.caller.user, actor=self.caller.actor, operator=True, via="api")

    @extend_schema(operation_id="platform_approval_requests_list")
    def list(self, request) -> Response:
        """All of them, newest first."""
        page = self.paginate_queryset(self.rows())
        return self.get_paginated_response(
            ApprovalSerializer(page, many=True, context=self.get_serializer_context()).data
        )

    @extend_schema(
        request=DecisionBody, responses=ApprovalSerializer, operation_id="platform_approval_requests_approve"
    )
    @idempotent
    def approve(self, request, id) -> Response:
        """Agree to it."""
        return self._decide("approval.approve", decisions.approval_approve)

    @extend_schema(
        request=DecisionBody, responses=ApprovalSerializer, operation_id="platform_approval_requests_refuse"
    )
    @idempotent
    def refuse(self, request, id) -> Response:
        """Refuse it."""
        return self._decide("approval.refuse", decisions.approval_refuse)

    def _decide(self, action: str, service) -> Response:
        found, wishes = self.get_object(), self.validated(DecisionBody)
        with scope.tenant(found.tenant_id):
            found = service(request=found, decider=self.decider, **wishes)
        self.audit(action, request=str(found.id), title=found.title, state=found.state)
        # Another round may be for another cluster, which is out of the operator's reach.
        return self.shown(ApprovalSerializer, request_list().get(id=found.id))


@extend_schema(tags=["approvals"])
class RuleViewSet(EditableTenantViewSet):
    """What needs approval. What loosens a rule takes a second person where the tenant wants four eyes."""

    model = ApprovalRule
    serializer_class = RuleSerializer
    role_actions = dict.fromkeys(("create", "partial_update", "destroy"), Action.MANAGE_POLICY)

    def rows(self):
        return ApprovalRule.objects.select_related("tenant")

    @extend_schema(request=RuleCreate, responses={201: RuleSerializer})
    @idempotent
    def create(self, request) -> Response:
        return self.created(RuleSerializer, rules.rule_create(**self.validated(RuleCreate)))

    @extend_schema(
        request=RuleChange, responses={200: RuleSerializer, 202: RuleSerializer}, parameters=[IF_MATCH]
    )
    def partial_update(self, request, id) -> Response:
        """Change it; 202 where that waits for a second person, and the rule is as it was until then."""
        changes = self.validated(RuleChange)
        done = rules.rule_change(
            rule=self.to_edit(), changes=changes, asked_by=asker_of(self.caller), actor=self.caller.actor
        )
        answer = self.versioned(self.get_object())
        answer.status_code = status.HTTP_202_ACCEPTED if done.request else status.HTTP_200_OK
        return answer

    @extend_schema(responses={202: RuleSerializer, 204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        """Remove it; 202 where that waits for a second person."""
        done = rules.rule_delete(rule=self.to_edit(), asked_by=asker_of(self.caller), actor=self.caller.actor)
        if done.request is None:
            return Response(status=status.HTTP_204_NO_CONTENT)
        return self.shown(RuleSerializer, self.get_object(), code=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["endpoints"])
class AskAgainViewSet(TenantViewSet):
    """Asking again for an endpoint that waits for approval."""

    model = Endpoint
    serializer_class = EndpointDetailSerializer
    project_field = "project"
    default_role_action = Action.ORDER

    def rows(self):
        return selectors.endpoint_detail()

    @extend_schema(
        request=AskAgainBody,
        responses={202: EndpointDetailSerializer},
        parameters=[IF_MATCH],
        operation_id="endpoints_ask_again",
    )
    @idempotent
    def ask_again(self, request, id) -> Response:
        """Ask anew where its request was refused or has expired, or change what is asked for."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        endpoint_ask_again(
            endpoint=endpoint,
            actor=self.caller.actor,
            asked_by=asker_of(self.caller),
            changes=self.validated(AskAgainBody).get("changes"),
            if_generation=endpoint.generation if asks_for_version(request) else None,
        )
        endpoint = self.get_object()
        return self.shown(
            EndpointDetailSerializer,
            endpoint,
            code=status.HTTP_202_ACCEPTED,
            ETag=etag(endpoint.generation),
        )
