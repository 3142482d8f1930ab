"""What the server refuses of an object's content, as far as Berth's tests rely on it."""

from __future__ import annotations

import re
from typing import Any

from clusters.kube.kinds import Kind
from tests.fakes.kube.answers import Refusal

STATUS = {
    "nodes",
    "namespaces",
    "pods",
    "services",
    "persistentvolumeclaims",
    "resourcequotas",
    "deployments",
    "statefulsets",
    "replicasets",
    "jobs",
    "poddisruptionbudgets",
    "horizontalpodautoscalers",
    "leaderworkersets",
    "scaledobjects",
    "localqueues",
    "customresourcedefinitions",
}
"""Kinds that have a status of their own door."""

GENERATIONS = {
    "pods",
    "deployments",
    "statefulsets",
    "replicasets",
    "jobs",
    "poddisruptionbudgets",
    "networkpolicies",
    "leaderworkersets",
    "scaledobjects",
    "servicemonitors",
    "podmonitors",
    "localqueues",
    "customresourcedefinitions",
}
"""Kinds whose generation counts the changes of their spec."""

_MUTABLE: dict[str, set[str]] = {
    "StatefulSet": {
        "replicas",
        "template",
        "updateStrategy",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
        "revisionHistoryLimit",
        "ordinals",
    },
    "Job": {"parallelism", "suspend", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"},
    "PersistentVolumeClaim": {"resources"},
}
_FIXED: dict[str, set[str]] = {"Deployment": {"selector"}, "Service": {"clusterIP"}}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(|[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")


def resource(kind: Kind) -> str:
    """A kind in the words of a server's messages."""
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def check(kind: Kind, obj: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Raise a 422 where the object, or the change from ``before``, is never accepted."""
    meta = obj["metadata"]
    name = str(meta.get("name") or "")
    longest = 63 if kind.plural in ("namespaces", "services") else 253
    if not _NAME.fullmatch(name) or len(name) > longest:
        raise _invalid(
            kind, name, "metadata.name", f'Invalid value: "{name}": must be a lowercase RFC 1123 name'
        )
    for key, value in (meta.get("labels") or {}).items():
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            raise _invalid(
                kind,
                name,
                "metadata.labels",
                f'Invalid value: "{value}": a valid label must be given ({key})',
            )
    spec = obj.get("spec") or {}
    if kind.kind in ("Deployment", "StatefulSet"):
        wanted = (spec.get("selector") or {}).get("matchLabels") or {}
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if not wanted:
            raise _invalid(kind, name, "spec.selector", "Required value")
        if not wanted.items() <= labels.items():
            raise _invalid(
                kind,
                name,
                "spec.template.metadata.labels",
                f"Invalid value: {labels}: `selector` does not match template `labels`",
            )
    if before is not None:
        _check_change(kind, name, before.get("spec") or {}, spec)


def _check_change(kind: Kind, name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    if kind.kind in _MUTABLE:
        changed -= _MUTABLE[kind.kind]
    else:
        changed &= _FIXED.get(kind.kind, set())
    for key in sorted(changed):
        raise _invalid(kind, name, f"spec.{key}", "Invalid value: field is immutable")


def _invalid(kind: Kind, name: str, field: str, problem: str) -> Refusal:
    label = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return Refusal(
        422,
        "Invalid",
        f'{label} "{name}" is invalid: {field}: {problem}',
        causes=[{"reason": "FieldValueInvalid", "message": problem, "field": field}],
    )
