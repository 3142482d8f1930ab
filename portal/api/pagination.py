"""Pages by cursor. UUIDv7 ids sort by time of making, so that the id alone is the cursor of most lists."""

from __future__ import annotations

import uuid

from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination

from tenants.errors import Invalid


class ByCursor(CursorPagination):
    """Orders by the view's ``page_ordering``, newest first unless it says otherwise."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_ordering(self, request, queryset, view) -> tuple[str, ...]:
        return (getattr(view, "page_ordering", "-id"),)

    def get_page_size(self, request) -> int:
        text = request.query_params.get(self.page_size_query_param)
        if text is None:
            return self.page_size
        if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= self.max_page_size):
            raise Invalid(
                f"page_size must be a whole number from 1 to {self.max_page_size}.",
                errors={"page_size": [f"Choose 1 to {self.max_page_size}."]},
            )
        return int(text)

    def decode_cursor(self, request):
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                self._check(cursor.position)
        except (NotFound, ValueError) as error:
            raise Invalid(
                "This cursor is none of ours; take it from the last answer's next or previous.",
                errors={"cursor": ["Take it from next or previous, or leave it out for the first page."]},
            ) from error
        return cursor

    def _check(self, position: str) -> None:
        if self.ordering[0].lstrip("-") == "id":
            uuid.UUID(position)
        elif self.ordering[0].lstrip("-") == "number":
            if not 0 <= int(position) < 2**63:
                raise ValueError(position)
        elif "\x00" in position:
            raise ValueError(position)

    def get_schema_operation_parameters(self, view) -> list[dict]:
        parameters = super().get_schema_operation_parameters(view)
        for each in parameters:
            if each["name"] == self.page_size_query_param:
                each["schema"] = {"type": "integer", "minimum": 1, "maximum": self.max_page_size}
        return parameters

    def get_paginated_response_schema(self, schema: dict) -> dict:
        link = {
            "type": "string",
            "format": "uri",
            "nullable": True,
            "description": "Null where there is no more.",
        }
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }
