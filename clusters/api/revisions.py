"""Revisions of an endpoint: what its cluster was told, and running an earlier one again; moving and sharing it."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.approvals import asker_of
from clusters.api.cluster_serializers import (
    ConfigurationQuery,
    ConfigurationSerializer,
    MoveBody,
    RestoreBody,
    ShareBody,
)
from clusters.api.operators import OperatorViewSet
from clusters.api.serializers import EndpointDetailSerializer
from clusters.endpoints import restoring, selectors, services
from clusters.endpoints.limits import endpoint_share
from clusters.inventory import remit
from clusters.models import Endpoint, Revision
from tenants import scope
from tenants.api.base import IF_MATCH, TenantViewSet
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, etag, refuse_stale
from tenants.errors import NotFound
from tenants.roles import Action, PlatformAction


@extend_schema(tags=["endpoints"])
class RevisionViewSet(TenantViewSet):
    """One revision of an endpoint of the tenant."""

    model = Endpoint
    serializer_class = EndpointDetailSerializer
    project_field = "project"
    role_actions = {"restore": Action.ORDER}

    def rows(self):
        return selectors.endpoint_detail()

    @extend_schema(
        parameters=[ConfigurationQuery],
        responses=ConfigurationSerializer,
        operation_id="endpoints_revisions_configuration",
        filters=False,
    )
    def configuration(self, request, id, number) -> Response:
        """What the cluster was told for a revision; with ``against``, as a diff from that revision."""
        endpoint = self.get_object()
        query = ConfigurationQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        against = query.validated_data.get("against")
        new = selectors.revision_configuration(_revision(endpoint, number))
        if against is None:
            documents = list(new.items())
        else:
            old = selectors.revision_configuration(_revision(endpoint, against))
            documents = selectors.configuration_diff(old, new)
        answer = {
            "revision": number,
            "against": against,
            "documents": [{"name": name, "text": text} for name, text in documents],
        }
        return self.shown(ConfigurationSerializer, answer)

    @extend_schema(
        request=RestoreBody,
        responses={202: EndpointDetailSerializer},
        parameters=[IF_MATCH],
        operation_id="endpoints_revisions_restore",
    )
    @idempotent
    def restore(self, request, id, number) -> Response:
        """Run an earlier revision's configuration again, as a new revision; what runs serves until it is ready."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        _revision(endpoint, number)
        restoring.endpoint_restore(
            endpoint=endpoint,
            number=number,
            actor=self.caller.actor,
            asked_by=asker_of(self.caller),
            if_generation=endpoint.generation if asks_for_version(request) else None,
            **self.validated(RestoreBody),
        )
        return _shown(self, self.get_object())


@extend_schema(tags=["endpoints"])
class MoveViewSet(OperatorViewSet):
    """Moving and sharing an endpoint, whoever's it is."""

    default_platform_action = PlatformAction.MANAGE_ENDPOINTS
    platform_actions = {"share": PlatformAction.MANAGE_OFFER}
    model = Endpoint
    serializer_class = EndpointDetailSerializer
    reason = "an operator moves or shares an endpoint through the REST API"

    def rows(self):
        return remit.endpoints(selectors.endpoint_detail())

    @extend_schema(
        request=MoveBody,
        responses={202: EndpointDetailSerializer},
        parameters=[IF_MATCH],
        operation_id="endpoints_move",
    )
    @idempotent
    def move(self, request, id) -> Response:
        """For operators: have it run on another cluster. What runs serves until the new engines do."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        cluster = self.validated(MoveBody)["cluster"]
        remit.check_target(cluster)
        with scope.tenant(endpoint.tenant_id):
            services.endpoint_move(
                endpoint=endpoint,
                cluster=cluster,
                actor=self.caller.actor,
                asked_by=self.caller.user,
                if_generation=endpoint.generation if asks_for_version(request) else None,
            )
        self.audit("endpoint.move", endpoint=str(endpoint.id), cluster=cluster and cluster.name)
        return _shown(self, self.get_object())

    @extend_schema(
        request=ShareBody,
        responses=EndpointDetailSerializer,
        parameters=[IF_MATCH],
        operation_id="endpoints_share",
    )
    @idempotent
    def share(self, request, id) -> Response:
        """For operators: publish it to every tenant, or take it back."""
        endpoint = self.get_object()
        refuse_stale(request, endpoint.generation)
        shared = self.validated(ShareBody)["shared"]
        with scope.tenant(endpoint.tenant_id):
            endpoint_share(
                endpoint=endpoint,
                shared=shared,
                actor=self.caller.actor,
                if_generation=endpoint.generation if asks_for_version(request) else None,
            )
        self.audit("endpoint.share", endpoint=str(endpoint.id), shared=shared)
        return _shown(self, self.get_object(), code=status.HTTP_200_OK)


def _revision(endpoint: Endpoint, number: int) -> Revision:
    revision = Revision.objects.filter(endpoint=endpoint, number=number).first()
    if revision is None:
        raise NotFound
    return revision


def _shown(view: TenantViewSet, endpoint: Endpoint, *, code: int = status.HTTP_202_ACCEPTED) -> Response:
    return view.shown(EndpointDetailSerializer, endpoint, code=code, ETag=etag(endpoint.generation))
