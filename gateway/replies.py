"""Answers in OpenAI's shapes: whole, or as server-sent events."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

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
    """Writes one request's answer. ``fingerprint`` tells clients which revision answered."""

    def __init__(self, *, chat: bool, model: str, fingerprint: str, request_id: str, usage: bool) -> None:
        self._chat = chat
        self._include_usage = usage
        self._base: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
            "object": self._object(stream=False),
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }
        self._prefix = b""
        self._suffix = b""

    def whole(self, *, text: str, finish_reason: str, usage: Usage) -> bytes:
        """Give the body of an answer that is not streamed."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return _encode({**self._base, "choices": [choice], "usage": usage.document()})

    def opening(self) -> bytes:
        """Give the events that come before the first text, and prepare :meth:`text`."""
        self._base["object"] = self._object(stream=True)
        # Only the text differs between events: everything around it is encoded once.
        mark = b'"\\u0000"'
        content = {"content": "\0"} if self._chat else "\0"
        self._prefix, _, self._suffix = self._event(content, None).partition(mark)
        return self._event({"role": "assistant", "content": ""}, None) if self._chat else b""

    def text(self, text: str) -> bytes:
        """Give the event of one piece of text."""
        return self._prefix + _encode(text) + self._suffix

    def closing(self, *, finish_reason: str, usage: Usage) -> bytes:
        """Give the events that end a stream."""
        end = self._event({} if self._chat else "", finish_reason)
        if self._include_usage:
            end += b"data: " + _encode({**self._base, "choices": [], "usage": usage.document()}) + b"\n\n"
        return end + DONE

    def _object(self, *, stream: bool) -> str:
        if not self._chat:
            return "text_completion"
        return "chat.completion.chunk" if stream else "chat.completion"

    def _event(self, content: dict[str, str] | str, finish_reason: str | None) -> bytes:
        choice = {
            "index": 0,
            "delta" if self._chat else "text": content,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        event = {**self._base, "choices": [choice]}
        if self._include_usage:
            event["usage"] = None
        return b"data: " + _encode(event) + b"\n\n"
