"""Paths of the clusters room under /api/v1."""

from django.urls import path, register_converter

from clusters.api.catalog import CatalogModelViewSet, RegionViewSet, SloClassViewSet
from clusters.api.endpoints import EndpointViewSet


class NameConverter:
    """A name of the catalog: letters, digits, dots, hyphens."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._-]*"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(NameConverter, "name")

READ_LIST, READ_ONE = {"get": "list"}, {"get": "retrieve"}

urlpatterns = [
    path("models", CatalogModelViewSet.as_view(READ_LIST)),
    path("models/<name:name>", CatalogModelViewSet.as_view(READ_ONE)),
    path("slo-classes", SloClassViewSet.as_view(READ_LIST)),
    path("slo-classes/<name:name>", SloClassViewSet.as_view(READ_ONE)),
    path("regions", RegionViewSet.as_view(READ_LIST)),
    path("regions/<name:code>", RegionViewSet.as_view(READ_ONE)),
    path("endpoints", EndpointViewSet.as_view({"get": "list", "post": "create"})),
    path("endpoints:plan", EndpointViewSet.as_view({"post": "plan"})),
    path(
        "endpoints/<uuid:id>",
        EndpointViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("endpoints/<uuid:id>:pause", EndpointViewSet.as_view({"post": "pause"})),
    path("endpoints/<uuid:id>:resume", EndpointViewSet.as_view({"post": "resume"})),
    path("endpoints/<uuid:id>/events", EndpointViewSet.as_view({"get": "events"})),
    path("endpoints/<uuid:id>/revisions", EndpointViewSet.as_view({"get": "revisions"})),
    path("endpoints/<uuid:id>/logs", EndpointViewSet.as_view({"get": "logs"})),
]
