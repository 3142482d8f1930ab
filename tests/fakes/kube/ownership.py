"""Who owns which field of an object: server-side apply and its conflicts, and what other writes take over."""

from __future__ import annotations

import datetime as dt
from typing import Any

from tests.fakes.kube import fields
from tests.fakes.kube.answers import Refusal

Owner = tuple[str, str, str]  # manager, operation, subresource
Owners = dict[Owner, set[fields.Path]]


def apply(
    live: dict[str, Any], applied: dict[str, Any], owners: Owners, owner: Owner, *, force: bool
) -> tuple[dict[str, Any], Owners]:
    """Give the object and its owners after an apply; raises a 409 on conflicts without ``force``."""
    wanted = fields.named(applied)
    merged = fields.merge(live, applied)
    others = {other: paths for other, paths in owners.items() if other != owner}
    changed = {path for path in wanted if fields.value_at(live, path) != fields.value_at(merged, path)}
    conflicts = {other: paths & changed for other, paths in others.items() if paths & changed}
    if conflicts and not force:
        raise _conflict(conflicts, str(applied.get("apiVersion")))
    others = {other: paths - changed for other, paths in others.items()}
    elsewhere = set().union(*others.values()) if others else set()
    gone = owners.get(owner, set()) - wanted
    left = {path for path in gone if not fields.below(path, wanted) and not fields.below(path, elsewhere)}
    items = {path for path in left if path[-1].startswith("k:")}
    for path in sorted(left, key=len, reverse=True):
        if not any(path[: len(item)] == item for item in items if item != path):  # it goes with its item
            fields.without(merged, path, wanted)
    return merged, _tidy({**others, owner: wanted})


def update(before: dict[str, Any], after: dict[str, Any], owners: Owners, owner: Owner) -> Owners:
    """Give the owners after a write that is no apply: who changed a field owns it alone."""
    now, then = fields.named(after), fields.named(before)
    changed = {
        path
        for path in now
        if path not in then or fields.value_at(before, path) != fields.value_at(after, path)
    }
    result = {other: (paths - changed) & now for other, paths in owners.items()}
    result[owner] = result.get(owner, set()) | changed
    return _tidy(result)


def managed_fields(
    owners: Owners, before: Owners, old: list[dict[str, Any]], api_version: str
) -> list[dict[str, Any]]:
    """Give owners as metadata.managedFields; an entry keeps its time while its fields stay."""
    times = {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["time"] for entry in old
    }
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        {
            "manager": owner[0],
            "operation": owner[1],
            "apiVersion": api_version,
            "time": times.get(owner, now) if before.get(owner) == paths else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields.document(paths),
            **({"subresource": owner[2]} if owner[2] else {}),
        }
        for owner, paths in owners.items()
    ]


def _tidy(owners: Owners) -> Owners:
    return {owner: paths for owner, paths in owners.items() if paths}


def _conflict(conflicts: dict[Owner, set[fields.Path]], api_version: str) -> Refusal:
    causes, parts = [], []
    for (manager, _, _), paths in conflicts.items():
        names = [fields.dotted(path) for path in sorted(paths)]
        parts.append(f'conflict{"s" if len(names) > 1 else ""} with "{manager}": ' + ", ".join(names))
        causes += [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{manager}" using {api_version}',
                "field": name,
            }
            for name in names
        ]
    count = len(causes)
    return Refusal(
        409,
        "Conflict",
        f"Apply failed with {count} conflict{'s' if count > 1 else ''}: " + "; ".join(parts),
        causes=causes,
    )
