"""Gateways in a cluster: made, looked at, unmade."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes import troubles
from clusters.drivers.kubernetes.converge import Convergence, Standoffs
from clusters.drivers.kubernetes.reading import Live, Nodes
from clusters.drivers.kubernetes.removal import release
from clusters.drivers.kubernetes.scope import Object, Scope, is_ending, label_of
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.kinds import kind_of
from clusters.kube.manifests import ClusterFacts
from clusters.kube.manifests.gateway import gateway, name_of
from clusters.kube.manifests.names import GATEWAY, INSTALLATION, NAME, PREFIX
from clusters.specs import GatewaySpec, GatewayStatus

_SECRET: Final = f"{PREFIX}/secret"
_KINDS: Final = (
    kinds.SERVICE_MONITOR,
    kinds.PDB,
    kinds.NETWORK_POLICY,
    kinds.SERVICE_ACCOUNT,
    kinds.PVC,
)


class Gateways:
    """The gateways of one cluster, all in its gateway namespace."""

    def __init__(
        self, client: KubeClient, facts: ClusterFacts, scope: Scope, nodes: Nodes, *, report: bool
    ) -> None:
        given = bool(scope.namespaces)
        self._place = facts.gateway_namespace
        self._facts = dataclasses.replace(facts, namespace=self._place) if given else facts
        self._standoffs = Standoffs()
        self._client, self._scope, self._nodes, self._report = client, scope, nodes, report

    def apply(self, spec: GatewaySpec) -> bool:
        """Make the cluster run it so; give whether anything had to be written.

        Raises:
            GiveUp: it can never run there.
        """
        self._check_place()
        try:
            objects = gateway(spec, self._facts)
        except ValueError as error:
            raise GiveUp(str(error)) from error
        if not spec.image.digest:
            raise GiveUp(f"image {spec.image.reference} must be pinned by its digest (name@sha256:…)")
        (wanted,) = (each for each in objects if kind_of(each) == kinds.STATEFUL_SET)
        pass_ = Convergence(
            self._client,
            Live(self._client, self._scope),
            self._facts.installation,
            self._standoffs,
            report=self._report,
        )
        live = pass_.read(wanted)
        # The secret is never read back: the pods' template tells which one they start with.
        fresh = (
            live is None or _secret_digest(live) != _secret_digest(wanted) or self._secret_missing(spec.name)
        )
        # Services come first and go last: while one is there, something of the gateway may be left.
        objects.sort(key=lambda each: (kind_of(each) != kinds.NAMESPACE, kind_of(each) != kinds.SERVICE))
        for obj in objects:
            kind = kind_of(obj)
            if kind == kinds.SECRET and fresh:
                pass_.write(obj)
            elif kind not in (kinds.SECRET, kinds.STATEFUL_SET):
                pass_.settle(obj, settled_before=live is not None)
        pass_.bring(live, _with_templates_of(live, wanted), stamp_of=_without_templates(wanted))
        return pass_.written > 0

    def observe(self, name: str) -> GatewayStatus | None:
        """Show a gateway, None when there is none."""
        self._check_place()
        live = self._client.get(kinds.STATEFUL_SET, name_of(name), self._place)
        if live is None or label_of(live, INSTALLATION) != self._scope.installation:
            return None
        pods = self._pods(name)
        ready = [pod for pod in pods if _is_ready(pod)]
        return GatewayStatus(
            name=name,
            ready=len(ready),
            wanted=0 if is_ending(live) else int(live["spec"].get("replicas", 1)),
            message=next((said for pod in pods if (said := _wrong(pod))), _rollout(live) if ready else ""),
            pods=tuple(pod["metadata"]["name"] for pod in pods),
        )

    def delete(self, name: str) -> bool:
        """Ask for a gateway's end; give whether nothing of it was left."""
        self._check_place()
        selector = self._scope.selector(gateway=name)
        sets = self._client.list(kinds.STATEFUL_SET, self._place, labels=selector).items
        for each in sets:
            self._end(each, propagation="Foreground")
        pods = self._client.list(kinds.POD, self._place, labels=selector).items
        if sets or pods:
            release(self._client, self._nodes, pods)
            return False
        found = [
            each
            for kind in (*_KINDS, kinds.SERVICE)
            if self._client.serves(kind)
            for each in self._client.list(kind, self._place, labels=selector).items
        ]
        if found:  # secrets are never listed: ours is there only beside other things of ours
            self._client.delete(kinds.SECRET, name_of(name), self._place)
        others = self._others(name)
        if found and not others and self._end_namespace():
            return False
        for each in found:
            self._end(each)
        return not found and (bool(others) or not self._is_going())

    def _pods(self, name: str) -> list[Object]:
        pods = self._client.list(kinds.POD, self._place, labels=self._scope.selector(gateway=name)).items
        return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))

    def _secret_missing(self, name: str) -> bool:
        return any(
            ((status.get("state") or {}).get("waiting") or {}).get("reason") == "CreateContainerConfigError"
            for pod in self._pods(name)
            for status in troubles.containers_of(pod)
        )

    def _others(self, name: str) -> list[Object]:
        selector = f"{self._scope.selector()},{NAME}={GATEWAY},{PREFIX}/gateway!={name}"
        return [
            each
            for kind in (kinds.STATEFUL_SET, kinds.SERVICE)
            for each in self._client.list(kind, self._place, labels=selector).items
        ]

    def _end_namespace(self) -> bool:
        """Remove the namespace with all that is in it, where Berth made it for gateways."""
        if self._scope.namespaces:
            return False
        namespace = self._client.get(kinds.NAMESPACE, self._place)
        if namespace is None or label_of(namespace, NAME) != GATEWAY:
            return False
        self._end(namespace)
        return True

    def _is_going(self) -> bool:
        if self._scope.namespaces:
            return False
        namespace = self._client.get(kinds.NAMESPACE, self._place)
        return namespace is not None and is_ending(namespace)

    def _end(self, obj: Object, *, propagation: str = "Background") -> None:
        meta = obj["metadata"]
        if not is_ending(obj):
            self._client.delete(
                kind_of(obj), meta["name"], meta.get("namespace"), uid=meta["uid"], propagation=propagation
            )

    def _check_place(self) -> None:
        if self._scope.namespaces and self._place not in self._scope.namespaces:
            raise GiveUp(
                f"This cluster lets Berth work only in namespaces made for it, and {self._place}, where gateways"
                f" run, is not among them. Its administrator makes it with deploy/cluster/namespaces (README.md"
                f" there) and adds that name to the cluster's list."
            )


def _secret_digest(obj: Object) -> str:
    meta: dict[str, Any] = obj["spec"]["template"].get("metadata") or {}
    return str((meta.get("annotations") or {}).get(_SECRET, ""))


def _without_templates(wanted: Object) -> Object:
    spec = {key: value for key, value in wanted["spec"].items() if key != "volumeClaimTemplates"}
    return {**wanted, "spec": spec}


def _with_templates_of(live: Object | None, wanted: Object) -> Object:
    """The set with the volumes that it was made with: those of a set that is there cannot be changed."""
    if live is None:
        return wanted
    kept = [
        {key: value for key, value in each.items() if key != "status"}
        for each in live["spec"].get("volumeClaimTemplates") or ()
    ]
    return {**wanted, "spec": {**wanted["spec"], "volumeClaimTemplates": kept}}


def _is_ready(pod: Object) -> bool:
    said = troubles.conditions_of(pod).get("Ready") or {}
    return said.get("status") == "True" and not is_ending(pod)


def _wrong(pod: Object) -> str:
    if _is_ready(pod) or is_ending(pod):
        return ""
    placed = (pod.get("spec") or {}).get("nodeName")
    finding = troubles.not_ready(pod) if placed else troubles.unscheduled(pod)
    return f"{pod['metadata']['name']}: {finding.message}" if finding.trouble else ""


def _rollout(live: Object) -> str:
    """Say that pods still run what was ordered before, empty where none does."""
    status, wanted = live.get("status") or {}, int(live["spec"].get("replicas") or 0)
    fresh = status.get("observedGeneration") == live["metadata"].get("generation")
    updated = int(status.get("updatedReplicas") or 0) if fresh else 0
    return "" if updated >= wanted else f"{updated} of {wanted} run what was ordered last."
