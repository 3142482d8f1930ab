"""The door for usage of engines outside Berth: CloudEvents, one or a batch."""

from __future__ import annotations

from typing import Any

import msgspec
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.response import Response

from billing.metering.events import MOST_EVENTS, TYPE, events_take
from gateway.contract import Outcome
from tenants.api.base import TenantScoped
from tenants.roles import Action

MOST_BYTES = 1024 * 1024
_EXAMPLE = {
    "specversion": "1.0",
    "type": TYPE,
    "id": "req-7f3a",
    "source": "/vllm/berlin-1",
    "time": "2026-05-20T14:30:00Z",
    "data": {
        "project": "default",
        "endpoint": "vllm-berlin",
        "model": "llama-3.1-8b",
        "input_tokens": 812,
        "output_tokens": 96,
    },
}


class EventsTooLarge(APIException):
    status_code = 413
    default_code = "body-too-large"


class StructuredParser(JSONParser):
    """One CloudEvent in structured mode; gives a list of it."""

    media_type = "application/cloudevents+json"
    strict = True
    top: type = dict
    what = "one event, a JSON object"

    def parse(self, stream, media_type=None, parser_context=None) -> list[Any]:
        length = int(parser_context["request"].META.get("CONTENT_LENGTH") or 0)
        if length > MOST_BYTES:
            raise EventsTooLarge(f"The body has {length} bytes; at most {MOST_BYTES} are read.")
        try:
            found = super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The body is nested too deeply.") from error
        if not isinstance(found, self.top):
            raise ParseError(f"A body of type {self.media_type} holds {self.what}.")
        return found if isinstance(found, list) else [found]


class BatchParser(StructuredParser):
    """Several CloudEvents."""

    media_type = "application/cloudevents-batch+json"
    top = list
    what = "events, a JSON array"


class UsageDataSerializer(serializers.Serializer):
    project = serializers.CharField(help_text="Slug or id of a project.")
    endpoint = serializers.CharField(max_length=63, help_text="What the engine is called on statements.")
    model = serializers.CharField(max_length=80)
    input_tokens = serializers.IntegerField(default=0, min_value=0, help_text="Cached ones included.")
    output_tokens = serializers.IntegerField(default=0, min_value=0)
    cached_tokens = serializers.IntegerField(default=0, min_value=0)
    requests = serializers.IntegerField(default=1, min_value=1)
    key = serializers.CharField(required=False, max_length=80, help_text="Whatever tells callers apart.")
    slo_class = serializers.CharField(required=False, max_length=40)
    region = serializers.CharField(required=False, max_length=40)
    outcome = serializers.ChoiceField([each.value for each in Outcome], default=Outcome.COMPLETED.value)


class UsageEventSerializer(serializers.Serializer):
    specversion = serializers.ChoiceField(["1.0"])
    type = serializers.ChoiceField([TYPE])
    id = serializers.CharField(max_length=200, help_text="With the source, what the event is known by.")
    source = serializers.CharField(max_length=300)
    time = serializers.DateTimeField(help_text="When the requests ended; the UTC day they count in.")
    data = UsageDataSerializer()


class RefusedEventSerializer(serializers.Serializer):
    position = serializers.IntegerField(help_text="Its place in the batch, from 0.")
    id = serializers.CharField()
    source = serializers.CharField()
    reason = serializers.CharField()


class EventReceiptSerializer(serializers.Serializer):
    inserted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    refused = RefusedEventSerializer(many=True)


@extend_schema(tags=["usage and cost"])
class UsageEventsView(TenantScoped):
    """Usage of engines that Berth does not run, to be rolled up, rated and shown like all usage."""

    parser_classes = (StructuredParser, BatchParser)
    default_role_action = Action.REPORT_USAGE

    @extend_schema(
        operation_id="usage_events_create",
        request={
            StructuredParser.media_type: UsageEventSerializer,
            BatchParser.media_type: UsageEventSerializer(many=True),
        },
        responses=EventReceiptSerializer,
        examples=[OpenApiExample("One event", value=_EXAMPLE, request_only=True)],
    )
    def post(self, request) -> Response:
        """Take CloudEvents 1.0 of type `berth.usage.v1`, one or a batch of at most 1,000.

        Source and id are the event's Idempotency-Key: sending events again is always safe. Each is inserted, a
        duplicate, or refused with the reason.
        """
        if not isinstance(request.data, list):
            # What comes in chunks is not read, and must not look as if it had been taken.
            raise ParseError("The body is empty, or came without its Content-Length; send it with one.")
        if len(request.data) > MOST_EVENTS:
            raise ParseError(f"A batch has at most {MOST_EVENTS} events; this one has {len(request.data)}.")
        return Response(msgspec.to_builtins(events_take(events=request.data, now=timezone.now())))
