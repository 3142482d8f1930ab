"""A tenant's own credentials for fetching a model's weights: set, replaced, removed, never shown."""

from __future__ import annotations

import hashlib

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from clusters.api.cluster_serializers import SecretBody, SecretSerializer
from clusters.inventory import catalog
from clusters.models import CatalogModel, ModelSecret
from tenants.api.base import IF_MATCH, TenantViewSet
from tenants.api.preconditions import asks_for_version, content_version, etag, refuse_stale
from tenants.models import Tenant
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

    @extend_schema(request=SecretBody, responses=SecretSerializer, parameters=[IF_MATCH])
    def update(self, request, name) -> Response:
        """Set or replace it. It goes before the platform's from the next start of an engine on."""
        model = self._to_edit()
        catalog.tenant_model_secret_set(model=model, values=self.validated(SecretBody)["values"])
        return self._answer(model)

    @extend_schema(responses={204: None}, parameters=[IF_MATCH])
    def destroy(self, request, name) -> Response:
        """Remove it; weights are fetched with the platform's credentials again, if there are any."""
        catalog.tenant_model_secret_set(model=self._to_edit(), values={})
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _to_edit(self) -> CatalogModel:
        model = self.get_object()
        if asks_for_version(self.request):
            Tenant.objects.select_for_update(no_key=True).get(id=self.caller.tenant_id)
            refuse_stale(self.request, _version(model))
        return model

    def _answer(self, model: CatalogModel) -> Response:
        known = {"model": model.name, "set": ModelSecret.objects.filter(model=model).exists()}
        return self.shown(SecretSerializer, known, ETag=etag(_version(model)))


def _version(model: CatalogModel) -> str:
    # Nothing of it is shown: as it rests, sealed, it tells one from another.
    secret = ModelSecret.objects.filter(model=model).first()
    return content_version({"sealed": hashlib.sha256(bytes(secret.sealed)).hexdigest() if secret else ""})
