"""What a cluster's controllers do after a deletion, for an API server that runs without them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.kinds import Kind

_OURS = ("kubernetes.io/pvc-protection", "foregroundDeletion", "orphan")
_CONTENTS = tuple(kind for kind in kinds.KINDS if kind.namespaced and kind != kinds.EVENT)


def settle(client: KubeClient) -> bool:
    """Go once over what is being deleted; say whether there was anything to do.

    Dependents of what is gone are deleted, finalizers of Kubernetes' own controllers are taken away, and
    namespaces being deleted are emptied and ended. Pods on nodes are left to whoever plays the kubelet.
    """
    objects = [obj for kind in _served(client) for obj in client.list(kind).items]
    alive = {obj["metadata"]["uid"] for obj in objects}
    ending = {
        obj["metadata"]["name"]: obj
        for obj in client.list(kinds.NAMESPACE).items
        if obj["metadata"].get("deletionTimestamp")
    }
    busy = False
    for obj in objects:
        busy |= _settle(client, obj, objects, alive, ending)
    for name in ending:
        if not any(obj["metadata"].get("namespace") == name for obj in objects):
            busy |= _finalize(client, name)
    return busy


def _served(client: KubeClient) -> Iterator[Kind]:
    return (kind for kind in _CONTENTS if client.serves(kind))


def _settle(
    client: KubeClient,
    obj: dict[str, Any],
    objects: list[dict[str, Any]],
    alive: set[str],
    ending: dict[str, Any],
) -> bool:
    kind, meta = kinds.kind_of(obj), obj["metadata"]
    name, namespace = meta["name"], meta["namespace"]
    if not meta.get("deletionTimestamp"):
        owners = [each["uid"] for each in meta.get("ownerReferences") or ()]
        orphaned = bool(owners) and not any(uid in alive for uid in owners)
        doomed = any(
            "foregroundDeletion" in (other["metadata"].get("finalizers") or ())
            for other in objects
            if other["metadata"]["uid"] in owners
        )
        return (orphaned or doomed or namespace in ending) and client.delete(
            kind, name, namespace, uid=meta["uid"]
        )
    held = list(meta.get("finalizers") or ())
    dependents = any(
        meta["uid"] == owner["uid"]
        for other in objects
        for owner in other["metadata"].get("ownerReferences") or ()
    )
    left = [each for each in held if each not in _OURS or (each == "foregroundDeletion" and dependents)]
    if left == held:
        return False
    client.patch(kind, name, namespace, {"metadata": {"finalizers": left or None}})
    return True


def _finalize(client: KubeClient, name: str) -> bool:
    """Take the finalizer of the namespace controller away; only its own subresource can."""
    namespace = client.get(kinds.NAMESPACE, name)
    if namespace is None:
        return False
    body = {**namespace, "spec": {"finalizers": []}}
    client._call("update", kinds.NAMESPACE, "PUT", name=name, subresource="finalize", body=body)
    return True
