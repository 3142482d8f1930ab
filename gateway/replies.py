"""Answers in OpenAI's shapes: whole, or as server-sent events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.choices import Choice, ToolCalls
from gateway.engines.base import Delta

_encode = msgspec.json.Encoder().encode

DONE: Final = b"data: [DONE]\n\n"


class Usage(msgspec.Struct):
    """Token counts of one request, growing as the answer passes."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def document(self) -> dict[str, Any]:
        """Give OpenAI's ``usage`` object."""
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Reply:
    """Writes one request's answer, of ``choices`` choices. ``fingerprint`` tells clients which revision answered."""

    def __init__(
        self, *, chat: bool, model: str, fingerprint: str, request_id: str, usage: bool, choices: int = 1
    ) -> None:
        self._chat = chat
        self._include_usage = usage
        self._choices = choices
        self._call_id = f"call_{request_id}"
        self._base: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
            "object": self._object(stream=False),
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }
        self._around: list[tuple[bytes, bytes]] = []  # the text, for each choice
        self._tool_calls: dict[int, ToolCalls] = {}

    def whole(self, choices: Sequence[Choice], *, usage: Usage) -> bytes:
        """Give the body of an answer that is not streamed."""
        documents = [choice.document(chat=self._chat, call_id=self._call_id) for choice in choices]
        return _encode({**self._base, "choices": documents, "usage": usage.document()})

    def opening(self) -> bytes:
        """Give the events that come before the first text, and prepare :meth:`text`."""
        self._base["object"] = self._object(stream=True)
        # Only the text differs between events: everything around it is encoded once.
        mark = b'"\\u0000"'
        content = {"content": "\0"} if self._chat else "\0"
        for index in range(self._choices):
            prefix, _, suffix = self._event(index, content).partition(mark)
            self._around.append((prefix, suffix))
        if not self._chat:
            return b""
        first = {"role": "assistant", "content": ""}
        return b"".join([self._event(index, first) for index in range(self._choices)])

    def piece(self, delta: Delta) -> bytes:
        """Give the event of one piece of the answer, nothing if it brings nothing to show."""
        if delta.more is None and delta.logprobs is None:
            if not delta.text:
                return b""
            prefix, suffix = self._around[delta.choice]
            return prefix + _encode(delta.text) + suffix
        content: dict[str, Any] | str = delta.text
        if self._chat:
            content = dict(delta.more or {})
            if delta.text or not content:
                content["content"] = delta.text
            if calls := content.get("tool_calls"):
                seen = self._tool_calls.setdefault(delta.choice, ToolCalls(f"{self._call_id}_{delta.choice}"))
                content["tool_calls"] = seen.pass_on(calls)
        return self._event(delta.choice, content, logprobs=delta.logprobs)

    def closing(self, *, finish_reasons: Sequence[str], usage: Usage) -> bytes:
        """Give the events that end a stream."""
        nothing: dict[str, Any] | str = {} if self._chat else ""
        end = b"".join([self._event(index, nothing, reason) for index, reason in enumerate(finish_reasons)])
        if self._include_usage:
            end += b"data: " + _encode({**self._base, "choices": [], "usage": usage.document()}) + b"\n\n"
        return end + DONE

    def _object(self, *, stream: bool) -> str:
        if not self._chat:
            return "text_completion"
        return "chat.completion.chunk" if stream else "chat.completion"

    def _event(
        self,
        index: int,
        content: dict[str, Any] | str,
        finish_reason: str | None = None,
        *,
        logprobs: Any = None,
    ) -> bytes:
        choice = {
            "index": index,
            "delta" if self._chat else "text": content,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        event = {**self._base, "choices": [choice]}
        if self._include_usage:
            event["usage"] = None
        return b"data: " + _encode(event) + b"\n\n"


def vectors(data: Sequence[Any], *, model: str, usage: Usage) -> bytes:
    """Give the body of an answer of embeddings; ``data`` are vectors, numbers or packed."""
    rows = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(data)]
    counts = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return _encode({"object": "list", "data": rows, "model": model, "usage": counts})
