"""Tools that a model may call, and the choice among them. They are checked here and carried out by engines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gateway import errors
from gateway.requests.fields import check_depth, decode_field, is_set

_MOST_TOOLS: Final = 128
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class _Function(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["function"]
    function: _Function


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _ToolChoice(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["function"]
    function: _Named


_tools: Final = msgspec.json.Decoder(list[_Tool])
_choice: Final = msgspec.json.Decoder(Literal["none", "auto", "required"] | _ToolChoice)


def read_tools(content: msgspec.Raw) -> Sequence[Mapping[str, Any]]:
    """Read ``tools``.

    Raises:
        ApiError: there are too many, or one is malformed (400).
    """
    if not is_set(content):
        return ()
    tools = decode_field("tools", content, _tools)
    if len(tools) > _MOST_TOOLS:
        raise errors.invalid(f"tools may hold at most {_MOST_TOOLS} tools.", param="tools")
    for index, tool in enumerate(tools):
        if not _NAME.fullmatch(tool.function.name):
            at = f"tools[{index}].function.name"
            raise errors.invalid(f"{at} must be 1 to 64 of a-z, A-Z, 0-9, '_' and '-'.", param=at)
        check_depth(tool.function.parameters, f"tools[{index}].function.parameters")
    made: Sequence[Mapping[str, Any]] = msgspec.to_builtins(tools)
    return made


def read_tool_choice(
    content: msgspec.Raw, tools: Sequence[Mapping[str, Any]]
) -> str | Mapping[str, Any] | None:
    """Read ``tool_choice``, None for none.

    Raises:
        ApiError: it is malformed, or asks for a tool that is not there (400).
    """
    if not is_set(content):
        return None
    choice = decode_field("tool_choice", content, _choice)
    if isinstance(choice, str):
        if choice == "required" and not tools:
            raise errors.invalid("tool_choice is 'required' but there are no tools.", param="tool_choice")
        return choice
    if choice.function.name not in {tool["function"]["name"] for tool in tools}:
        raise errors.invalid("tool_choice names a tool that is not in tools.", param="tool_choice")
    made: Mapping[str, Any] = msgspec.to_builtins(choice)
    return made
