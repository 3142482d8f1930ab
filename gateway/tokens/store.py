"""The tokenizers of the models that are served: fetched once, checked, and kept on disk."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Final

import aiohttp

from gateway.backoff import Backoff
from gateway.contract import MOST_TOKENIZER_BYTES, TOKENIZERS_PATH, Endpoint, Snapshot, SpecialTokens
from gateway.files import write_atomically
from gateway.tokens.prompts import BadTokenizer, PromptTokenizer

_log = logging.getLogger(__name__)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60.0, sock_connect=5.0)

_Wanted = tuple[str, SpecialTokens]


class FetchFailed(Exception):
    """The control plane did not give a tokenizer; the message says why."""


class TokenizerStore:
    """Holds what the endpoints of the newest snapshot name; ``folder`` keeps the files, by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wanted: frozenset[_Wanted] | None = None  # until there is a snapshot
        self._loaded: dict[_Wanted, PromptTokenizer] = {}
        self._bad: set[str] = set()
        self._changed = asyncio.Event()

    def find(self, endpoint: Endpoint) -> PromptTokenizer | None:
        """Give the tokenizer of an endpoint's model, None if it has none or it is not here yet."""
        if not endpoint.tokenizer:
            return None
        return self._loaded.get((endpoint.tokenizer, endpoint.special_tokens))

    def use(self, snapshot: Snapshot) -> None:
        """Take what a new snapshot names, and let go of what it no longer does."""
        self._wanted = frozenset(
            (tokenizer, each.special_tokens)
            for each in snapshot.endpoints
            for tokenizer in (
                each.tokenizer,
                *(route.terms.tokenizer for route in each.routes if route.terms),
            )
            if tokenizer
        )
        self._loaded = {name: found for name, found in self._loaded.items() if name in self._wanted}
        self._changed.set()

    async def load(self) -> None:
        """Load what is on disk, and remove from there what no endpoint names any more."""
        if self._wanted is None:
            return
        named = {digest for digest, _ in self._wanted}
        for path in self._folder.glob("*.json"):
            if path.stem not in named:
                path.unlink(missing_ok=True)
        for wanted in self._missing():
            path = self._path(wanted[0])
            if path.exists():
                await self._take(wanted, await asyncio.to_thread(path.read_bytes))

    async def run(self, *, session: aiohttp.ClientSession, control_plane_url: str) -> None:
        """Fetch what is missing, again and again where that fails, until cancelled."""
        backoff = Backoff(first_s=0.25, most_s=30.0)
        while True:
            self._changed.clear()
            await self.load()
            for digest in sorted({digest for digest, _ in self._missing()}):
                url = f"{control_plane_url}{TOKENIZERS_PATH}/{digest}"
                try:
                    content = await _fetch(session, url, digest)
                except FetchFailed as error:
                    _log.warning("prompts are counted by their bytes, tokenizer %s: %s", digest[:12], error)
                    continue
                await self._keep(digest, content)
                for wanted in self._missing():
                    if wanted[0] == digest:
                        await self._take(wanted, content)
            if self._missing():
                # A snapshot that names others is looked at once, and does not shorten the pauses.
                wait_s = backoff.next()
            else:
                backoff.reset()
                wait_s = None
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _missing(self) -> list[_Wanted]:
        return sorted(
            each for each in self._wanted or () if each not in self._loaded and each[0] not in self._bad
        )

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"

    async def _take(self, wanted: _Wanted, content: bytes) -> None:
        digest, special = wanted
        if hashlib.sha256(content).hexdigest() != digest:
            _log.error("tokenizer %s on disk has changed: it is fetched anew", digest[:12])
            self._path(digest).unlink(missing_ok=True)
            return
        try:
            self._loaded[wanted] = await asyncio.to_thread(PromptTokenizer, content, special=special)
        except BadTokenizer as error:
            self._bad.add(digest)
            _log.error("prompts are counted by their bytes, tokenizer %s: %s", digest[:12], error)

    async def _keep(self, digest: str, content: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            await asyncio.to_thread(write_atomically, self._path(digest), content)
        except OSError as error:
            _log.error("tokenizer %s cannot be kept: %s", digest[:12], error)


async def _fetch(session: aiohttp.ClientSession, url: str, digest: str) -> bytes:
    try:
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False) as response:
            if response.status != 200:
                raise FetchFailed(f"the control plane answered {response.status}")
            content = b""
            async for piece in response.content.iter_chunked(256 * 1024):
                content += piece
                if len(content) > MOST_TOKENIZER_BYTES:
                    raise FetchFailed(f"it has more than {MOST_TOKENIZER_BYTES} bytes")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise FetchFailed(f"the control plane cannot be reached: {error!r}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise FetchFailed("what the control plane gave has another SHA-256")
    return content
