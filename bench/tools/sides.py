"""The same call to each side of a comparison: the mock upstream alone, Berth's gateway, LiteLLM's proxy."""

from __future__ import annotations

from typing import Any, Final

from bench.tools import engine

KINDS: Final = {"answer": engine.WHOLE, "stream": engine.PIECES}
#: About what a long prompt weighs: 400 KB.
LARGE: Final = "what a harbour is " * 22_000


def chat(url: str, model: str, kind: str, headers: dict[str, str], *, prompt: str = "") -> dict[str, Any]:
    """Give what a chat completion of ``kind`` by ``model`` is, as arguments of ``load.plan_for``."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt or "What is an SLO class?"}],
        "max_tokens": engine.EVENTS,
    }
    return {
        "url": url,
        "path": engine.CHAT_PATH,
        "headers": headers,
        "body": body | ({"stream": True} if kind == "stream" else {}),
        "ending": "[DONE]" if kind == "stream" else '"usage"',
    }


def upstream(url: str, kind: str, *, prompt: str = "") -> dict[str, Any]:
    """Call the mock upstream itself."""
    return chat(url, KINDS[kind], kind, {}, prompt=prompt)
