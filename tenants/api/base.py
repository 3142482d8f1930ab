"""The base of every REST view on tenant-owned objects.

The queryset is narrowed to the caller's tenant before any view code runs: the scope opens right after
authentication and closes when the answer has been rendered, so that a request is one transaction. An
error undoes all of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import models, transaction
from drf_spectacular.utils import OpenApiParameter
from rest_framework import mixins, status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants import narrowing, roles, scope
from tenants.addresses import client_address
from tenants.api.caller import Caller, Operator
from tenants.api.preconditions import asks_for_version, content_version, etag, refuse_stale
from tenants.api.rates import Rate, count_request, refuse_too_many
from tenants.errors import BerthError
from tenants.models import Tenant

IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="ETag of the version the change is meant for."
)


class TenantScoped(APIView):
    """Runs the whole view in the scope of the caller's tenant.

    ``role_actions`` maps a view's action (or lower-case method) to what the caller's role must allow;
    ``default_role_action`` is for the others.

    ``project_field`` is where keys limited to projects find the project of what a view shows; "" where nothing that it
    shows is a tenant's. Without one such keys are refused.
    """

    role_actions: ClassVar[Mapping[str, roles.Action]] = {}
    default_role_action: ClassVar[roles.Action] = roles.Action.VIEW
    project_field: ClassVar[str | None] = None
    http_method_names: ClassVar[list[str]] = ["get", "post", "put", "patch", "delete", "head"]

    def dispatch(self, request, *args, **kwargs):
        with contextlib.ExitStack() as self._scopes:
            self._in_scope = False
            self._rate: Rate | None = None
            return super().dispatch(request, *args, **kwargs)

    def initialize_request(self, request, *args, **kwargs) -> Request:
        # REST framework takes a body without Content-Length, as chunked ones are, for an empty one.
        if not request.META.get("CONTENT_LENGTH") and "Transfer-Encoding" in request.headers:
            request.META["CONTENT_LENGTH"] = str(len(request.body))
        return super().initialize_request(request, *args, **kwargs)

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except (APIException, BerthError):
            self._count(request, None)
            raise
        self._count(request, request.auth)
        if isinstance(request.auth, Caller):
            self._scopes.enter_context(scope.tenant(request.auth.tenant_id))
            self._scopes.enter_context(narrowing.to(request.auth.projects))
            self._in_scope = True

    def _count(self, request: Request, caller: Caller | Operator | None) -> None:
        who = f"principal:{caller.principal}" if caller else f"address:{client_address(request)}"
        self._rate = count_request(who)
        if self._rate is not None:
            refuse_too_many(self._rate)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if self._in_scope:
            transaction.set_rollback(True)
        return response

    def finalize_response(self, request, response, *args, **kwargs):
        response = super().finalize_response(request, response, *args, **kwargs)
        if self._rate is not None:
            for name, text in self._rate.headers().items():
                response[name] = text
        # Rendered inside the scope: a serializer may still read related rows.
        if hasattr(response, "render") and not response.is_rendered:
            response.render()
        return response

    def needed_role_action(self) -> roles.Action:
        """Give what the caller's role must allow for this request."""
        name = getattr(self, "action", None) or self.request.method.lower()
        return self.role_actions.get(name, self.default_role_action)

    @property
    def caller(self) -> Caller:
        return self.request.auth


class TenantViewSet(TenantScoped, viewsets.GenericViewSet):
    """Reads by queryset, serializer and filterset; a write validates, calls one service, serialises.

    A subclass names ``model`` and, where all of its rows are too many, overrides :meth:`rows`.
    """

    model: type[models.Model]
    lookup_url_kwarg = "id"
    lookup_field = "id"
    #: Field by which lists are ordered and paged; "-id" is newest first.
    page_ordering = "-id"

    def rows(self) -> models.QuerySet:
        """Give what the open tenant may see."""
        return self.model._default_manager.all()

    def get_queryset(self) -> models.QuerySet:
        # The schema is made outside any tenant's scope, from the fields alone.
        if getattr(self, "swagger_fake_view", False):
            return models.QuerySet(self.model).none()
        return narrowing.within(self.rows(), self.project_field) if self.project_field else self.rows()

    def filter_queryset(self, queryset: models.QuerySet) -> models.QuerySet:
        """Filter lists; a single object is found by its id alone."""
        return super().filter_queryset(queryset) if self.action == "list" else queryset

    def validated(self, serializer_class, **options) -> dict[str, Any]:
        """Give the checked body of the request.

        Raises:
            ValidationError: a field is wrong, missing or unknown.
        """
        serializer = serializer_class(
            data=self.request.data, context=self.get_serializer_context(), **options
        )
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def shown(
        self, serializer_class, instance, *, code: int = status.HTTP_200_OK, **headers: str
    ) -> Response:
        """Answer with an object."""
        data = serializer_class(instance, context=self.get_serializer_context()).data
        return Response(
            data, status=code, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    def created(self, serializer_class, instance) -> Response:
        """Answer 201 with the object and, in ``Location``, where it lives."""
        location = self.request.build_absolute_uri(f"{self.request.path}/{instance.pk}")
        return self.shown(serializer_class, instance, code=status.HTTP_201_CREATED, Location=location)


class ReadOnlyTenantViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, TenantViewSet):
    """List and detail."""


class EditableTenantViewSet(ReadOnlyTenantViewSet):
    """List, detail with an ETag, and edits that honour If-Match."""

    def retrieve(self, request, *args, **kwargs) -> Response:
        return self.versioned(self.get_object())

    def versioned(self, instance) -> Response:
        """Answer with an object and the ETag of what is shown."""
        response = self.shown(self.serializer_class, instance)
        response["ETag"] = etag(content_version(response.data))
        return response

    def locked(self):
        """Give the object that an edit is for, once no other edit of its tenant can come in between."""
        if asks_for_version(self.request):
            # Edits of one tenant that look before they leap go one after the other.
            Tenant.objects.select_for_update(no_key=True).get(id=self.caller.tenant_id)
        return self.get_object()

    def to_edit(self):
        """Give the object that an edit is for, if it is still the one that the caller has seen.

        Raises:
            Stale: If-Match names other versions only.
        """
        instance = self.locked()
        refuse_stale(self.request, content_version(self.get_serializer(instance).data))
        return instance
