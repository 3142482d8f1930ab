"""How many tokens a prompt has, before an engine is asked."""

from __future__ import annotations

from typing import NamedTuple

from gateway.contract import Endpoint


class Count(NamedTuple):
    """Tokens of a text; where they are not ``exact``, it has no more than that."""

    tokens: int
    exact: bool


class TokenCounter:
    """Counts prompts with the tokenizer of their endpoint's model."""

    async def count(self, endpoint: Endpoint, text: str) -> Count:
        """Count ``text``. Without a tokenizer its UTF-8 bytes are taken, which no vocabulary of bytes exceeds."""
        return Count(len(text.encode()), exact=False)
