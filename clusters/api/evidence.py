"""Evidence about an endpoint, signed, and the keys to check it with."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema

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
        responses={(200, MEDIA_TYPE): OpenApiTypes.BINARY, 503: None},
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


@require_safe
def evidence_keys(request: HttpRequest) -> JsonResponse:
    """Give the public keys that evidence is checked with, as a JSON Web Key Set, to everybody."""
    return JsonResponse(signing.public_jwks())
