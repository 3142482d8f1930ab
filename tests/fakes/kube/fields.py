"""Which fields an apply names, and what becomes of them: server-side apply's merge, by paths.

A path is a tuple of segments in the words of managedFields: ``f:name``, ``k:{"name":"a"}``, ``v:"x"``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]

_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "ephemeralContainers": (("name",),),
    "env": (("name",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "volumeDevices": (("devicePath",),),
    "imagePullSecrets": (("name",),),
    "hostAliases": (("ip",),),
    "resourceClaims": (("name",),),
    "claims": (("name",),),
    "conditions": (("type",),),
    "ownerReferences": (("uid",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
}
"""List maps: field name -> its possible keys. ``protocol`` is TCP where it is not said."""

_SETS = {"finalizers"}

_ATOMIC_MAPS = {
    "selector",
    "nodeSelector",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "secretKeyRef",
    "configMapKeyRef",
    "fieldRef",
    "resourceFieldRef",
    "roleRef",
    "scaleTargetRef",
    "requiredDuringSchedulingIgnoredDuringExecution",
}

_NOBODYS = {
    ("f:apiVersion",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "generateName",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
        )
    ),
}
_ABSENT = object()


def named(obj: dict[str, Any]) -> set[Path]:
    """Give the paths of the fields that an object names, as far as anyone may own them."""
    return {path for path in _paths(obj, (), "") if path[:1] not in _NOBODYS and path[:2] not in _NOBODYS}


def _paths(value: Any, path: Path, name: str) -> Iterator[Path]:
    if isinstance(value, dict) and value and name not in _ATOMIC_MAPS:
        for key, inner in value.items():
            yield from _paths(inner, (*path, f"f:{key}"), key)
    elif isinstance(value, list) and value and name in _SETS:
        yield from ((*path, f"v:{json.dumps(item)}") for item in value)
    elif isinstance(value, list) and value and (items := _keyed(name, value)):
        for key, item in items.items():
            yield (*path, key)
            for field, inner in item.items():
                yield from _paths(inner, (*path, key, f"f:{field}"), field)
    else:
        yield path


def _keyed(name: str, items: list[Any]) -> dict[str, dict[str, Any]] | None:
    """Give the items by their keys; None where the list is no map of items."""
    for keys in _KEYS.get(name, ()):
        found: dict[str, dict[str, Any]] = {}
        for item in items:
            values = {key: item.get(key) for key in keys} if isinstance(item, dict) else {}
            if "protocol" in values:
                values["protocol"] = values["protocol"] or "TCP"
            if not values or None in values.values():
                break
            found["k:" + json.dumps(values, separators=(",", ":"))] = item
        else:
            if len(found) == len(items):
                return found
    return None


def merge(live: Any, applied: Any, name: str = "") -> Any:
    """Lay what is applied over what is there: maps by field, list maps by key, the rest whole."""
    if isinstance(live, dict) and isinstance(applied, dict) and name not in _ATOMIC_MAPS:
        result = dict(live)
        for key, value in applied.items():
            result[key] = merge(live.get(key), value, key)
        return {key: value for key, value in result.items() if value is not None}
    if isinstance(live, list) and isinstance(applied, list):
        if name in _SETS:
            return live + [item for item in applied if item not in live]
        old, new = _keyed(name, live), _keyed(name, applied)
        if old is not None and new is not None:
            both = [merge(old.get(key), item) for key, item in new.items()]
            return both + [item for key, item in old.items() if key not in new]
    if isinstance(applied, dict):
        return {key: value for key, value in applied.items() if value is not None}
    return applied


def value_at(obj: Any, path: Path) -> Any:
    """Give the value at a path; a value of its own kind where there is none."""
    name = ""
    for segment in path:
        obj = _step(obj, segment, name)
        if obj is _ABSENT:
            return _ABSENT
        name = segment[2:] if segment.startswith("f:") else ""
    return obj


def _step(obj: Any, segment: str, name: str) -> Any:
    if segment.startswith("f:"):
        return obj.get(segment[2:], _ABSENT) if isinstance(obj, dict) else _ABSENT
    if not isinstance(obj, list):
        return _ABSENT
    if segment.startswith("k:"):
        return (_keyed(name, obj) or {}).get(segment, _ABSENT)
    wanted = json.loads(segment[2:])
    return wanted if wanted in obj else _ABSENT


def without(obj: Any, path: Path, keep: set[Path]) -> None:
    """Take the value at a path out of ``obj``, in place, and the maps and lists that it leaves empty."""
    *parents, last = path
    holders = [(obj, "")]
    for segment in parents:
        holder, name = holders[-1]
        inner = _step(holder, segment, name)
        if inner is _ABSENT:
            return
        holders.append((inner, segment[2:] if segment.startswith("f:") else ""))
    _drop(*holders[-1], last)
    for depth in range(len(holders) - 1, 0, -1):
        if holders[depth][0] or path[:depth] in keep or path[depth - 1].startswith("k:"):
            return
        _drop(*holders[depth - 1], path[depth - 1])


def _drop(holder: Any, name: str, segment: str) -> None:
    value = _step(holder, segment, name)
    if value is _ABSENT:
        return
    if isinstance(holder, dict):
        del holder[segment[2:]]
    else:
        holder.remove(value)


def document(paths: set[Path]) -> dict[str, Any]:
    """Give paths as the fieldsV1 of managedFields."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for segment in path:
            node = node.setdefault(segment, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return root


def below(path: Path, paths: set[Path]) -> bool:
    """Whether ``paths`` hold the path itself or anything below it."""
    return any(other[: len(path)] == path for other in paths)


def dotted(path: Path) -> str:
    """Give a path in the words of a conflict."""
    text = ""
    for segment in path:
        text += f".{segment[2:]}" if segment.startswith("f:") else f"[{segment[2:]}]"
    return text
