"""Where live objects are read from: the cluster itself, or lists taken once for many deployments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

from clusters.drivers.kubernetes.scope import DEPLOYMENT, Object, Scope, label_of
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.kinds import Kind
from clusters.kube.manifests.names import NAME, SPACE

NODE_FRESH_S: Final = 5.0
JOB_NAME: Final = "batch.kubernetes.io/job-name"


class Reader(Protocol):
    """Gives live objects."""

    def get(self, kind: Kind, name: str, namespace: str | None) -> Object | None:
        """One object, None where there is none."""

    def of_deployment(self, kind: Kind, deployment: str) -> Sequence[Object]:
        """The objects of a kind that belong to one deployment."""

    def of_space(self, kind: Kind, namespace: str) -> Sequence[Object]:
        """The objects of a kind that a project's namespace has whatever runs in it."""

    def of_job(self, name: str, namespace: str) -> Sequence[Object]:
        """The pods of a job."""


class Live:
    """Asks the cluster each time."""

    def __init__(self, client: KubeClient, scope: Scope) -> None:
        self._client, self._scope = client, scope

    def get(self, kind: Kind, name: str, namespace: str | None) -> Object | None:
        return self._client.get(kind, name, namespace)

    def of_deployment(self, kind: Kind, deployment: str) -> Sequence[Object]:
        return self._scope.everywhere(self._client, kind, self._scope.selector(deployment=deployment))

    def of_space(self, kind: Kind, namespace: str) -> Sequence[Object]:
        return self._client.list(kind, namespace, labels=f"{self._scope.selector()},{NAME}={SPACE}").items

    def of_job(self, name: str, namespace: str) -> Sequence[Object]:
        return self._client.list(kinds.POD, namespace, labels=f"{JOB_NAME}={name}").items


class Snapshot:
    """Lists each kind once, when it is first asked for; every later answer is as of then."""

    def __init__(self, client: KubeClient, scope: Scope) -> None:
        self._client, self._scope = client, scope
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {}
        self._by_deployment: dict[Kind, dict[str, list[Object]]] = {}

    def get(self, kind: Kind, name: str, namespace: str | None) -> Object | None:
        self._read(kind)
        found = self._objects[kind].get((namespace or "", name))
        # What is not among ours may be somebody else's: that is asked before anything is written over it.
        return found if found is not None else self._client.get(kind, name, namespace)

    def of_deployment(self, kind: Kind, deployment: str) -> Sequence[Object]:
        self._read(kind)
        return self._by_deployment[kind].get(deployment, [])

    def of_space(self, kind: Kind, namespace: str) -> Sequence[Object]:
        self._read(kind)
        found = self._objects[kind].items()
        return [each for (place, _), each in found if place == namespace and label_of(each, NAME) == SPACE]

    def of_job(self, name: str, namespace: str) -> Sequence[Object]:
        self._read(kinds.POD)
        found = self._objects[kinds.POD].items()
        return [each for (place, _), each in found if place == namespace and label_of(each, JOB_NAME) == name]

    def _read(self, kind: Kind) -> None:
        if kind in self._objects:
            return
        objects: dict[tuple[str, str], Object] = {}
        by_deployment: dict[str, list[Object]] = {}
        for each in self._scope.everywhere(self._client, kind, self._scope.selector()):
            meta = each["metadata"]
            objects[meta.get("namespace") or "", meta["name"]] = each
            if label_of(each, DEPLOYMENT):
                by_deployment.setdefault(label_of(each, DEPLOYMENT), []).append(each)
        self._objects[kind], self._by_deployment[kind] = objects, by_deployment


class Nodes:
    """Nodes by name, each asked for at most every few seconds. Where Berth may read none, each is above suspicion."""

    def __init__(self, client: KubeClient, scope: Scope) -> None:
        self._client, self._readable = client, not scope.namespaces
        self._known: dict[str, tuple[float, Object | None]] = {}
        self._listed = -NODE_FRESH_S

    def get(self, name: str) -> Object | None:
        """A node, None where it is gone."""
        if not self._readable:
            return {}
        now = time.monotonic()
        since, node = self._known.get(name, (-NODE_FRESH_S, None))
        if now - since >= NODE_FRESH_S:
            since, node = now, self._client.get(kinds.NODE, name)
            self._known[name] = (now, node)
        return node

    def read_all(self) -> None:
        """Read every node at once, for many deployments."""
        now = time.monotonic()
        if not self._readable or now - self._listed < NODE_FRESH_S:
            return
        nodes = {each["metadata"]["name"]: each for each in self._client.list(kinds.NODE).items}
        gone = {name: (now, None) for name in self._known if name not in nodes}
        self._known = gone | {name: (now, node) for name, node in nodes.items()}
        self._listed = now

    def forget(self) -> None:
        """Ask anew next time."""
        self._known, self._listed = {}, -NODE_FRESH_S
