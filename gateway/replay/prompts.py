"""Prompts of made-up words that have about as many tokens as a trace says."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from gateway.replay.trace import BLOCK_TOKENS, TracedRequest

_WORDS: Final = (
    "harbour", "signal", "north", "table", "river", "machine", "window", "letter", "copper", "garden", "market",
    "paper", "winter", "bridge", "engine", "silver", "answer", "forest", "number", "planet", "season", "island",
)  # fmt: skip


class Scale(NamedTuple):
    """What one model makes of a prompt: ``overhead`` tokens for no words, then ``per_word`` for each."""

    overhead: float
    per_word: float

    @classmethod
    def between(cls, few: int, few_tokens: int, many: int, many_tokens: int) -> Scale:
        """Draw the line through two prompts of ``few`` and ``many`` words, whose tokens an engine counted."""
        per_word = max((many_tokens - few_tokens) / (many - few), 0.05)
        return cls(max(few_tokens - few * per_word, 0.0), per_word)

    def words(self, tokens: int) -> int:
        """Give how many words make about ``tokens`` tokens; at least one."""
        return max(1, round((tokens - self.overhead) / self.per_word))


def make_words(count: int, *, seed: str) -> str:
    """Make ``count`` words, other ones for another ``seed``, so that no two prompts share a prefix by chance."""
    return " ".join(random.Random(seed).choices(_WORDS, k=count))  # noqa: S311


def make_prompt(request: TracedRequest, scale: Scale, *, seed: str) -> str:
    """Make the prompt of a traced request: what the trace says is shared is the same words, the rest its own."""
    left = scale.words(request.input_tokens)
    parts: list[str] = []
    shared = [(f"block {name}", BLOCK_TOKENS) for name in request.blocks]
    if request.cached_tokens:
        # One long text, of which each request takes its own length: the beginnings are the same.
        shared = [("shared", request.cached_tokens)]
    for name, tokens in shared:
        words = min(left, max(1, round(tokens / scale.per_word)))
        if not words:
            break
        parts.append(make_words(words, seed=name))
        left -= words
    if left:
        parts.append(make_words(left, seed=seed))
    return " ".join(parts)
