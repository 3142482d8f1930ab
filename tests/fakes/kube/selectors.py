"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.fakes.kube.answers import Refusal

Matcher = Callable[[dict[str, Any]], bool]
_SETS = re.compile(r"^\s*(?P<key>\S+)\s+(?P<how>in|notin)\s*\((?P<values>[^)]*)\)\s*$")
_FIELDS = {
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "type",
    "involvedObject.name",
}


def matcher(labels: str, fields: str) -> Matcher:
    """Give what tells whether an object matches both; raises a 400 on what no server would take."""
    tests = [_label(part) for part in _split(labels)] + [_field(part) for part in _split(fields)]
    return lambda obj: all(test(obj) for test in tests)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _labels(obj: dict[str, Any]) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def _label(part: str) -> Matcher:
    if found := _SETS.match(part):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["how"] == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    if "!=" in part:
        key, value = (each.strip() for each in part.split("!=", 1))
        return lambda obj: _labels(obj).get(key) != value
    if "=" in part:
        key, value = (each.strip() for each in re.split("==?", part, maxsplit=1))
        return lambda obj: _labels(obj).get(key) == value
    key = part.strip()
    if key.startswith("!"):
        return lambda obj: key[1:] not in _labels(obj)
    return lambda obj: key in _labels(obj)


def _field(part: str) -> Matcher:
    negative = "!=" in part
    key, value = (each.strip() for each in re.split("!=|==?", part, maxsplit=1))
    if key not in _FIELDS:
        raise Refusal(400, "BadRequest", f"field label not supported: {key}")

    def matches(obj: dict[str, Any]) -> bool:
        found: Any = obj
        for name in key.split("."):
            found = (found or {}).get(name)
        return (str(found or "") == value) is not negative

    return matches
