"""A tenant's own credentials for fetching a model's weights: set, replaced, removed, never shown."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.cluster_serializers import SecretBody, SecretSerializer
from clusters.inventory import catalog
from clusters.models import CatalogModel, ModelSecret
from tenants.api.base import TenantViewSet
from tenants.roles import Action


@extend_schema(tags=["catalog"])
class ModelSecretViewSet(TenantViewSet):
    """The tenant's secret of one model."""

    model = CatalogModel
    serializer_class = SecretSerializer
    lookup_field = lookup_url_kwarg = "name"
    role_actions = {"update": Action.MANAGE_SECRETS, "destroy": Action.MANAGE_SECRETS}

    def rows(self):
        return CatalogModel.objects.filter(published=True)

    @extend_schema(responses=SecretSerializer)
    def retrieve(self, request, name) -> Response:
        """Whether the tenant has set one."""
        return self._answer(self.get_object())

    @extend_schema(request=SecretBody, responses=SecretSerializer)
    def update(self, request, name) -> Response:
        """Set or replace it. It goes before the platform's from the next start of an engine on."""
        model = self.get_object()
        catalog.tenant_model_secret_set(model=model, values=self.validated(SecretBody)["values"])
        return self._answer(model)

    @extend_schema(responses={204: None})
    def destroy(self, request, name) -> Response:
        """Remove it; weights are fetched with the platform's credentials again, if there are any."""
        catalog.tenant_model_secret_set(model=self.get_object(), values={})
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _answer(self, model: CatalogModel) -> Response:
        known = {"model": model.name, "set": ModelSecret.objects.filter(model=model).exists()}
        return self.shown(SecretSerializer, known)
