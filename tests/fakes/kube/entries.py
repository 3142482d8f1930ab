"""What the stand-in keeps of an object, and of a change to one."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import msgspec

from clusters.kube import kinds
from clusters.kube.kinds import Kind
from tests.fakes.kube import ownership, rules

Object = dict[str, Any]
Key = tuple[Kind, str, str]  # kind, namespace, name


@dataclasses.dataclass
class Entry:
    """One object as it is now. Never changed in place: watchers hold it."""

    obj: Object
    owners: ownership.Owners
    version: int
    encoded: bytes


@dataclasses.dataclass(frozen=True)
class Change:
    """One step of the history."""

    version: int
    key: Key
    before: Object | None
    after: Object | None


def defined(definition: Object) -> set[Kind]:
    """The optional kinds of a CustomResourceDefinition."""
    spec = definition.get("spec") or {}
    plural = (spec.get("names") or {}).get("plural")
    return {kind for kind in kinds.OPTIONAL if (kind.group, kind.plural) == (spec.get("group"), plural)}


def part(kind: Kind, body: Object, subresource: str) -> Object:
    if subresource == "status":
        return {key: value for key, value in body.items() if key in ("apiVersion", "kind", "status")}
    if kind.plural in rules.STATUS:
        return {key: value for key, value in body.items() if key != "status"}
    return body


_FIXED_META = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


def fixed_meta(before: Object) -> Object:
    meta = before["metadata"]
    return {key: meta[key] for key in (*_FIXED_META, "name", "namespace", "resourceVersion") if key in meta}


def copy_of(entry: Entry) -> Object:
    copy: Object = msgspec.json.decode(msgspec.json.encode(entry.obj))
    return copy


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
