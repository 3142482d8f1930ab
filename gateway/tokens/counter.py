"""Counts of prompts: exact where the model's tokenizer is at hand, an upper bound where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from gateway.contract import Endpoint
from gateway.tokens.prompts import PromptTokenizer

#: Characters up to which a text is counted at once: 0.4 ms, a few times what handing it to a thread takes.
_INLINE: Final = 2_000
#: Tokens that an engine may put before and after a text: its beginning, its end, a leading space.
_ADDED: Final = 3


class Count(NamedTuple):
    """Tokens of a text; where they are not ``exact``, it has no more than that."""

    tokens: int
    exact: bool


class TokenCounter:
    """Counts prompts with the tokenizer of their endpoint's model; ``find`` gives it, None if it is not there."""

    def __init__(self, find: Callable[[Endpoint], PromptTokenizer | None]) -> None:
        self._find = find
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokens")

    async def count(self, endpoint: Endpoint, text: str) -> Count:
        """Count ``text``, long ones in a thread.

        Without a tokenizer its UTF-8 bytes are taken, and three more: vocabularies of bytes, and of characters
        that fall back to bytes, make no more tokens of it. Only a vocabulary that first writes compatibility
        characters out (NFKC) could, in a text that has many of them.
        """
        tokenizer = self._find(endpoint)
        if tokenizer is None:
            return Count(len(text.encode()) + _ADDED, exact=False)
        if len(text) <= _INLINE:
            return Count(tokenizer.count(text), exact=True)
        loop = asyncio.get_running_loop()
        return Count(await loop.run_in_executor(self._threads, tokenizer.count, text), exact=True)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
