"""Prompts of made-up words that have about as many tokens as a trace says."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

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


def make_prompt(words: int, *, seed: str) -> str:
    """Make ``words`` words, other ones for another ``seed``, so that no two prompts share a prefix by chance."""
    return " ".join(random.Random(seed).choices(_WORDS, k=words))  # noqa: S311
