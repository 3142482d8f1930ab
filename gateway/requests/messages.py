"""The messages of a chat: as the gateway's templates see them, and as an engine's own chat takes them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gateway import errors
from gateway.engines.base import EngineChat
from gateway.requests.call import ChatMessage
from gateway.requests.fields import NULL, is_set


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str
    function: _Function
    type: Literal["function"] = "function"


class _Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    type: str
    text: str | None = None
    refusal: msgspec.Raw = NULL
    image_url: msgspec.Raw = NULL
    input_audio: msgspec.Raw = NULL
    file: msgspec.Raw = NULL


class Message(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One message as clients send it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_Part] | None = None
    name: str | None = None
    # Clients send an assistant's message back as they got it, empty members included.
    refusal: str | None = None
    annotations: msgspec.Raw = NULL
    audio: msgspec.Raw = NULL
    function_call: msgspec.Raw = NULL
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    # Engines that think give it, and clients send it back; no template here has a place for it.
    reasoning_content: str | None = None

    @property
    def of_tools(self) -> bool:
        """Whether only an engine that knows tools can render it."""
        return self.role == "tool" or bool(self.tool_calls)


def for_template(message: Message, at: str) -> ChatMessage:
    """Make the message that a chat template is given. ``at`` is where it stands.

    Raises:
        ApiError: it holds something other than text (400).
    """
    _check(message, at)
    if message.content is None:
        raise errors.invalid(f"{at}.content must be a string or a list of parts.", param=f"{at}.content")
    return ChatMessage(_role(message), _text(message.content, at))


def for_engine(message: Message, at: str) -> dict[str, Any]:
    """Make the message that an engine renders itself, with its tool calls. ``at`` is where it stands.

    Raises:
        ApiError: it holds something other than text and tool calls, or is incomplete (400).
    """
    _check(message, at)
    if message.role == "tool" and not message.tool_call_id:
        raise errors.invalid(
            f"Missing field: {at}.tool_call_id.",
            param=f"{at}.tool_call_id",
            code="missing_required_parameter",
        )
    calls = message.tool_calls if message.role == "assistant" else None
    if message.tool_calls and calls is None:
        raise errors.invalid(
            f"{at}.tool_calls may only be sent with the role assistant.", param=f"{at}.tool_calls"
        )
    if message.content is None and not calls:
        raise errors.invalid(f"{at}.content must be a string or a list of parts.", param=f"{at}.content")
    made: dict[str, Any] = {
        "role": _role(message),
        "content": None if message.content is None else _text(message.content, at),
    }
    if message.name is not None:
        made["name"] = message.name
    if calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": call.type,
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in calls
        ]
    if message.role == "tool":
        made["tool_call_id"] = message.tool_call_id
    return made


def texts(chat: EngineChat) -> str:
    """Give all text that an engine may make a prompt of, in the order in which templates use it."""
    parts: list[str] = []
    if chat.tools:
        parts.append(msgspec.json.encode(chat.tools).decode())
    for message in chat.messages:
        parts.append(message.get("content") or "")
        if "tool_calls" in message:
            parts.append(msgspec.json.encode(message["tool_calls"]).decode())
    return "\n".join(parts)


def _check(message: Message, at: str) -> None:
    if message.role == "function" or is_set(message.function_call):
        raise errors.unsupported(
            at, "Function calls are not supported by this gateway; use tools and tool_calls."
        )
    if is_set(message.audio):
        raise errors.unsupported(at, "Audio is not supported by this gateway.")


def _role(message: Message) -> str:
    # Chat templates know the older word only.
    return "system" if message.role == "developer" else message.role


def _text(content: str | list[_Part], at: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join([_part(part, f"{at}.content[{i}]") for i, part in enumerate(content)])


def _part(part: _Part, at: str) -> str:
    if part.type != "text":
        raise errors.invalid(
            f"{at} has the type {part.type[:40]!r}; only text parts are supported.",
            param=f"{at}.type",
            code="unsupported_value",
        )
    for name in ("refusal", "image_url", "input_audio", "file"):
        if is_set(getattr(part, name)):
            raise errors.invalid(
                f"{at}.{name} may not be sent in a part of the type 'text'.", param=f"{at}.{name}"
            )
    if part.text is None:
        raise errors.invalid(f"{at}.text must be a string.", param=f"{at}.text", code="invalid_type")
    return part.text
