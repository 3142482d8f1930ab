"""Configuration as code by REST: what there is as documents, what documents would change, and applying them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from clusters.api.approvals import asker_of
from clusters.api.operators import OperatorScoped
from portal.api.parsers import LARGEST_BODY, BodyTooLarge, StrictJSONParser
from portal.configuration.applier import Applier
from portal.configuration.applying import Options, Outcome, configuration_apply, outcomes_digest
from portal.configuration.documents import Document, read_values, read_yaml
from portal.configuration.exporting import configuration_export
from portal.configuration.kinds import KINDS
from portal.configuration.places import Place
from portal.configuration.problems import Refused, Unusable
from portal.configuration.writing import to_file
from tenants.api.base import TenantScoped
from tenants.api.fields import StrictSerializer
from tenants.api.idempotency import idempotent
from tenants.errors import Forbidden, Invalid
from tenants.models import Tenant
from tenants.roles import PlatformAction

#: Placing an order holds the capacity of all pools until the request ends, for every tenant.
MOST_ORDERS: Final = 50
_SOURCE: Final = "body"


class YamlText(str):
    """A body that came as YAML, not read yet."""


class YamlParser(BaseParser):
    """YAML as text; it is read where the lines of its values are wanted."""

    media_type = "application/yaml"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> YamlText:
        length = int(parser_context["request"].META.get("CONTENT_LENGTH") or 0)
        if length > LARGEST_BODY:
            raise BodyTooLarge(f"The body has {length} bytes; at most {LARGEST_BODY} are read.")
        try:
            return YamlText(stream.read().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ParseError("The body is not UTF-8.") from error


class YamlRenderer(JSONRenderer):
    """Documents as YAML; an error stays the problem document that it is."""

    media_type = "application/yaml"
    format = "yaml"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        if isinstance(data, dict) and "documents" in data:
            return to_file(data["documents"]).encode()
        return super().render(data, "application/json", renderer_context)


class DocumentsBody(StrictSerializer):
    """Documents as in a file: apiVersion, kind, metadata, spec. Or send the file itself as application/yaml."""

    documents = serializers.ListField(child=serializers.DictField(), allow_empty=False)


class KindsQuery(StrictSerializer):
    kind = serializers.ListField(
        child=serializers.ChoiceField(choices=list(KINDS)), required=False, help_text="Repeat for several."
    )


class LabelQuery(StrictSerializer):
    """How documents are compared or applied."""

    owner = serializers.CharField(
        max_length=63, required=False, help_text="Owner label of the documents that name none themselves."
    )
    prune = serializers.BooleanField(
        default=False, help_text="Take away what has the owner label and is in no document."
    )
    take_over = serializers.BooleanField(
        default=False, help_text="Take objects over that have another owner label."
    )


class ApplyQuery(LabelQuery):
    dry_run = serializers.BooleanField(default=False, help_text="Tell what would be done, and do nothing.")
    expect = serializers.CharField(
        max_length=64,
        required=False,
        help_text="Digest of a comparison: refused with 409 where anything else than that would be done.",
    )


class MoneySerializer(serializers.Serializer):
    """Per hour; null where it is not known."""

    currency = serializers.CharField()
    before = serializers.DecimalField(max_digits=None, decimal_places=None, allow_null=True)
    after = serializers.DecimalField(max_digits=None, decimal_places=None, allow_null=True)


class OutcomeSerializer(serializers.Serializer):
    """What became of one object, or would."""

    kind = serializers.CharField()
    name = serializers.CharField()
    tenant = serializers.CharField(help_text="Slug; empty for the platform's.")
    project = serializers.CharField(help_text="Slug; empty where it is in none.")
    result = serializers.CharField(
        help_text="created, changed, unchanged, asked-for (waits for approval now), waiting (was asked for before), "
        "removed, left."
    )
    note = serializers.CharField()
    diff = serializers.CharField(help_text="Unified diff of its spec; empty where nothing differs.")
    price_per_hour = MoneySerializer(source="money", allow_null=True, help_text="Of orders.")
    source = serializers.CharField()
    line = serializers.IntegerField(help_text="Where its document begins; 0 where there are no lines.")


class AppliedSerializer(serializers.Serializer):
    dry_run = serializers.BooleanField()
    differs = serializers.BooleanField(help_text="Whether anything was, or would be, changed.")
    digest = serializers.CharField(help_text="Of the results; what applying may expect after a comparison.")
    results = OutcomeSerializer(many=True)


class DocumentsSerializer(serializers.Serializer):
    documents = serializers.ListField(child=serializers.DictField())


_BODY: Final = {"application/json": DocumentsBody, "application/yaml": OpenApiTypes.STR}
_EXPORTED: Final = {
    (200, "application/yaml"): OpenApiTypes.STR,
    (200, "application/json"): DocumentsSerializer,
}
_QUERY: Final = [
    OpenApiParameter(
        "kind",
        str,
        many=True,
        enum=list(KINDS),
        description="Only documents of this kind; repeat for several.",
    ),
    OpenApiParameter("format", exclude=True),  # Accept says it
]


class _Configuration:
    """Export, diff and apply at one place."""

    parser_classes: ClassVar = [StrictJSONParser, YamlParser]
    action: str

    def place(self) -> Place:
        raise NotImplementedError

    def applier(self) -> Applier:
        raise NotImplementedError

    def get_renderers(self) -> list[Any]:
        exports = self.action == "export"
        return [YamlRenderer(), JSONRenderer()] if exports else [JSONRenderer()]

    def exported(self, request: Request) -> Response:
        query = KindsQuery(data=_lists(request, "kind"))
        query.is_valid(raise_exception=True)
        found = configuration_export(
            place=self.place(), by=self.applier(), kinds=query.validated_data.get("kind", [])
        )
        return Response({"documents": found})

    def done(self, request: Request, query_class: type[StrictSerializer], **fixed: Any) -> Response:
        query = query_class(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        options = Options(**query.validated_data | fixed, most_orders=MOST_ORDERS)
        place, by = self.place(), self.applier()
        found = configuration_apply(
            self._documents(request),
            find=_finder(place, by),
            pruned=[(place, by)],
            options=options,
        )
        if not options.dry_run:
            self.told(options, found)
        differs = any(each.differs for each in found)
        answer = {
            "dry_run": options.dry_run,
            "differs": differs,
            "digest": outcomes_digest(found),
            "results": found,
        }
        return Response(AppliedSerializer(answer).data)

    def told(self, options: Options, found: list[Outcome]) -> None:
        """Tell the audit of more than the rows that changed tell."""

    def _documents(self, request: Request) -> list[Document]:
        try:
            if isinstance(request.data, YamlText):
                return read_yaml(request.data, source=_SOURCE)
            body = DocumentsBody(data=request.data)
            body.is_valid(raise_exception=True)
            return read_values(body.validated_data["documents"], source="documents")
        except Unusable as error:
            raise Refused([error.problem]) from error


@extend_schema(tags=["configuration"])
class ConfigurationViewSet(_Configuration, TenantScoped, viewsets.ViewSet):
    """A tenant's orders, routes, budgets, policy and rules as documents. Each kind asks for its own right."""

    def place(self) -> Place:
        tenant = Tenant.objects.get(id=self.caller.tenant_id)
        return Place(tenant.slug, tenant.id)

    def applier(self) -> Applier:
        caller = self.caller
        return Applier(
            actor=caller.actor, may=caller.may, user=caller.user, asked_by=asker_of(caller), role=caller.role
        )

    @extend_schema(operation_id="configuration_export", parameters=_QUERY, responses=_EXPORTED)
    def export(self, request: Request) -> Response:
        """What there is, as YAML or, where that is asked for, as JSON. Applying it changes nothing."""
        return self.exported(request)

    @extend_schema(
        operation_id="configuration_diff", request=_BODY, parameters=[LabelQuery], responses=AppliedSerializer
    )
    def diff(self, request: Request) -> Response:
        """What applying would change and cost, and which approvals it would ask for. Nothing is changed."""
        return self.done(request, LabelQuery, dry_run=True)

    @extend_schema(
        operation_id="configuration_apply",
        request=_BODY,
        parameters=[ApplyQuery],
        responses=AppliedSerializer,
    )
    @idempotent
    def apply(self, request: Request) -> Response:
        """Make it so: all documents or, where one is refused, none. Applying again changes nothing."""
        return self.done(request, ApplyQuery)


@extend_schema(tags=["configuration"])
class PlatformConfigurationViewSet(_Configuration, OperatorScoped, viewsets.ViewSet):
    """For people of the platform: classes, engine settings and images, catalog and prices as documents."""

    default_platform_action = PlatformAction.VIEW_OFFER
    platform_actions: ClassVar = {"apply": PlatformAction.MANAGE_OFFER}
    reason = "the platform's configuration is read or applied through the REST API"

    def place(self) -> Place:
        return Place()

    def applier(self) -> Applier:
        caller = self.caller
        return Applier(actor=caller.actor, may=caller.may, user=caller.user, role=caller.role)

    def needed_platform_action(self) -> PlatformAction:
        # Whoever has the right for one kind may ask; each kind asks for its own.
        looks = (PlatformAction.VIEW_OFFER, PlatformAction.VIEW_MONEY)
        applies = (PlatformAction.MANAGE_OFFER, PlatformAction.MANAGE_MONEY)
        rights = applies if self.action == "apply" else looks
        return next((each for each in rights if self.caller.may(each)), rights[0])

    def told(self, options: Options, found: list[Outcome]) -> None:
        changed = [each.title for each in found if each.differs]
        if changed:
            self.audit("configuration.apply", owner=options.owner, objects=changed)

    @extend_schema(operation_id="platform_configuration_export", parameters=_QUERY, responses=_EXPORTED)
    def export(self, request: Request) -> Response:
        """What there is, as YAML or, where that is asked for, as JSON. Applying it changes nothing."""
        return self.exported(request)

    @extend_schema(
        operation_id="platform_configuration_diff",
        request=_BODY,
        parameters=[LabelQuery],
        responses=AppliedSerializer,
    )
    def diff(self, request: Request) -> Response:
        """What applying would change. Nothing is changed."""
        return self.done(request, LabelQuery, dry_run=True)

    @extend_schema(
        operation_id="platform_configuration_apply",
        request=_BODY,
        parameters=[ApplyQuery],
        responses=AppliedSerializer,
    )
    @idempotent
    def apply(self, request: Request) -> Response:
        """Make it so: all documents or, where one is refused, none. Applying again changes nothing."""
        return self.done(request, ApplyQuery)


def _finder(place: Place, by: Applier) -> Callable[[Document], tuple[Place, Applier]]:
    def find(document: Document) -> tuple[Place, Applier]:
        if document.kind in KINDS and KINDS[document.kind].of_tenants != bool(place.tenant_id):
            whose = "a tenant's" if KINDS[document.kind].of_tenants else "the platform's"
            raise Forbidden(f"A {document.kind} is {whose}, and is not applied here.", path="kind")
        if document.tenant not in ("", place.tenant):
            text = f"There is no tenant {document.tenant!r}."
            raise Invalid(text, errors={"metadata.tenant": [text]})
        return place, by

    return find


def _lists(request: Request, name: str) -> dict[str, Any]:
    found = dict(request.query_params.items())
    if name in found:
        found[name] = request.query_params.getlist(name)
    return found
