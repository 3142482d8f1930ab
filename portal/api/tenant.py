"""The caller's own tenant, with what it may hold and holds: composed of two rooms."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from clusters.endpoints.selectors import quota_use
from tenants.api.base import TenantScoped
from tenants.models import Tenant


class QuotaSerializer(serializers.Serializer):
    """How much of a resource the tenant may hold at once, and holds now."""

    resource = serializers.CharField(help_text="gpus, gpus:<GPU type> or endpoints.")
    limit = serializers.IntegerField()
    used = serializers.IntegerField()


class QuotasSerializer(serializers.Serializer):
    results = QuotaSerializer(many=True)


class TenantSerializer(serializers.ModelSerializer):
    """An organisation."""

    quotas = QuotaSerializer(many=True)

    class Meta:
        model = Tenant
        fields = ["id", "slug", "name", "time_zone", "currency", "state", "created_at", "quotas"]


@extend_schema(tags=["tenant"])
class TenantView(TenantScoped):
    """The tenant that the key, or the header Berth-Tenant, stands for."""

    @extend_schema(responses=TenantSerializer, operation_id="tenant_retrieve")
    def get(self, request) -> Response:
        tenant = Tenant.objects.get(id=self.caller.tenant_id)
        tenant.quotas = quota_use()
        return Response(TenantSerializer(tenant).data)


@extend_schema(tags=["tenant"])
class QuotaView(TenantScoped):
    """The tenant's quotas with their use."""

    @extend_schema(responses=QuotasSerializer, operation_id="quotas_list")
    def get(self, request) -> Response:
        return Response(QuotasSerializer({"results": quota_use()}).data)
