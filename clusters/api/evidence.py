"""Evidence about an endpoint, signed, and the keys to check it with."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.views import APIView

from clusters.endpoints import selectors
from clusters.endpoints.evidence.services import evidence_make, evidence_name
from clusters.models import Endpoint
from tenants import signing
from tenants.api.base import TenantViewSet
from tenants.api.fields import DayField, StrictSerializer
from tenants.roles import Action

MEDIA_TYPE = "application/zip"


class EvidenceQuery(StrictSerializer):
    """Whole UTC days."""

    to = DayField(help_text="The day after the last.")

    def get_fields(self):
        # A name that is a word of the language cannot be written as an attribute.
        return {"from": DayField(help_text="The first day."), **super().get_fields()}


class PublicKeySerializer(serializers.Serializer):
    """One key as a JSON Web Key."""

    kty = serializers.CharField()
    crv = serializers.CharField()
    use = serializers.CharField()
    alg = serializers.CharField()
    kid = serializers.CharField(help_text="Its number, as evidence names it.")
    x = serializers.CharField(help_text="The public key, base64url.")


class PublicKeysSerializer(serializers.Serializer):
    """A JSON Web Key Set."""

    keys = PublicKeySerializer(many=True)


@extend_schema(tags=["audit"])
class EvidenceViewSet(TenantViewSet):
    """Evidence about one endpoint of the tenant."""

    model = Endpoint
    default_role_action = Action.VIEW_AUDIT
    project_field = "project"

    def rows(self):
        return selectors.endpoint_detail()

    @extend_schema(
        parameters=[EvidenceQuery],
        responses={(200, MEDIA_TYPE): OpenApiTypes.BINARY},
        operation_id="endpoints_evidence",
        filters=False,
    )
    def evidence(self, request, id) -> HttpResponse:
        """Where it had to run and where it ran, under which policy, who let it, what was kept: signed, as a zip."""
        endpoint = self.get_object()
        query = EvidenceQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        days = {"first": query.validated_data["from"], "end": query.validated_data["to"]}
        packed = evidence_make(endpoint=endpoint, now=timezone.now(), by=self.caller.actor, **days)
        name = evidence_name(endpoint, **days)
        return HttpResponse(
            packed, content_type=MEDIA_TYPE, headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )


class EvidenceKeysView(APIView):
    """The keys that evidence is signed with."""

    authentication_classes = []
    permission_classes = [AllowAny]
    filter_backends = []
    http_method_names = ["get", "head"]

    @extend_schema(tags=["audit"], responses=PublicKeysSerializer, operation_id="evidence_keys", auth=[])
    def get(self, request) -> Response:
        """The public keys as a JSON Web Key Set, for everybody."""
        return Response(signing.public_jwks())
