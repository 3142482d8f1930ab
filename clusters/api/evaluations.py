"""Evaluation sets of tenants and of the platform, running them, and accepting what came of it."""

from __future__ import annotations

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.evaluation_serializers import (
    AcceptBody,
    EvaluateBody,
    EvaluationRunDetailSerializer,
    EvaluationRunSerializer,
    EvaluationRunsSerializer,
    EvaluationSetBody,
    EvaluationSetChange,
    EvaluationSetDetailSerializer,
    EvaluationSetSerializer,
    OwnEvaluationSetBody,
)
from clusters.api.operators import OperatorViewSet
from clusters.endpoints import selectors
from clusters.endpoints.evaluations.runs import run_accept, run_list, runs_begin
from clusters.endpoints.evaluations.sets import set_change, set_create, set_remove, sets_seen
from clusters.inventory import remit
from clusters.models import Endpoint, EvaluationRun, EvaluationSet
from tenants import scope
from tenants.api.base import IF_MATCH, EditableTenantViewSet, ReadOnlyTenantViewSet, TenantViewSet
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, content_version, etag, refuse_stale
from tenants.errors import Forbidden
from tenants.roles import Action, PlatformAction


class EvaluationSetFilter(django_filters.FilterSet):
    model = django_filters.CharFilter(field_name="model__name", help_text="Name of the catalog model.")
    endpoint = django_filters.UUIDFilter(field_name="endpoint_id", help_text="Id of the endpoint.")


@extend_schema(tags=["evaluations"])
class EvaluationSetViewSet(EditableTenantViewSet):
    """The tenant's sets, and those of the platform, which it reads only."""

    model = EvaluationSet
    serializer_class = EvaluationSetDetailSerializer
    project_field = "endpoint__project"
    filterset_class = EvaluationSetFilter
    role_actions = dict.fromkeys(("create", "partial_update", "destroy"), Action.ORDER)

    def rows(self):
        return sets_seen()

    def get_serializer_class(self):
        return EvaluationSetSerializer if self.action == "list" else EvaluationSetDetailSerializer

    @extend_schema(request=OwnEvaluationSetBody, responses={201: EvaluationSetDetailSerializer})
    @idempotent
    def create(self, request) -> Response:
        """Make a set for one of the endpoints, or for all of them with a model. Its prompts rest sealed."""
        wishes = self.validated(OwnEvaluationSetBody)
        if "endpoint" not in wishes:
            self.caller.require_whole_tenant()
        made = set_create(**wishes, tenant_id=self.caller.tenant_id, actor=self.caller.actor)
        return self.created(EvaluationSetDetailSerializer, made)

    @extend_schema(
        request=EvaluationSetChange, responses=EvaluationSetDetailSerializer, parameters=[IF_MATCH]
    )
    def partial_update(self, request, id) -> Response:
        """Change it. Other prompts or demands make a new version; runs keep the one that they asked."""
        found = self._own()
        wishes = self.validated(EvaluationSetChange)
        return self.versioned(set_change(evaluation_set=found, actor=self.caller.actor, **wishes))

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, id) -> Response:
        """Take it away: it is asked no more. What it came to stays."""
        set_remove(evaluation_set=self._own())
        return Response(status=204)

    def _own(self) -> EvaluationSet:
        found = self.to_edit()
        if found.tenant_id is None:
            raise Forbidden(
                "This set is the platform's: its operators change it. Make one of your own beside it."
            )
        return found


@extend_schema(tags=["evaluations"])
class PlatformEvaluationSetViewSet(OperatorViewSet):
    """Sets of the platform, which hold for every tenant's endpoints with the model."""

    default_platform_action = PlatformAction.VIEW_OFFER
    platform_actions = dict.fromkeys(("create", "partial_update", "destroy"), PlatformAction.MANAGE_OFFER)
    model = EvaluationSet
    serializer_class = EvaluationSetDetailSerializer
    filterset_class = EvaluationSetFilter
    reason = "an operator manages the platform's evaluation sets through the REST API"

    def rows(self):
        return sets_seen().filter(tenant=None)

    @extend_schema(responses=EvaluationSetSerializer(many=True), operation_id="platform_evaluation_sets_list")
    def list(self, request) -> Response:
        """The platform's sets."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(EvaluationSetSerializer(page, many=True).data)

    @extend_schema(responses=EvaluationSetDetailSerializer, operation_id="platform_evaluation_sets_retrieve")
    def retrieve(self, request, id) -> Response:
        """One set with its prompts."""
        return self._versioned(self.get_object())

    @extend_schema(
        request=EvaluationSetBody,
        responses={201: EvaluationSetDetailSerializer},
        operation_id="platform_evaluation_sets_create",
    )
    @idempotent
    def create(self, request) -> Response:
        """Make a set for a model. From then on it is asked at changes of every tenant's endpoints with it."""
        wishes = self.validated(EvaluationSetBody)
        made = set_create(**wishes, tenant_id=None, actor=self.caller.actor)
        self.audit("evaluation-set.add", name=made.name, model=made.model and made.model.name)
        return self.created(EvaluationSetDetailSerializer, made)

    @extend_schema(
        request=EvaluationSetChange,
        responses=EvaluationSetDetailSerializer,
        parameters=[IF_MATCH],
        operation_id="platform_evaluation_sets_change",
    )
    def partial_update(self, request, id) -> Response:
        """Change it. Other prompts or demands make a new version."""
        found = self._to_edit()
        changed = set_change(
            evaluation_set=found, actor=self.caller.actor, **self.validated(EvaluationSetChange)
        )
        self.audit("evaluation-set.change", name=changed.name, version=changed.version)
        return self._versioned(changed)

    @extend_schema(
        responses={204: None}, parameters=[IF_MATCH], operation_id="platform_evaluation_sets_destroy"
    )
    def destroy(self, request, id) -> Response:
        """Take it away: it is asked no more."""
        found = self._to_edit()
        set_remove(evaluation_set=found)
        self.audit("evaluation-set.remove", name=found.name)
        return Response(status=204)

    def _to_edit(self) -> EvaluationSet:
        found = self.get_object()
        if asks_for_version(self.request):
            EvaluationSet.objects.select_for_update().get(id=found.id)
            refuse_stale(self.request, content_version(self.get_serializer(self.get_object()).data))
        return found

    def _versioned(self, found: EvaluationSet) -> Response:
        shown = EvaluationSetDetailSerializer(found).data
        return Response(shown, headers={"ETag": etag(content_version(shown))})


class EvaluationFilter(django_filters.FilterSet):
    state = django_filters.MultipleChoiceFilter(
        choices=EvaluationRun.State.choices, help_text="Repeat for several."
    )
    endpoint = django_filters.UUIDFilter(field_name="endpoint_id", help_text="Id of the endpoint.")
    revision = django_filters.NumberFilter(
        field_name="revision__number", min_value=1, max_value=2**31 - 1, help_text="Number of the revision."
    )


@extend_schema(tags=["evaluations"])
class EvaluationViewSet(ReadOnlyTenantViewSet):
    """Runs of evaluation sets."""

    model = EvaluationRun
    serializer_class = EvaluationRunDetailSerializer
    project_field = "endpoint__project"
    filterset_class = EvaluationFilter
    role_actions = {"accept": Action.MANAGE_POLICY}

    def rows(self):
        return run_list()

    def get_serializer_class(self):
        return EvaluationRunSerializer if self.action == "list" else EvaluationRunDetailSerializer

    @extend_schema(
        request=AcceptBody, responses=EvaluationRunDetailSerializer, operation_id="evaluations_accept"
    )
    @idempotent
    def accept(self, request, id) -> Response:
        """Accept its result, with a reason; one that was not passed is waived, for later revisions alike as well."""
        run, body = self.get_object(), self.validated(AcceptBody)
        run_accept(run=run, actor=self.caller.actor, user=self.caller.user, **body)
        return self.shown(EvaluationRunDetailSerializer, self.get_object())


@extend_schema(tags=["evaluations"])
class EndpointEvaluationViewSet(TenantViewSet):
    """Running evaluation sets on an endpoint."""

    model = Endpoint
    serializer_class = EvaluationRunSerializer
    project_field = "project"
    role_actions = {"evaluate": Action.ORDER}

    def rows(self):
        return selectors.endpoint_detail()

    @extend_schema(
        request=EvaluateBody,
        responses={202: EvaluationRunsSerializer},
        operation_id="endpoints_evaluations_create",
    )
    @idempotent
    def evaluate(self, request, id) -> Response:
        """Ask a revision the prompts of its sets now. It uses tokens of the endpoint's project."""
        runs = runs_begin(
            endpoint=self.get_object(), asked_as=self.caller.actor, **self.validated(EvaluateBody)
        )
        found = run_list().filter(id__in=[run.id for run in runs])
        return self.shown(EvaluationRunsSerializer, {"results": found}, code=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["evaluations"])
class OperatorEvaluationViewSet(OperatorViewSet):
    """Accepting a result, whoever's endpoint it is of."""

    default_platform_action = PlatformAction.MANAGE_ENDPOINTS
    model = EvaluationRun
    serializer_class = EvaluationRunDetailSerializer
    reason = "an operator accepts an evaluation through the REST API"

    def rows(self):
        return run_list().filter(endpoint__in=remit.endpoints(Endpoint.objects.all()))

    @extend_schema(
        request=AcceptBody,
        responses=EvaluationRunDetailSerializer,
        operation_id="platform_evaluations_accept",
    )
    @idempotent
    def accept(self, request, id) -> Response:
        """For operators: accept its result, with a reason; one that was not passed is waived."""
        run, body = self.get_object(), self.validated(AcceptBody)
        with scope.tenant(run.tenant_id):
            run_accept(run=run, actor=self.caller.actor, user=self.caller.user, **body)
        self.audit("evaluation.accept", evaluation=str(run.id), **body)
        return self.shown(EvaluationRunDetailSerializer, self.get_object())
