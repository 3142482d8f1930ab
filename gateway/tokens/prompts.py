"""One model's tokenizer, counting prompts as its engine does."""

from __future__ import annotations

import tokenizers

from gateway.contract import SpecialTokens


class BadTokenizer(Exception):
    """A ``tokenizer.json`` that cannot be used; the message says why."""


class PromptTokenizer:
    """Counts with ``content``, a model's ``tokenizer.json``. Safe to use from several threads.

    Raises:
        BadTokenizer: ``content`` is none.
    """

    def __init__(self, content: bytes, *, special: SpecialTokens) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing narrower
            raise BadTokenizer(str(error)[:300]) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = special is SpecialTokens.NONE
        added = self._tokenizer.num_special_tokens_to_add(False)
        opening = self._tokenizer.encode("", add_special_tokens=True).tokens
        self._added = 0 if special is SpecialTokens.NONE else added
        self._opening = opening[0] if opening and special is SpecialTokens.ONCE else ""

    def count(self, text: str) -> int:
        """Count the tokens that the engine makes of ``text``."""
        # Of a batch the interpreter is let go and no offsets are kept, other than of a single text.
        [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        written = bool(self._opening) and text.startswith(self._opening)
        return len(encoding) + (0 if written else self._added)
