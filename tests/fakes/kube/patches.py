"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386)."""

from __future__ import annotations

import copy
from typing import Any

from tests.fakes.kube.answers import Refusal


def merge_patch(target: Any, patch: Any) -> Any:
    """Give ``target`` with ``patch`` merged into it; null takes a field away."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """Give ``target`` after the operations; raises a 422 where one of them cannot be done."""
    root = {"": copy.deepcopy(target)}
    for operation in operations:
        _do(root, operation)
    return root[""]


def _do(root: dict[str, Any], operation: dict[str, Any]) -> None:
    kind, path = operation.get("op"), str(operation.get("path", ""))
    if kind in ("add", "replace", "remove"):
        holder, key = _place(root, path)
        if kind != "add":
            _get(holder, key, path)
        if kind == "remove":
            del holder[key]
        elif kind == "add" and isinstance(holder, list):
            holder.insert(key, operation["value"])
        else:
            holder[key] = operation["value"]
    elif kind == "test":
        holder, key = _place(root, path)
        if _get(holder, key, path) != operation.get("value"):
            raise _failed(f"testing path {path} failed")
    elif kind in ("move", "copy"):
        holder, key = _place(root, str(operation.get("from", "")))
        value = copy.deepcopy(_get(holder, key, str(operation.get("from"))))
        if kind == "move":
            del holder[key]
        _do(root, {"op": "add", "path": path, "value": value})
    else:
        raise Refusal(400, "BadRequest", f"unknown operation {kind!r}")


def _place(root: dict[str, Any], path: str) -> tuple[Any, Any]:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")]
    holder: Any = root
    for part in parts[:-1]:
        holder = _get(holder, _key(holder, part), path)
    return holder, _key(holder, parts[-1])


def _key(holder: Any, part: str) -> Any:
    if not isinstance(holder, list):
        return part
    if part == "-":
        return len(holder)
    if not part.isdecimal():
        raise _failed(f"invalid array index {part!r}")
    return int(part)


def _get(holder: Any, key: Any, path: str) -> Any:
    try:
        return holder[key]
    except (KeyError, IndexError, TypeError):
        raise _failed(f"path {path} is missing") from None


def _failed(message: str) -> Refusal:
    return Refusal(
        422, "Invalid", f"the server rejected our request due to an error in our request: {message}"
    )
