"""Documents into text: YAML with its fields in the order in which a kind tells them, and unified diffs."""

from __future__ import annotations

import datetime as dt
import difflib
import uuid
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import yaml

from portal.configuration.documents import API_VERSION


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _amount(dumper: yaml.SafeDumper, number: Decimal) -> yaml.Node:
    text = f"{number:f}"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Decimal, _amount)


def plain(value: Any) -> Any:
    """Give a value as documents hold it: texts, numbers, lists and mappings."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    if isinstance(value, Decimal):
        return Decimal(f"{value.normalize():f}")
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str):
        return str(value)
    return [plain(each) for each in value]


def to_yaml(value: Any) -> str:
    """Write a plain value as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def document(kind: str, metadata: Mapping[str, str], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Give a document as a plain value; what of ``metadata`` is empty is left out."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {name: text for name, text in metadata.items() if text},
        "spec": dict(spec),
    }


def to_file(documents: Iterable[Mapping[str, Any]]) -> str:
    """Write documents as one file."""
    return "---\n".join(to_yaml(each) for each in documents)


def unified(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, *, name: str) -> str:
    """Give what differs between two specs of ``name`` as a unified diff; "" where nothing does."""
    old = to_yaml(before).splitlines() if before is not None else []
    new = to_yaml(after).splitlines() if after is not None else []
    found = difflib.unified_diff(
        old,
        new,
        f"{name} (as it is)",
        f"{name} (as applied)" if after is not None else "removed",
        lineterm="",
    )
    return "\n".join(found)
