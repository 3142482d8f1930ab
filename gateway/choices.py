"""One choice of an answer, gathered from its pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.engines.base import Delta


class ToolCalls:
    """The tool calls of one choice, made from the parts in which an engine streams them.

    An engine may give a call no id, or repeat its name with every part: here each call has an id, and its name
    comes once. ``prefix`` begins the ids that are made here.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._calls: dict[int, dict[str, Any]] = {}

    def pass_on(self, parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Take parts, and give what is new in them."""
        return [self._add(part) for part in parts]

    def whole(self) -> list[dict[str, Any]]:
        """Give the calls as far as they came."""
        return [call for _, call in sorted(self._calls.items())]

    def _add(self, part: Mapping[str, Any]) -> dict[str, Any]:
        index = part.get("index") or 0
        function = part.get("function") or {}
        arguments = function.get("arguments") or ""
        call = self._calls.get(index)
        if call is not None:
            call["function"]["arguments"] += arguments
            return {"index": index, "function": {"arguments": arguments}}
        call = {
            "id": part.get("id") or f"{self._prefix}_{index}",
            "type": "function",
            "function": {"name": function.get("name") or "", "arguments": arguments},
        }
        self._calls[index] = call
        return {"index": index, **call, "function": dict(call["function"])}


class Choice:
    """Give it every piece of choice ``index``, in order."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.output_tokens = 0
        self.finish_reason: str | None = None
        self._texts: list[str] = []
        self._tool_parts: list[Mapping[str, Any]] = []
        self._more: dict[str, Any] = {}
        self._logprobs: dict[str, Any] | None = None

    def add(self, delta: Delta) -> None:
        """Take one piece."""
        self.output_tokens += delta.output_tokens
        self.finish_reason = delta.finish_reason or self.finish_reason
        self._texts.append(delta.text)
        for name, value in (delta.more or {}).items():
            if name == "tool_calls":
                self._tool_parts += value
            else:
                _grow(self._more, name, value)
        if delta.logprobs is not None:
            self._logprobs = {} if self._logprobs is None else self._logprobs
            for name, value in delta.logprobs.items():
                _grow(self._logprobs, name, value)

    def document(self, *, chat: bool, call_id: str) -> dict[str, Any]:
        """Give OpenAI's choice. ``finish_reason`` is known by then."""
        text = "".join(self._texts)
        document: dict[str, Any] = {
            "index": self.index,
            "logprobs": self._logprobs,
            "finish_reason": self.finish_reason,
        }
        if not chat:
            document["text"] = text
            return document
        message = {"role": "assistant", "content": text, "refusal": None, **self._more}
        if self._tool_parts:
            calls = ToolCalls(f"{call_id}_{self.index}")
            calls.pass_on(self._tool_parts)
            message |= {"content": text or None, "tool_calls": calls.whole()}
        document["message"] = message
        return document


def _grow(into: dict[str, Any], name: str, value: Any) -> None:
    """Add a part to what came of it before: texts and lists are continued, all else is replaced."""
    before = into.get(name)
    if isinstance(before, str) and isinstance(value, str):
        into[name] = before + value
    elif isinstance(before, list) and isinstance(value, list):
        before.extend(value)
    else:
        into[name] = list(value) if isinstance(value, list) else value
