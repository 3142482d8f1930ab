"""The caller's own tenant, with what it may hold and holds: composed of two rooms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from clusters.api.operators import OperatorScoped
from clusters.endpoints.selectors import quota_use
from tenants.api.base import IF_MATCH, TenantScoped
from tenants.api.fields import StrictSerializer
from tenants.api.preconditions import content_version, etag, refuse_stale
from tenants.api.serializers import RatesBody
from tenants.errors import NotFound
from tenants.limits import tenant_choices_set, tenant_limits_set
from tenants.models import Tenant
from tenants.models.tenants import MOST_FILES_DAYS
from tenants.roles import Action, PlatformAction


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
        fields = [
            "id", "slug", "name", "time_zone", "currency", "state", "refuse_after_s", "files_days",
            "requests_per_minute", "tokens_per_minute", "share", "created_at", "quotas",
        ]  # fmt: skip


class TenantChange(StrictSerializer):
    """What a tenant chooses; only what is sent is changed."""

    refuse_after_s = serializers.IntegerField(
        min_value=60, max_value=366 * 86_400, allow_null=True, required=False,
        help_text="Seconds that a gateway which hears nothing of Berth goes on serving the tenant; null: for ever.",
    )  # fmt: skip
    files_days = serializers.IntegerField(
        min_value=1, max_value=MOST_FILES_DAYS, required=False,
        help_text="Days that files and batches are kept.",
    )  # fmt: skip


class TenantLimits(RatesBody):
    """What operators set of a tenant; only what is sent is changed."""

    action = PlatformAction.MANAGE_TENANTS
    share = serializers.FloatField(
        min_value=0.01, max_value=100, required=False,
        help_text="Its weight beside other tenants on shared endpoints.",
    )  # fmt: skip


class LimitedTenantSerializer(serializers.ModelSerializer):
    """A tenant as operators limit it."""

    class Meta:
        model = Tenant
        fields = ["id", "slug", "name", "state", "requests_per_minute", "tokens_per_minute", "share"]


@extend_schema(tags=["tenant"])
class TenantView(TenantScoped):
    """The tenant that the key, or the header Berth-Tenant, stands for."""

    role_actions: ClassVar = {"patch": Action.MANAGE_SETTINGS}

    @extend_schema(responses=TenantSerializer, operation_id="tenant_retrieve")
    def get(self, request) -> Response:
        return _versioned(self._shown(Tenant.objects.get(id=self.caller.tenant_id)))

    @extend_schema(
        request=TenantChange, responses=TenantSerializer, parameters=[IF_MATCH], operation_id="tenant_update"
    )
    def patch(self, request) -> Response:
        """Change what the tenant chooses; gateways follow within a second."""
        body = TenantChange(data=request.data)
        body.is_valid(raise_exception=True)
        tenant = Tenant.objects.select_for_update(no_key=True).get(id=self.caller.tenant_id)
        refuse_stale(request, _version(self._shown(tenant)))
        return _versioned(self._shown(tenant_choices_set(tenant=tenant, choices=body.validated_data)))

    def _shown(self, tenant: Tenant) -> dict[str, Any]:
        tenant.quotas = quota_use()
        return TenantSerializer(tenant).data


@extend_schema(tags=["tenant"])
class TenantLimitsView(OperatorScoped):
    """For operators: what a tenant may use of gateways."""

    default_platform_action = PlatformAction.VIEW_TENANTS
    platform_actions = {"patch": PlatformAction.MANAGE_TENANTS}
    reason = "an operator limits a tenant through the REST API"

    @extend_schema(responses=LimitedTenantSerializer, operation_id="tenants_retrieve")
    def get(self, request, slug) -> Response:
        return _versioned(LimitedTenantSerializer(self._tenant(slug)).data)

    @extend_schema(
        request=TenantLimits,
        responses=LimitedTenantSerializer,
        parameters=[IF_MATCH],
        operation_id="tenants_update",
    )
    def patch(self, request, slug) -> Response:
        """Limit a tenant a minute, weigh it on shared endpoints."""
        body = TenantLimits(data=request.data)
        body.is_valid(raise_exception=True)
        tenant = self._tenant(slug)
        refuse_stale(request, _version(LimitedTenantSerializer(tenant).data))
        limits = dict(body.validated_data)
        share = limits.pop("share", None)
        tenant_limits_set(tenant=tenant, limits=limits, share=share)
        self.audit("tenant.limits", tenant=tenant.slug, **body.validated_data)
        return _versioned(LimitedTenantSerializer(tenant).data)

    def _tenant(self, slug: str) -> Tenant:
        tenant = Tenant.objects.select_for_update(no_key=True).filter(slug=slug).first()
        if tenant is None:
            raise NotFound
        return tenant


def _version(shown: Mapping[str, Any]) -> str:
    # What it holds of its quotas moves by itself.
    return content_version({name: value for name, value in shown.items() if name != "quotas"})


def _versioned(shown: Mapping[str, Any]) -> Response:
    return Response(shown, headers={"ETag": etag(_version(shown))})


@extend_schema(tags=["tenant"])
class QuotaView(TenantScoped):
    """The tenant's quotas with their use."""

    @extend_schema(responses=QuotasSerializer, operation_id="quotas_list")
    def get(self, request) -> Response:
        return Response(QuotasSerializer({"results": quota_use()}).data)
