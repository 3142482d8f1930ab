"""Judging answers by checks. What comes of it names no text of an answer."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from typing import Any, Final

from clusters.endpoints.evaluations.prompts import Check, Prompt, compiled, matching

#: Words of an answer that likeness looks at: it takes the square of them.
_MOST_WORDS: Final = 2_000


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a revision answered, and the tokens it took."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclasses.dataclass(frozen=True)
class Judged:
    """What came of one check; ``passed`` is None where there was nothing to compare with."""

    kind: str
    weight: int
    passed: bool | None
    reason: str = ""

    def to_document(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def judge(prompt: Prompt, answer: Answer, *, other: Answer | None = None) -> list[Judged]:
    """Judge an answer by every check of its prompt; ``other`` is what the old revision answered."""
    return [_judged(check, answer, other) for check in prompt.checks]


def unanswered(prompt: Prompt, why: str) -> list[Judged]:
    """Give the checks of a prompt that a revision refuses to answer: none is passed."""
    return [Judged(check.kind, check.weight, False, why) for check in prompt.checks]


def _judged(check: Check, answer: Answer, other: Answer | None) -> Judged:
    if check.similar is not None and other is None:
        return Judged(check.kind, check.weight, None, "there is no earlier revision to compare with")
    why = _failing(check, answer, other)
    return Judged(check.kind, check.weight, not why, why)


def _failing(check: Check, answer: Answer, other: Answer | None) -> str:
    """Say why an answer does not pass a check, "" where it does."""
    text = answer.text.casefold() if check.ignore_case else answer.text

    def wanted(value: str) -> str:
        return value.casefold() if check.ignore_case else value

    why = ""
    if check.contains is not None:
        why = "" if wanted(check.contains) in text else "the text is not in the answer"
    elif check.not_contains is not None:
        why = "the text is in the answer" if wanted(check.not_contains) in text else ""
    elif check.equals is not None:
        why = "" if text.strip() == wanted(check.equals).strip() else "the answer is another text"
    elif check.regex is not None:
        why = "" if matching(check.regex).is_valid(answer.text) else "the pattern is not found in the answer"
    elif check.json_schema is not None:
        why = _unfit(check.json_schema, answer.text)
    elif check.max_tokens is not None:
        if answer.output_tokens > check.max_tokens:
            why = f"the answer has {answer.output_tokens} tokens, at most {check.max_tokens} may be"
    elif check.similar is not None and other is not None:
        found = likeness(answer.text, other.text)
        if found < check.similar:
            why = f"likeness {found:.2f} with the old revision's answer, at least {check.similar:g} is wanted"
    return why


def _unfit(schema: dict[str, Any], text: str) -> str:
    try:
        document = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return "the answer is not JSON"
    try:
        error = next(compiled(schema).iter_errors(document), None)
    except (ValueError, OverflowError, RecursionError):
        return "the answer cannot be held against the schema"
    if error is None:
        return ""
    # The path into the answer, and what stands there, are the answer's own text.
    keyword = error.schema_path[-1] if error.schema_path else "false"
    return f"the answer does not fit the schema ({keyword})"


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON.")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def likeness(first: str, second: str) -> float:
    """Give how much of two texts is the same words in the same order, 0 to 1."""
    words = [text.split()[:_MOST_WORDS] for text in (first, second)]
    if not any(words):
        return 1.0
    return difflib.SequenceMatcher(None, *words, autojunk=False).ratio()
