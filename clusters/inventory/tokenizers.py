"""Tokenizers of catalog models: taken in by operators and with the shipped model, given to gateways."""

from __future__ import annotations

import hashlib

import tokenizers
from django.db import transaction

from clusters.models import CatalogModel, Tokenizer
from gateway.contract import MOST_TOKENIZER_BYTES
from tenants.errors import Invalid


@transaction.atomic
def tokenizer_set(*, model: CatalogModel, content: bytes) -> Tokenizer:
    """Give a model the tokenizer that ``content``, the ``tokenizer.json`` of its checkpoint, describes.

    Gateways fetch it as soon as they serve an endpoint of the model. One that no model has any more is removed.

    Raises:
        Invalid: it is too large, or no tokenizer.
    """
    if len(content) > MOST_TOKENIZER_BYTES:
        raise _invalid(f"A tokenizer has at most {MOST_TOKENIZER_BYTES} bytes.")
    try:
        tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises nothing narrower
        raise _invalid(
            f"This is not a tokenizer.json that the tokenizers library reads: {str(error)[:200]}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    tokenizer, _ = Tokenizer.objects.get_or_create(
        sha256=digest, defaults={"content": content, "size": len(content)}
    )
    if model.tokenizer_id != digest:
        model.tokenizer = tokenizer
        model.save(update_fields=["tokenizer"])
        Tokenizer.objects.filter(models=None).delete()
    return tokenizer


def tokenizer_content(digest: str) -> bytes | None:
    """Give the content of a tokenizer, None if there is none of this SHA-256."""
    found = Tokenizer.objects.filter(sha256=digest).values_list("content", flat=True).first()
    return None if found is None else bytes(found)


def _invalid(text: str) -> Invalid:
    return Invalid(text, errors={"tokenizer": [text]})
