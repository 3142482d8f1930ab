"""JSON bodies, read strictly."""

from __future__ import annotations

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

LARGEST_BODY = 1024 * 1024


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "body-too-large"


class StrictJSONParser(JSONParser):
    """JSON of at most 1 MiB whose top is an object."""

    strict = True

    def parse(self, stream, media_type=None, parser_context=None):
        length = int(parser_context["request"].META.get("CONTENT_LENGTH") or 0)
        if length > LARGEST_BODY:
            raise BodyTooLarge(f"The body has {length} bytes; at most {LARGEST_BODY} are read.")
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The body is nested too deeply.") from error
        if not isinstance(data, dict):
            raise ParseError("The body must be a JSON object, for instance {}.")
        return data
