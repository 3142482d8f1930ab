"""Definitions of the optional kinds, so that a server without their operators serves them."""

from __future__ import annotations

import time
from typing import Any

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.kinds import Kind

_WITHIN_S = 20


def definition(kind: Kind) -> dict[str, Any]:
    """A definition that takes any spec and has a status of its own."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    version = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    # Groups under k8s.io are refused without the reference to an approval.
    approval = {"api-approved.kubernetes.io": "unapproved, for tests"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", "annotations": approval},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
            },
            "versions": [version],
        },
    }


def install(client: KubeClient, *optional: Kind) -> None:
    """Have a server serve optional kinds, and wait until it does. Works on a real one and on the stand-in."""
    for kind in optional:
        client.apply(definition(kind))
    until = time.monotonic() + _WITHIN_S
    while not set(optional) <= client.features(fresh=True):
        if time.monotonic() > until:
            raise TimeoutError(f"the server does not serve {[kind.kind for kind in optional]}")
        time.sleep(0.05)


def remove(client: KubeClient, *optional: Kind) -> None:
    """Take definitions away again, with all objects of theirs."""
    for kind in optional:
        client.delete(kinds.CUSTOM_RESOURCE, f"{kind.plural}.{kind.group}")
    until = time.monotonic() + _WITHIN_S
    while set(optional) & client.features(fresh=True):
        if time.monotonic() > until:
            raise TimeoutError(f"the server still serves {[kind.kind for kind in optional]}")
        time.sleep(0.05)
