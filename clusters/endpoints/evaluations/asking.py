"""Asking a gateway one prompt. Only gateways reach engines; the key says which revision answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import httpx
import msgspec

from clusters.endpoints.evaluations.checks import Answer
from clusters.endpoints.evaluations.prompts import Prompt

#: Statuses that say something of the prompt, and not of the moment.
_OF_THE_PROMPT: Final = frozenset({400, 413, 422})
_CODE: Final = re.compile(r"[a-z0-9_.-]{1,60}")
_CONNECT_S: Final = 5.0
_AGAIN_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 60.0


class NotNow(Exception):
    """No gateway answers now; ask again in ``after_s`` seconds. The message says why."""

    def __init__(self, message: str, *, after_s: float = _AGAIN_S) -> None:
        super().__init__(message)
        self.after_s = after_s


class Refused(Exception):
    """The revision does not answer this prompt; the message is a code."""


class Gateway:
    """A way to one revision: ``urls`` are those of gateways (up to /v1), of which the first that can be reached is
    asked; ``timeout_s`` is how long an answer may take."""

    def __init__(self, urls: Sequence[str], *, model: str, key: str, timeout_s: float) -> None:
        self._urls = list(urls)
        self._model, self._key = model, key
        self._timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)

    def ask(self, prompt: Prompt) -> Answer:
        """Get the answer to a prompt, at temperature 0.

        Raises:
            NotNow: no gateway answers now.
            Refused: the prompt is refused.
        """
        if not self._urls:
            raise NotNow("No gateway has a public address through which it may be called.", after_s=10)
        path, body = _request(prompt, self._model)
        with httpx.Client(timeout=self._timeout, trust_env=False) as client:
            for url in self._urls:
                try:
                    response = client.post(
                        f"{url}{path}", json=body, headers={"Authorization": f"Bearer {self._key}"}
                    )
                except httpx.TransportError as error:
                    failure = f"{type(error).__name__} at {url}"
                    continue
                return _read(response)
        raise NotNow(f"No gateway can be reached: {failure}.")


def _request(prompt: Prompt, model: str) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"model": model, "max_tokens": prompt.max_tokens, "temperature": 0, "seed": 0}
    if prompt.messages is None:
        return "/completions", {**body, "prompt": prompt.prompt}
    return "/chat/completions", {**body, "messages": msgspec.to_builtins(prompt.messages)}


def _read(response: httpx.Response) -> Answer:
    if response.status_code != 200:
        code = _code(response)
        if response.status_code in _OF_THE_PROMPT:
            raise Refused(f"{response.status_code} {code}")
        raise NotNow(f"The gateway answers {response.status_code} {code}.", after_s=_pause_s(response))
    try:
        document = response.json()
        choice = document["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        usage = document["usage"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Answer(text or "", usage["prompt_tokens"], usage["completion_tokens"], cached)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise NotNow("The gateway's answer cannot be read.") from error


def _code(response: httpx.Response) -> str:
    """Give the code of an error. Its message is left out: it may hold text of the prompt."""
    try:
        code = response.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return "without a code"
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "without a code"


def _pause_s(response: httpx.Response) -> float:
    try:
        wanted = float(response.headers.get("retry-after", _AGAIN_S))
    except ValueError:
        return _AGAIN_S
    return min(max(wanted, 1.0), _LONGEST_PAUSE_S)
