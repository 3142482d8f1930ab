"""People of the platform: who has which role, handing roles out, taking them away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.response import Response

from clusters.api.operators import OperatorViewSet
from clusters.inventory import people, remit
from clusters.models import Cluster
from tenants.api.base import IF_MATCH
from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.api.filters import PAGING, refuse_unknown_parameters
from tenants.api.idempotency import idempotent
from tenants.api.preconditions import content_version, etag, refuse_stale
from tenants.identity.second_factor import has_second_factor
from tenants.models import PlatformRole, User
from tenants.roles import PlatformAction

ID = OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH)


class PersonSerializer(serializers.ModelSerializer):
    """A person of the platform. ``clusters`` are those that an operator answers for; null is every one."""

    role = serializers.SerializerMethodField()
    clusters = serializers.SerializerMethodField()
    second_factor = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = [
            "id", "email", "name", "role", "clusters", "is_active", "second_factor", "last_login", "created_at",
        ]  # fmt: skip

    def get_role(self, person: User) -> str:
        return people.role_of(person)

    def get_clusters(self, person: User) -> list[str] | None:
        return [each.cluster.name for each in person.operated.all()] or None

    def get_second_factor(self, person: User) -> bool:
        return has_second_factor(person)


class PersonBody(StrictSerializer):
    """Who gets which role."""

    email = serializers.EmailField(max_length=254, help_text="An account is made where there is none.")
    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    role = serializers.ChoiceField(choices=people.ROLES)
    clusters = serializers.ListField(
        child=ReferenceField(find=remit.clusters, by="name", what="cluster"), required=False, allow_null=True,
        help_text="Names of those that an operator answers for. Null, or left out: every one.",
    )  # fmt: skip


class PersonChange(StrictSerializer):
    """What is changed. An operator who gets another role keeps no clusters."""

    role = serializers.ChoiceField(choices=people.ROLES, required=False)
    clusters = serializers.ListField(
        child=ReferenceField(find=remit.clusters, by="name", what="cluster"), required=False, allow_null=True,
        help_text="Names of those that an operator answers for. Null: every one. Left out: as they are.",
    )  # fmt: skip


@extend_schema(tags=["people"])
class PersonViewSet(OperatorViewSet):
    """Those who have a role of the platform."""

    default_platform_action = PlatformAction.MANAGE_PEOPLE
    platform_actions = {"list": PlatformAction.VIEW_PEOPLE, "retrieve": PlatformAction.VIEW_PEOPLE}
    model = User
    serializer_class = PersonSerializer
    page_ordering = "email"
    reason = "the platform's people are managed through the REST API"

    def rows(self) -> QuerySet[User]:
        return people.people()

    @extend_schema(responses=PersonSerializer(many=True), operation_id="platform_people_list")
    def list(self, request) -> Response:
        """Everybody with a role, by e-mail address."""
        refuse_unknown_parameters(request, PAGING)
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(PersonSerializer(page, many=True).data)

    @extend_schema(responses=PersonSerializer, parameters=[ID], operation_id="platform_people_retrieve")
    def retrieve(self, request, id) -> Response:
        """One of them. The ETag is for If-Match; how they sign in does not change it."""
        return self._answer(self.get_object())

    @extend_schema(
        request=PersonBody, responses={201: PersonSerializer}, operation_id="platform_people_create"
    )
    @idempotent
    def create(self, request) -> Response:
        """Give somebody a role, by e-mail address. It holds from their next request on."""
        body = self.validated(PersonBody)
        person = people.person_grant(**body)
        self.audit("platform-role.grant", **facts(person))
        location = request.build_absolute_uri(f"{request.path}/{person.id}")
        return self._answer(person, code=status.HTTP_201_CREATED, Location=location)

    @extend_schema(
        request=PersonChange, responses=PersonSerializer, parameters=[ID, IF_MATCH],
        operation_id="platform_people_update",
    )  # fmt: skip
    def partial_update(self, request, id) -> Response:
        """Change a role or the clusters. It holds from the person's next request on."""
        body = self.validated(PersonChange)
        person = self._to_edit()
        role = body.get("role", people.role_of(person))
        kept = [each.cluster for each in person.operated.all()] or None
        unsaid = kept if role == PlatformRole.OPERATOR else None
        clusters: list[Cluster] | None = body.get("clusters", unsaid)
        changed = people.person_change(person=person, role=role, clusters=clusters, by=self.caller.user)
        self.audit("platform-role.change", **facts(changed))
        return self._answer(changed)

    @extend_schema(responses={204: None}, parameters=[ID, IF_MATCH], operation_id="platform_people_destroy")
    def destroy(self, request, id) -> Response:
        """Take the role away. The account and its memberships of tenants stay."""
        person = self._to_edit()
        people.person_remove(person=person, by=self.caller.user)
        self.audit("platform-role.remove", email=person.email)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _to_edit(self) -> User:
        people.superusers_locked()  # edits go one after the other from here on
        person = self.get_object()
        refuse_stale(self.request, _version(PersonSerializer(person).data))
        return person

    def _answer(self, person: User, *, code: int = status.HTTP_200_OK, **headers: str) -> Response:
        version = _version(PersonSerializer(person).data)
        return self.shown(PersonSerializer, person, code=code, ETag=etag(version), **headers)


def facts(person: User) -> dict[str, Any]:
    """Give who has which role now, for the operators' log."""
    clusters = [each.cluster.name for each in person.operated.all()]
    return {"email": person.email, "role": people.role_of(person), "clusters": clusters or "all"}


def _version(shown: Mapping[str, Any]) -> str:
    return content_version(
        {name: value for name, value in shown.items() if name not in ("last_login", "second_factor")}
    )
