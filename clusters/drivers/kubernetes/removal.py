"""Unmaking a deployment, again and again until nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes.reading import JOB_NAME, Nodes
from clusters.drivers.kubernetes.scope import (
    DEPLOYMENT,
    MADE_FOR,
    Object,
    Scope,
    annotation_of,
    is_ending,
    label_of,
)
from clusters.drivers.kubernetes.troubles import job_done, job_failure
from clusters.drivers.kubernetes.workloads import (
    ANCHORS,
    AUTOSCALERS,
    BESIDE,
    BRACKET,
    spec_of,
    workload_for,
)
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.kinds import Kind, kind_of
from clusters.kube.manifests import ClusterFacts
from clusters.kube.manifests.names import NAME, SPACE, WEIGHTS

OF_SPACE = (kinds.NETWORK_POLICY, kinds.LIMIT_RANGE, kinds.RESOURCE_QUOTA)


class Removal:
    """One pass towards a deployment's end."""

    def __init__(self, client: KubeClient, facts: ClusterFacts, scope: Scope, nodes: Nodes) -> None:
        self._client, self._facts, self._scope, self._nodes = client, facts, scope, nodes

    def pursue(self, name: str) -> bool:
        """Ask for the end of what is left; give whether nothing was.

        Engines go first and end their streams; what they need for that goes after them, what the project's
        other deployments need stays. An empty namespace goes with its last deployment.
        """
        engines = self._delete(each for kind in AUTOSCALERS for each in self._of(kind, name))
        engines += self._delete(
            (each for kind in ANCHORS for each in self._of(kind, name)), propagation="Foreground"
        )
        pods = self._of(kinds.POD, name)
        if engines or pods:
            release(self._client, self._nodes, pods)
            return False
        beside = self._delete(each for kind in BESIDE for each in self._of(kind, name))
        brackets = self._of(BRACKET, name)
        namespaces = self._namespaces(name)
        places = {each["metadata"]["namespace"] for each in (*beside, *brackets)} | set(namespaces)
        left = list(beside)
        for place in sorted(places):
            others = self._others(place, name)
            if others or self._scope.namespaces:
                left += self._clear(place, others, name)
            else:
                left += self._end_namespace(place, namespaces.get(place), name)
        return not left and not self._delete(brackets)

    def _clear(self, place: str, others: Sequence[Object], name: str) -> list[Object]:
        """Remove what a namespace keeps for its deployments and none needs any more; give what there was.

        Where it cannot be told what the others need, only jobs go that a deployment has left unfinished.
        """
        needed, complete = self._needed(others)
        weights = f"{self._scope.selector()},{NAME}={WEIGHTS}"
        kept = (kinds.JOB, kinds.PVC, kinds.RESOURCE_CLAIM_TEMPLATE)
        unneeded = [
            each
            for kind in (kept if complete else (kinds.JOB,))
            if self._client.serves(kind)
            for each in self._client.list(kind, place, labels=weights).items
            if (kind, each["metadata"]["name"]) not in needed
            and (complete or (annotation_of(each, MADE_FOR) == name and not _job_over(each)))
        ]
        jobs = [each for each in unneeded if kind_of(each) == kinds.JOB]
        for job in jobs:
            self._client.delete(kinds.SECRET, job["metadata"]["name"], place)
        # A job is there until its pods are gone: they may hold GPUs.
        left = self._delete(jobs, propagation="Foreground")
        left += self._delete(each for each in unneeded if kind_of(each) != kinds.JOB)
        names = {each["metadata"]["name"] for each in jobs}
        pods = [
            pod
            for pod in self._client.list(kinds.POD, place, labels=weights).items
            if label_of(pod, JOB_NAME) in names
            or (complete and (kinds.JOB, label_of(pod, JOB_NAME)) not in needed)
        ]
        release(self._client, self._nodes, pods)
        left += pods
        if not others and self._scope.namespaces:
            space = f"{self._scope.selector()},{NAME}={SPACE}"
            left += self._delete(
                each for kind in OF_SPACE for each in self._client.list(kind, place, labels=space).items
            )
        return left

    def _namespaces(self, name: str) -> dict[str, Object]:
        """The namespaces that were made for a deployment, or are on their way out with it."""
        if self._scope.namespaces:
            return {}
        selector = self._scope.selector(**{"made-for": name})
        found = self._client.list(kinds.NAMESPACE, labels=selector).items
        return {each["metadata"]["name"]: each for each in found}

    def _end_namespace(self, place: str, known: Object | None, name: str) -> list[Object]:
        namespace = known or self._client.get(kinds.NAMESPACE, place)
        if namespace is None or label_of(namespace, NAME) != SPACE:
            return []
        # Weights that the cluster's administrator brought are not ours to take away.
        if (
            not is_ending(namespace)
            and self._client.list(kinds.PVC, place, labels=self._scope.foreign()).items
        ):
            return self._clear(place, (), name)
        if label_of(namespace, MADE_FOR) != name:  # by which it is found until it is gone
            mark = {"metadata": {"labels": {MADE_FOR: name}}}
            self._client.patch(kinds.NAMESPACE, place, None, mark)
        weights = f"{self._scope.selector()},{NAME}={WEIGHTS}"
        release(self._client, self._nodes, self._client.list(kinds.POD, place, labels=weights).items)
        return self._delete([namespace])

    def _others(self, place: str, name: str) -> list[Object]:
        """The anchors and Services of the other deployments of a namespace."""
        selector = f"{self._scope.selector()},{DEPLOYMENT},{DEPLOYMENT}!={name}"
        return [
            each
            for kind in (*ANCHORS, BRACKET)
            if self._client.serves(kind)
            for each in self._client.list(kind, place, labels=selector).items
        ]

    def _needed(self, others: Sequence[Object]) -> tuple[set[tuple[Kind, str]], bool]:
        """What other deployments share, and whether that is all: some may not tell."""
        needed: set[tuple[Kind, str]] = set()
        complete = True
        told = {label_of(each, DEPLOYMENT): each for each in others if kind_of(each) in ANCHORS}
        for other in {label_of(each, DEPLOYMENT) for each in others}:
            spec = spec_of(told[other]) if other in told else None
            try:
                workload = workload_for(spec, self._facts, self._scope) if spec is not None else None
            except GiveUp:
                workload = None
            if workload is None:  # being made just now, or by another version
                complete = False
                continue
            needed |= {
                (kind_of(each), each["metadata"]["name"]) for each in (*workload.shared, *workload.jobs)
            }
        return needed, complete

    def _of(self, kind: Kind, name: str) -> list[Object]:
        return self._scope.everywhere(self._client, kind, self._scope.selector(deployment=name))

    def _delete(self, objects: Iterable[Object], *, propagation: str = "Background") -> list[Object]:
        """Ask for the end of each; give those that were there."""
        found = list(objects)
        for each in found:
            if not is_ending(each):
                meta = each["metadata"]
                place = meta.get("namespace")
                self._client.delete(
                    kind_of(each), meta["name"], place, uid=meta["uid"], propagation=propagation
                )
        return found


def _job_over(job: Object) -> bool:
    return job_done(job) or job_failure(job) is not None


def release(client: KubeClient, nodes: Nodes, pods: Sequence[Object]) -> None:
    """Strike out pods that are to go and whose node is gone: nobody else would say that they ended."""
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if is_ending(pod) and node and nodes.get(node) is None:
            meta = pod["metadata"]
            client.delete(kinds.POD, meta["name"], meta["namespace"], grace_s=0, uid=meta["uid"])
