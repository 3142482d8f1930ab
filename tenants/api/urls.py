"""Paths of the tenants room under /api/v1. Those of keys stand in the router, for their classes are another room's."""

from django.urls import path

from tenants.api.views import MemberViewSet, ProjectViewSet

urlpatterns = [
    path("projects", ProjectViewSet.as_view({"get": "list", "post": "create"})),
    path("projects/<uuid:id>", ProjectViewSet.as_view({"get": "retrieve", "patch": "partial_update"})),
    path("members", MemberViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "members/<uuid:id>",
        MemberViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
]
