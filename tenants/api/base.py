"""The base of every REST view on tenant-owned objects.

The queryset is narrowed to the caller's tenant before any view code runs: the scope opens right after
authentication and closes when the answer has been serialised. Creates take an Idempotency-Key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import uuid
from typing import Any

from django.db import IntegrityError, transaction
from rest_framework import mixins, status, viewsets
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tenants import roles, scope
from tenants.errors import BerthError, Invalid
from tenants.models import IdempotencyRecord, User

REPLAYED = "Idempotent-Replayed"
REPLAYABLE_HEADERS = ("Location",)


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who asks: what authentication puts into ``request.auth``.

    ``principal`` is the key's or the person's id; ``actor`` how the history names them.
    """

    tenant_id: uuid.UUID
    role: str
    principal: str
    actor: str
    user: User | None = None

    def may(self, action: roles.Action) -> bool:
        return roles.allows(self.role, action)


class KeyReused(BerthError):
    code = "idempotency-key-reused"
    status = 422
    title = "This Idempotency-Key was used for another request"


class TenantScoped(APIView):
    """Runs the whole view in the scope of the caller's tenant.

    ``actions`` maps the view's action (or lower-case method) to the role action it needs;
    ``default_action`` is for the others.
    """

    actions: dict[str, roles.Action] = {}
    default_action: roles.Action = roles.Action.VIEW

    def dispatch(self, request, *args, **kwargs):
        with contextlib.ExitStack() as stack:
            self.scopes = stack
            return super().dispatch(request, *args, **kwargs)

    def perform_authentication(self, request: Request) -> None:
        super().perform_authentication(request)
        if isinstance(request.auth, Caller):
            self.scopes.enter_context(scope.tenant(request.auth.tenant_id))

    def needed_action(self) -> roles.Action:
        name = getattr(self, "action", None) or self.request.method.lower()
        return self.actions.get(name, self.default_action)

    @property
    def caller(self) -> Caller:
        return self.request.auth

    def finalize_response(self, request, response, *args, **kwargs):
        response = super().finalize_response(request, response, *args, **kwargs)
        # Rendered inside the scope: a serializer may still read related rows.
        if hasattr(response, "render") and not response.is_rendered:
            response.render()
        return response


class Idempotent:
    """Answers a repeated create from the first answer.

    The record is inserted before the work, in the same transaction: a second request with the key waits
    on the unique constraint until the first has committed, and then replays it byte for byte.
    """

    def idempotent(self, request: Request, work) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return work()
        if len(key) > 255:
            raise Invalid("An Idempotency-Key has at most 255 characters.")
        canonical = json.dumps(request.data, sort_keys=True, separators=(",", ":"), default=str)
        fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
        identity = {
            "tenant_id": request.auth.tenant_id,
            "principal": request.auth.principal,
            "method": request.method,
            "path": request.path[:200],
            "key": key,
        }
        try:
            with transaction.atomic():
                record = IdempotencyRecord.objects.create(**identity, fingerprint=fingerprint)
        except IntegrityError:
            return self._replay(IdempotencyRecord.objects.get(**identity), fingerprint)
        response = work()
        record.status = response.status_code
        record.body = JSONRenderer().render(response.data)
        record.headers = {name: response[name] for name in REPLAYABLE_HEADERS if response.has_header(name)}
        record.save(update_fields=["status", "body", "headers"])
        return response

    def _replay(self, record: IdempotencyRecord, fingerprint: str) -> Response:
        if record.fingerprint != fingerprint:
            raise KeyReused("This Idempotency-Key came with another body before; use a new key for a new request.")
        headers = {**record.headers, REPLAYED: "true"}
        return Response(json.loads(bytes(record.body)), status=record.status, headers=headers)


class TenantViewSet(Idempotent, TenantScoped, viewsets.GenericViewSet):
    """Reads by queryset, serializer and filterset; a write validates, calls one service, serialises."""

    lookup_value_converter = "uuid"

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "caller": self.request.auth}

    def validated(self, serializer_class, *, data=None, **kwargs) -> dict[str, Any]:
        """Give the checked body of the request for ``serializer_class``."""
        serializer = serializer_class(
            data=self.request.data if data is None else data, context=self.get_serializer_context(), **kwargs
        )
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def created(self, instance) -> Response:
        """Answer 201 with the object and where it lives."""
        data = self.get_serializer(instance).data
        location = self.request.build_absolute_uri(f"{self.request.path.rstrip('/')}/{data['id']}")
        return Response(data, status=status.HTTP_201_CREATED, headers={"Location": location})


class ReadOnlyTenantViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, TenantViewSet):
    """List and detail."""
