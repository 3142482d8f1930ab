"""Clusters for operators: register, check, change, rotate credentials, cordon, remove; their nodes."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.cluster_serializers import (
    SETTINGS,
    ClusterRegistration,
    ClusterSerializer,
    ConnectionBody,
    CordonBody,
    CredentialsRotation,
    FindingSerializer,
    LossBody,
    NodeSerializer,
    SettingsBody,
)
from clusters.api.operators import OperatorViewSet
from clusters.endpoints import lost
from clusters.inventory import registration, remit, services
from clusters.inventory.capacity import capacities
from clusters.inventory.selectors import node_uses
from clusters.models import Cluster, Node
from tenants.api.base import IF_MATCH
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import asks_for_version, content_version, etag, refuse_stale
from tenants.errors import Invalid
from tenants.roles import PlatformAction


@extend_schema(tags=["clusters"])
class ClusterViewSet(OperatorViewSet):
    """Where engines run."""

    default_platform_action = PlatformAction.MANAGE_ESTATE
    platform_actions = {
        "list": PlatformAction.VIEW_ESTATE,
        "retrieve": PlatformAction.VIEW_ESTATE,
        "nodes": PlatformAction.VIEW_ESTATE,
        "create": PlatformAction.MANAGE_FLEET,
        "check": PlatformAction.MANAGE_FLEET,
    }
    model = Cluster
    serializer_class = ClusterSerializer
    lookup_field = lookup_url_kwarg = "name"
    page_ordering = "name"
    reason = "an operator manages clusters through the REST API"
    dialling = frozenset({"check", "check_one", "credentials", "partial_update"})

    def rows(self) -> QuerySet[Cluster]:
        return remit.clusters().select_related("region")

    @extend_schema(responses=ClusterSerializer(many=True))
    def list(self, request) -> Response:
        """All clusters by name."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(ClusterSerializer(page, many=True).data)

    @extend_schema(responses=ClusterSerializer)
    def retrieve(self, request, name) -> Response:
        """One cluster. The ETag is for If-Match; it follows the settings and not what is seen there."""
        return self._answer(self.get_object())

    @extend_schema(request=ClusterRegistration, responses={201: ClusterSerializer})
    @idempotent
    def create(self, request) -> Response:
        """Register a Kubernetes cluster. Its credentials are sealed, and shown by no answer."""
        body = self.validated(ClusterRegistration)
        credentials = read_credentials(body.pop("credentials"))
        cluster = registration.kubernetes_cluster_register(
            **{**body, "namespaces": body.get("namespaces", [])}, credentials=credentials
        )
        self.audit(
            "cluster.register", cluster=cluster.name, region=cluster.region.code, driver=cluster.driver,
            server=cluster.server, namespaces=cluster.namespaces,
        )  # fmt: skip
        made = self.get_queryset().get(id=cluster.id)
        location = request.build_absolute_uri(f"{request.path}/{made.name}")
        return self._answer(made, code=status.HTTP_201_CREATED, Location=location)

    @extend_schema(
        request=ConnectionBody, responses=FindingSerializer, operation_id="clusters_check_unregistered"
    )
    def check(self, request) -> Response:
        """Try credentials without keeping them. That they do not work is an answer, not an error."""
        body = self.validated(ConnectionBody)
        report = registration.connection_check(
            credentials=read_credentials(body["credentials"]), namespaces=body["namespaces"]
        )
        return self.shown(FindingSerializer, report)

    @extend_schema(request=None, responses=FindingSerializer, operation_id="clusters_check")
    def check_one(self, request, name) -> Response:
        """Try the credentials that are kept."""
        cluster = self.get_object()
        report = registration.connection_check(
            credentials=registration.credentials_of(cluster), namespaces=cluster.namespaces
        )
        return self.shown(FindingSerializer, report)

    @extend_schema(request=SettingsBody, responses=ClusterSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, name) -> Response:
        """Change settings; what runs there is brought in line with them."""
        wishes = self.validated(SettingsBody)
        cluster = self.get_object()
        refuse_stale(request, _version(cluster))
        registration.cluster_change(cluster=cluster, only_as_seen=asks_for_version(request), **wishes)
        self.audit("cluster.change", cluster=cluster.name, **wishes)
        return self._answer(self.get_object())

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, name) -> Response:
        """Forget a cluster on which nothing of Berth runs any more."""
        cluster = self._to_edit()
        registration.cluster_remove(cluster=cluster)
        self.audit("cluster.remove", cluster=name)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        request=CredentialsRotation, responses=ClusterSerializer, operation_id="clusters_credentials"
    )
    def credentials(self, request, name) -> Response:
        """Rotate the credentials. They are tried first; whatever is under way goes on with the old ones."""
        body = self.validated(CredentialsRotation)
        cluster = self.get_object()
        changed = registration.credentials_rotate(
            cluster=cluster, credentials=read_credentials(body["credentials"])
        )
        self.audit("cluster.credentials", cluster=name, version=changed.credentials_version)
        return self._answer(self.get_object())

    @extend_schema(request=CordonBody, responses=ClusterSerializer, operation_id="clusters_cordon")
    def cordon(self, request, name) -> Response:
        """Place no new endpoints there. What runs goes on."""
        reason = self.validated(CordonBody)["reason"]
        services.cluster_cordon(cluster=self.get_object(), reason=reason)
        self.audit("cluster.cordon", cluster=name, reason=reason)
        return self._answer(self.get_object())

    @extend_schema(request=None, responses=ClusterSerializer, operation_id="clusters_uncordon")
    def uncordon(self, request, name) -> Response:
        """Take a cordoned cluster back into use."""
        services.cluster_uncordon(cluster=self.get_object())
        self.audit("cluster.uncordon", cluster=name)
        return self._answer(self.get_object())

    @extend_schema(request=LossBody, responses=ClusterSerializer, operation_id="clusters_declare_lost")
    @idempotent
    def declare_lost(self, request, name) -> Response:
        """Give up a cluster that does not answer and will not come back.

        GPU time there ends when it was last seen, its endpoints are placed elsewhere, its gateways are forgotten with
        the usage that they had not shipped, and it stays cordoned. ``confirm`` repeats its name.
        """
        if self.validated(LossBody)["confirm"] != name:
            raise Invalid(
                "Repeat the cluster's name to confirm.", errors={"confirm": ["This is not its name."]}
            )
        loss = lost.cluster_lost(cluster=self.get_object(), actor=self.caller.actor)
        self.audit("cluster.lost", cluster=name, **loss.told())
        return self._answer(self.get_object())

    @extend_schema(responses=NodeSerializer(many=True), operation_id="clusters_nodes", filters=False)
    def nodes(self, request, name) -> Response:
        """Its GPU nodes with who holds their GPUs: Berth's endpoints, or others in the cluster."""
        cluster = self.get_object()
        refuse_unknown_parameters(request, PAGING)
        rows = Node.objects.filter(pool__cluster=cluster).select_related("pool__gpu_type").order_by("id")
        page = self.paginate_queryset(rows)
        context = {**self.get_serializer_context(), **_uses({node.pool_id for node in page})}
        return self.get_paginated_response(NodeSerializer(page, many=True, context=context).data)

    def _to_edit(self) -> Cluster:
        cluster = self.get_object()
        if asks_for_version(self.request):
            Cluster.objects.select_for_update(no_key=True).get(id=cluster.id)
            cluster.refresh_from_db()
            refuse_stale(self.request, _version(cluster))
        return cluster

    def _answer(self, cluster: Cluster, *, code: int = status.HTTP_200_OK, **headers: str) -> Response:
        return self.shown(ClusterSerializer, cluster, code=code, ETag=etag(_version(cluster)), **headers)


def read_credentials(body: dict[str, Any]) -> Any:
    """Read the credentials that a body gives.

    Raises:
        Invalid: they are unusable; the message names the field.
    """
    if "kubeconfig" in body:
        return registration.credentials_from_kubeconfig(body["kubeconfig"], context=body.get("context", ""))
    return registration.credentials_given(**body)


def _version(cluster: Cluster) -> str:
    settings = {name: getattr(cluster, name) for name in (*SETTINGS, "credentials_version")}
    return content_version(settings)


def _uses(pool_ids: set) -> dict[str, dict]:
    uses = [
        ((capacity.pool.id, use.index), use)
        for capacity in capacities(pool_ids=pool_ids)
        for use in node_uses(capacity)
    ]
    return {
        "held": {place: use.held for place, use in uses},
        "free": {place: use.free for place, use in uses},
    }
