"""``response_format``: what form an answer must have. Engines hold their models to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from gateway import errors
from gateway.engines import features
from gateway.requests.fields import check_depth, decode_field, is_set


class _Schema(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


_format: Final = msgspec.json.Decoder(_Format)


def read_schema(content: msgspec.Raw, *, needs: dict[str, str]) -> Mapping[str, Any] | None:
    """Give the schema that the answer must follow, empty for any object, None where any text will do.

    Raises:
        ApiError: the format is malformed (400).
    """
    if not is_set(content):
        return None
    form = decode_field("response_format", content, _format)
    if form.type == "text":
        return None
    needs[features.RESPONSE_FORMAT] = "response_format"
    if form.type == "json_object":
        return {}
    if form.json_schema is None:
        raise errors.invalid(
            "Missing field: response_format.json_schema.",
            param="response_format.json_schema",
            code="missing_required_parameter",
        )
    schema = form.json_schema.schema or {}
    check_depth(schema, "response_format.json_schema.schema")
    return schema
