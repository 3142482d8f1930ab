"""How engines run, for operators: the pinned images and the engine settings of each SLO class."""

from __future__ import annotations

from django.db.models import Model
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from clusters.api.cluster_serializers import ImageBody, ImageSerializer, TuningBody, TuningSerializer
from clusters.api.operators import OperatorViewSet
from clusters.inventory import images, tuning
from clusters.models import EngineImage, SloClass
from tenants.api.base import IF_MATCH
from tenants.api.preconditions import asks_for_version, content_version, etag, refuse_stale
from tenants.errors import NotFound
from tenants.roles import PlatformAction


@extend_schema(tags=["engines"])
class ImageViewSet(OperatorViewSet):
    """Images that engines, gateways and the loader of weights run from."""

    default_platform_action = PlatformAction.VIEW_OFFER
    platform_actions = {"update": PlatformAction.MANAGE_OFFER}
    model = EngineImage
    serializer_class = ImageSerializer
    lookup_field = lookup_url_kwarg = "use"
    page_ordering = "use"
    reason = "an operator manages engine images through the REST API"

    @extend_schema(responses=ImageSerializer(many=True))
    def list(self, request) -> Response:
        """All images by use."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(ImageSerializer(page, many=True).data)

    @extend_schema(responses=ImageSerializer)
    def retrieve(self, request, use) -> Response:
        """The image of a use."""
        return _versioned(self, self.get_object())

    @extend_schema(request=ImageBody, responses=ImageSerializer, parameters=[IF_MATCH])
    def update(self, request, use) -> Response:
        """Pin the image of a use. Revisions made before keep theirs."""
        if use not in images.DEFAULTS:
            raise NotFound
        _refuse_stale(self, EngineImage.objects.select_for_update().filter(use=use).first())
        image = images.image_set(use=use, **self.validated(ImageBody))
        self.audit("image.set", use=use, reference=image.reference, digest=image.digest)
        return _versioned(self, image)


@extend_schema(tags=["engines"])
class TuningViewSet(OperatorViewSet):
    """The table that turns an SLO class into engine settings."""

    default_platform_action = PlatformAction.VIEW_OFFER
    platform_actions = {"partial_update": PlatformAction.MANAGE_OFFER}
    model = SloClass
    serializer_class = TuningSerializer
    lookup_field, lookup_url_kwarg = "name", "slo_class"
    page_ordering = "name"
    reason = "an operator manages engine settings through the REST API"

    @extend_schema(responses=TuningSerializer(many=True))
    def list(self, request) -> Response:
        """The settings of every SLO class."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(TuningSerializer(page, many=True).data)

    @extend_schema(responses=TuningSerializer)
    def retrieve(self, request, slo_class) -> Response:
        """The settings of one SLO class."""
        return _versioned(self, self.get_object())

    @extend_schema(request=TuningBody, responses=TuningSerializer, parameters=[IF_MATCH])
    def partial_update(self, request, slo_class) -> Response:
        """Change settings for revisions made from now on; those that run keep theirs."""
        found = self.get_object()
        _refuse_stale(self, SloClass.objects.select_for_update().get(id=found.id))
        wishes = self.validated(TuningBody, partial=True)
        tuning.tuning_change(slo_class=found, **wishes)
        self.audit("engine-settings.change", slo_class=found.name, **wishes)
        return _versioned(self, found)


def _versioned(view: OperatorViewSet, row: Model) -> Response:
    shown = view.get_serializer(row).data
    return Response(shown, headers={"ETag": etag(content_version(shown))})


def _refuse_stale(view: OperatorViewSet, row: Model | None) -> None:
    if asks_for_version(view.request):
        refuse_stale(view.request, content_version(view.get_serializer(row).data) if row else "none")
