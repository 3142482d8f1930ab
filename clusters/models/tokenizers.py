"""Tokenizers of catalog models, which gateways fetch to count prompts with."""

from __future__ import annotations

from django.db import models


class Tokenizer(models.Model):
    """One ``tokenizer.json`` as it was given; ``size`` in bytes. Models may share one, and none changes."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    content = models.BinaryField()
    size = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.sha256
