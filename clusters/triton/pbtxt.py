"""Text-format protocol buffers, as far as a config.pbtxt needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class Enum(str):
    """A name that is written without quotes."""

    __slots__ = ()


Scalar = str | bool | int | float
Value = Scalar | Mapping[str, "Value"] | Sequence["Value"]


def emit(message: Mapping[str, Value]) -> str:
    """Write ``message`` as text: mappings are messages, lists repeat their field."""
    return "".join(f"{line}\n" for line in _fields(message, indent=""))


def _fields(message: Mapping[str, Value], *, indent: str) -> Iterator[str]:
    for name, value in message.items():
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for each in values:
            if isinstance(each, Mapping):
                yield f"{indent}{name} {{"
                yield from _fields(each, indent=indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{name}: {_scalar(each)}"


def _scalar(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str.__str__(value)
    if isinstance(value, str):
        return f'"{"".join(_escaped(c) for c in value)}"'
    return repr(value)


def _escaped(character: str) -> str:
    if 0x20 <= ord(character) < 0x7F and character not in '"\\':
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode())
