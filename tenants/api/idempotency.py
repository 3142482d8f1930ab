"""Repeated creates: the Idempotency-Key."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.api.caller import Operator
from tenants.errors import BerthError, Invalid
from tenants.models import IdempotencyRecord, OperatorIdempotencyRecord
from tenants.sealing import CannotOpen, SealedField, seal, unseal

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
LONGEST_KEY = 255
_KEPT_HEADERS = ("Location", "ETag")
_PARAMETER = OpenApiParameter(
    HEADER,
    {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description="Repeating a request with the same key gives the first answer again, for 48 hours.",
)


class KeyReused(BerthError):
    code = "idempotency-key-reused"
    status = 422
    title = "This Idempotency-Key was used for another request"


def idempotent(handler: Callable[..., Response]) -> Callable[..., Response | HttpResponse]:
    """Answer a repeat with the first answer, byte for byte, for 48 hours.

    The record is inserted before the work, in the request's transaction: a second request with the same
    key waits on the unique constraint until the first has committed, and is then answered from it. What
    failed leaves no record and may be tried again. Answers rest sealed, for one may show a new key's text.
    """

    @functools.wraps(handler)
    def answer(view, request: Request, *args, **kwargs):
        key = request.headers.get(HEADER, "")
        if not key:
            return handler(view, request, *args, **kwargs)
        if len(key) > LONGEST_KEY or not key.isprintable():
            raise Invalid(f"An {HEADER} is printable text of at most {LONGEST_KEY} characters.")
        by_operator = isinstance(request.auth, Operator)
        records = (OperatorIdempotencyRecord if by_operator else IdempotencyRecord).objects
        identity = {
            **({} if by_operator else {"tenant_id": request.auth.tenant_id}),
            "principal": request.auth.principal,
            "method": request.method,
            "path": request.path[:200],
            "key": key,
        }
        asked = sorted(request.query_params.lists())
        fingerprint = _fingerprint([request.data, asked] if asked else request.data)
        try:
            with transaction.atomic():
                record = records.create(**identity, fingerprint=fingerprint)
        except IntegrityError:
            return _replay(records.get(**identity), fingerprint)
        response = handler(view, request, *args, **kwargs)
        record.status = response.status_code
        record.body = seal(JSONRenderer().render(response.data), field=SealedField.of(record, "body"))
        record.headers = {name: response[name] for name in _KEPT_HEADERS if response.has_header(name)}
        record.save(update_fields=["status", "body", "headers"])
        return response

    return extend_schema(parameters=[_PARAMETER])(answer)


def _fingerprint(data: object) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _replay(record: IdempotencyRecord | OperatorIdempotencyRecord, fingerprint: str) -> HttpResponse:
    if record.fingerprint != fingerprint:
        raise KeyReused(f"This {HEADER} came with another body before; use a new one for a new request.")
    try:
        body = unseal(record.body, field=SealedField.of(record, "body"))
    except CannotOpen as error:
        raise KeyReused(
            f"The answer kept for this {HEADER} cannot be opened any more; look whether it was done, and use a new one."
        ) from error
    headers = {**record.headers, REPLAYED: "true"}
    return HttpResponse(body, status=record.status, content_type="application/json", headers=headers)
