"""Text into documents: YAML by the safe loader, read strictly, with the line of every value; or JSON."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import yaml

from portal.configuration.problems import Problem, Unusable, did_you_mean

API_VERSION: Final = "berth/v1"
MOST_BYTES: Final = 1024 * 1024
MOST_DOCUMENTS: Final = 500
MOST_DEPTH: Final = 20

_TOP: Final = ("apiVersion", "kind", "metadata", "spec")
_METADATA: Final = ("name", "tenant", "project", "owner")
LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
LABEL_RULE: Final = "1 to 63 lower-case letters, digits, dots, hyphens and underscores"

_Path = tuple[str | int, ...]
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_FRACTION: Final = re.compile(r"[-+]?[0-9]+\.[0-9]*([eE][-+]?[0-9]{1,2})?")
_TAG: Final = "tag:yaml.org,2002:"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """One object as it is wanted. ``lines`` has the line of each value by its path."""

    source: str
    kind: str
    name: str
    tenant: str = ""
    project: str = ""
    owner: str = ""
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lines: Mapping[_Path, int] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """What it is about, in words."""
        return f"{self.kind} {self.name}"

    def line(self, path: str = "") -> int:
        """Give the line of a field by its path with dots, or of what it would stand in; 0 where there are none."""
        keys = [_key(part) for part in path.split(".") if part]
        for length in range(len(keys), -1, -1):
            if (line := self.lines.get(tuple(keys[:length]))) is not None:
                return line
        return 0

    def problem(self, message: str, path: str = "") -> Problem:
        """Give what is wrong at ``path``."""
        return Problem(
            source=self.source, line=self.line(path), path=path, message=message, document=self.title
        )


def _key(part: str) -> str | int:
    # A field may be called so, too: "²" is a digit of which int makes nothing, nor of thousands of digits.
    return int(part) if part.isdecimal() and len(part) < 10 else part


def read_yaml(text: str | bytes, *, source: str) -> list[Document]:
    """Read the documents of a file.

    Raises:
        Unusable: it is no YAML, too large, or a document has not the form of one; the problem says where.
    """
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > MOST_BYTES:
        raise _unusable(source, 0, f"It has {len(raw):,} bytes; at most {MOST_BYTES:,} are read.")
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unusable(source, raw.count(b"\n", 0, error.start) + 1, "It is not UTF-8.") from error
    try:
        _look_over(decoded, source)
        nodes = [node for node in yaml.compose_all(decoded, Loader=_Loader) if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise _unusable(source, line, f"It is not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise _unusable(source, 0, "It is not YAML: it has characters that YAML does not take.") from error
    found = []
    for node in nodes:
        lines: dict[_Path, int] = {}
        value = _value(node, (), lines, source)
        if value is not None:
            found.append(_document(value, source, lines))
    return _counted(found, source)


def read_values(values: Sequence[Any], *, source: str) -> list[Document]:
    """Read documents that came as JSON.

    Raises:
        Unusable: one has not the form of a document.
    """
    return _counted(
        [_document(value, f"{source}[{number}]", {}) for number, value in enumerate(values)], source
    )


def _counted(found: list[Document], source: str) -> list[Document]:
    if len(found) > MOST_DOCUMENTS:
        raise _unusable(
            source, 0, f"It has {len(found)} documents; at most {MOST_DOCUMENTS} are read at once."
        )
    return found


def _look_over(text: str, source: str) -> None:
    """Refuse what grows when it is read, or would make objects, before anything is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _unusable(source, line, "Anchors and aliases are not taken: write the values out.")
        if getattr(event, "tag", None):
            raise _unusable(source, line, f"Tags are not taken: leave {event.tag} out.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_DEPTH:
                raise _unusable(source, line, f"It is nested more than {MOST_DEPTH} deep.")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _value(node: yaml.Node, path: _Path, lines: dict[_Path, int], source: str) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*path, number), lines, source) for number, each in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, inner in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _unusable(source, at, "Names of fields are plain text.")
            if key.value in found:
                raise _unusable(source, at, f"{key.value} is given twice.")
            lines[*path, key.value] = at
            found[key.value] = _value(inner, (*path, key.value), lines, source)
        return found
    return _scalar(node)


def _scalar(node: yaml.ScalarNode) -> Any:
    """Give a scalar as YAML 1.2 reads it: ``no`` is a word, ``010`` and ``1:30`` are texts, fractions are exact."""
    text, tag = node.value, node.tag.removeprefix(_TAG)
    if tag == "null":
        return None
    if tag == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if tag == "int" and _WHOLE.fullmatch(text):
        return int(text)
    if tag == "float" and _FRACTION.fullmatch(text):
        return Decimal(text)
    return text


def _look_through(value: Any, source: str, line: int, depth: int = 0) -> None:
    """Refuse what the database or an answer cannot hold."""
    if depth > MOST_DEPTH:
        raise _unusable(source, line, f"It is nested more than {MOST_DEPTH} deep.")
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []
    if any("\0" in text or (not text.isascii() and _SURROGATE.search(text)) for text in texts):
        raise _unusable(source, line, "It has characters that are none: NUL, or half of a pair.")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        _look_through(each, source, line, depth + 1)


def _document(value: Any, source: str, lines: dict[_Path, int]) -> Document:
    top = lines.get((), 0)
    _look_through(value, source, top)
    if not isinstance(value, dict):
        raise _unusable(source, top, f"A document has {', '.join(_TOP)}.")

    def refuse(message: str, *path: str) -> Unusable:
        return _unusable(source, lines.get(path, top), message, ".".join(path))

    for path, unknown, known in _unknown(value):
        raise refuse(f"There is no such field here. {did_you_mean(unknown, known)}", *path)
    if value.get("apiVersion") != API_VERSION:
        raise refuse(f"Write apiVersion: {API_VERSION}.", "apiVersion")
    kind, metadata, spec = value.get("kind"), value.get("metadata"), value.get("spec")
    if not isinstance(kind, str):
        raise refuse("Say what it is, for instance kind: Endpoint.", "kind")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise refuse("Give it a name, as metadata: {name: …}.", "metadata")
    for name, text in metadata.items():
        if text is not None and (not isinstance(text, str) or len(text) > 120):
            raise refuse(
                "Write a text of at most 120 characters, in quotes if it is a number.", "metadata", name
            )
    owner = metadata.get("owner") or ""
    if owner and not LABEL.fullmatch(owner):
        raise refuse(f"An owner label has {LABEL_RULE}.", "metadata", "owner")
    if spec is not None and not isinstance(spec, dict):
        raise refuse("A spec has fields.", "spec")
    return Document(
        source=source,
        kind=kind,
        spec=spec or {},
        lines=lines,
        **{name: metadata.get(name) or "" for name in _METADATA},
    )


def _unknown(value: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str, Sequence[str]]]:
    for name in value:
        if name not in _TOP:
            yield (str(name),), str(name), _TOP
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        for name in metadata:
            if name not in _METADATA:
                yield ("metadata", str(name)), str(name), _METADATA


def _unusable(source: str, line: int, message: str, path: str = "") -> Unusable:
    return Unusable(Problem(source=source, line=line, path=path, message=message))
