"""Paths of the tenants room under /api/v1."""

from django.urls import path

from tenants.api.views import KeyViewSet, MemberViewSet, ProjectViewSet

urlpatterns = [
    path("projects", ProjectViewSet.as_view({"get": "list", "post": "create"})),
    path("projects/<uuid:id>", ProjectViewSet.as_view({"get": "retrieve", "patch": "partial_update"})),
    path("members", MemberViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "members/<uuid:id>",
        MemberViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    path("keys", KeyViewSet.as_view({"get": "list", "post": "create"})),
    path("keys/<uuid:id>", KeyViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path("keys/<uuid:id>:revoke", KeyViewSet.as_view({"post": "revoke"})),
]
