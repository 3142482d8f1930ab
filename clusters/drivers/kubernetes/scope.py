"""What of a cluster is Berth's: one installation, everywhere or in namespaces made for it."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.kinds import Kind
from clusters.kube.manifests.names import INSTALLATION, PREFIX

DEPLOYMENT: Final = f"{PREFIX}/deployment"
MADE_FOR: Final = f"{PREFIX}/made-for"  # on a namespace or job: the deployment that made it necessary
SPEC: Final = f"{PREFIX}/spec"
RENDER: Final = f"{PREFIX}/render"
OBJECTS: Final = f"{PREFIX}/objects"
SECRETS: Final = f"{PREFIX}/secrets"

Object = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scope:
    """``namespaces`` are those that the cluster's administrator made for Berth; empty: Berth makes its own."""

    installation: str
    namespaces: tuple[str, ...] = ()

    def selector(self, **labels: str) -> str:
        """The label selector of what is this installation's, and has ``labels`` below ``berth.dev/`` besides."""
        wanted = {
            INSTALLATION: self.installation,
            **{f"{PREFIX}/{key}": text for key, text in labels.items()},
        }
        return ",".join(f"{key}={text}" for key, text in wanted.items())

    def foreign(self) -> str:
        """The label selector of what is not this installation's."""
        return f"{INSTALLATION}!={self.installation}"

    def everywhere(self, client: KubeClient, kind: Kind, selector: str) -> list[Object]:
        """List a kind wherever Berth is: one request, or one for each namespace made for it."""
        if not client.serves(kind):
            return []
        if not self.namespaces:
            return client.list(kind, labels=selector).items
        if kind == kinds.NAMESPACE:
            found = (client.get(kind, name) for name in self.namespaces)
            return [each for each in found if each is not None]
        return [each for place in self.namespaces for each in client.list(kind, place, labels=selector).items]


def is_ending(obj: Object) -> bool:
    """Whether an object is on its way out."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def label_of(obj: Object, key: str) -> str:
    """One label, empty where there is none."""
    return str((obj["metadata"].get("labels") or {}).get(key, ""))


def annotation_of(obj: Object, key: str) -> str:
    """One annotation, empty where there is none."""
    return str((obj["metadata"].get("annotations") or {}).get(key, ""))


def is_controlled(obj: Object) -> bool:
    """Whether a controller made an object for another one, and sees to it."""
    return any(each.get("controller") for each in obj["metadata"].get("ownerReferences") or ())
