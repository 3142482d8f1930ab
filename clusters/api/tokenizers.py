"""The tokenizer of a model of the catalog, for operators: uploaded as it lies beside the checkpoint."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.response import Response

from clusters.api.operators import OperatorViewSet
from clusters.inventory.tokenizers import tokenizer_set
from clusters.models import CatalogModel
from gateway.contract import MOST_TOKENIZER_BYTES
from tenants.roles import PlatformAction


class FileParser(BaseParser):
    """A body that is a file, whatever type it says: one byte more than the most is read at most.

    Of an empty body nothing is parsed.
    """

    media_type = "*/*"

    def parse(self, stream, media_type=None, parser_context=None) -> dict[str, Any]:
        return {"content": stream.read(MOST_TOKENIZER_BYTES + 1)}


class TokenizerSerializer(serializers.Serializer):
    """A model's tokenizer; its size in bytes."""

    model = serializers.CharField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField()


@extend_schema(tags=["catalog"])
class ModelTokenizerViewSet(OperatorViewSet):
    """The tokenizer of one model."""

    default_platform_action = PlatformAction.MANAGE_OFFER
    model = CatalogModel
    serializer_class = TokenizerSerializer
    parser_classes = [FileParser]
    lookup_field = lookup_url_kwarg = "name"
    reason = "an operator gives a model its tokenizer through the REST API"

    @extend_schema(request={"application/octet-stream": OpenApiTypes.BINARY}, responses=TokenizerSerializer)
    def update(self, request, name) -> Response:
        """Upload the tokenizer.json of the model's checkpoint, at most 32 MiB. Gateways count with it at once."""
        model = self.get_object()
        tokenizer = tokenizer_set(model=model, content=request.data.get("content", b""))
        self.audit("model.tokenizer", model=model.name, sha256=tokenizer.sha256, size=tokenizer.size)
        known = {"model": model.name, "sha256": tokenizer.sha256, "size": tokenizer.size}
        return self.shown(TokenizerSerializer, known)
