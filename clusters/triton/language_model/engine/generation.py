"""One request's text, token by token: decoding, stop texts, limits."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from .ngram import END, NGramModel
from .sampling import InvalidRequest, Sampler, SamplingParams


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """What one step added. ``finish_reason`` is ``stop`` or ``length`` in the last one."""

    text: str
    tokens: int
    finish_reason: str | None = None


class LanguageModel:
    """Tokenizer and n-gram model together, within a context of ``context_tokens``."""

    def __init__(self, folder: Path, *, context_tokens: int, max_output_tokens: int) -> None:
        self.ngrams = NGramModel.load(folder / "ngrams.npz")
        self.context_tokens = context_tokens
        self.max_output_tokens = max_output_tokens
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # A prompt that spells the end token is text like any other.
        self._tokenizer.encode_special_tokens = True
        alphabet = _byte_alphabet()
        self.token_bytes = [
            b"" if i == END else bytes(alphabet[c] for c in token)
            for token, i in sorted(self._tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        ]
        self._longest = max(map(len, self.token_bytes))

    def start(self, prompt: str, params: SamplingParams) -> Generation:
        """Take a request in.

        Raises:
            InvalidRequest: prompt and answer do not fit; the message of a context that is too
                short begins with ``context_length_exceeded``.
        """
        if params.max_tokens > self.max_output_tokens:
            raise InvalidRequest(
                f"max_tokens must be at most {self.max_output_tokens}, got {params.max_tokens}"
            )
        # A text far beyond the context is refused by its length, before tokenising costs anything.
        least = len(prompt) // self._longest
        ids = self._encode(prompt) if least <= self.context_tokens else None
        count = least if ids is None else len(ids)
        if ids is None or count + params.max_tokens > self.context_tokens:
            raise InvalidRequest(
                f"context_length_exceeded: this model's context is {self.context_tokens} tokens; "
                f"the prompt has {'at least ' if ids is None else ''}{count} "
                f"and max_tokens asks for {params.max_tokens}"
            )
        return Generation(self, ids, params)

    def _encode(self, prompt: str) -> list[int]:
        return list(self._tokenizer.encode(prompt, add_special_tokens=False).ids)


class Generation:
    """A request under way. Call :meth:`step` until its delta has a finish reason."""

    def __init__(self, model: LanguageModel, prompt: Sequence[int], params: SamplingParams) -> None:
        self.prompt_tokens = len(prompt)
        self.output_tokens = 0
        self._model = model
        self._params = params
        self._sampler = Sampler(params)
        reach = model.ngrams.order - 1
        self._history = [END, *prompt][-reach:]
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def step(self) -> Delta:
        """Generate one token."""
        banned = END if self.output_tokens < self._params.min_tokens else None
        token = self._sampler.draw(self._model.ngrams.distribution(self._history), banned=banned)
        if token == END:
            return Delta(text=self._flush(), tokens=0, finish_reason="stop")
        self.output_tokens += 1
        self._history = [*self._history[1:], token] if self._full else [*self._history, token]
        self._held += self._utf8.decode(self._model.token_bytes[token])
        stopped_at = self._first_stop()
        if stopped_at is not None:
            return Delta(text=self._held[:stopped_at], tokens=1, finish_reason="stop")
        if self.output_tokens == self._params.max_tokens:
            return Delta(text=self._flush(), tokens=1, finish_reason="length")
        return Delta(text=self._release(), tokens=1)

    @property
    def _full(self) -> bool:
        return len(self._history) >= self._model.ngrams.order - 1

    def _first_stop(self) -> int | None:
        found = [at for text in self._params.stop if (at := self._held.find(text)) >= 0]
        return min(found, default=None)

    def _release(self) -> str:
        """Give out what can no longer become part of a stop text."""
        keep = max((_overlap(self._held, text) for text in self._params.stop), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def _flush(self) -> str:
        text, self._held = self._held + self._utf8.decode(b"", final=True), ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def _byte_alphabet() -> dict[str, int]:
    """Which byte each character of a byte-level BPE token stands for (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    table = {chr(b): b for b in printable}
    table.update({chr(256 + i): b for i, b in enumerate(others)})
    return table
