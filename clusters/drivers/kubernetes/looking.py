"""Reading a cluster's deployments as they stand."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import msgspec

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes.reading import JOB_NAME, Nodes
from clusters.drivers.kubernetes.scope import (
    DEPLOYMENT,
    SPEC,
    Object,
    Scope,
    annotation_of,
    is_ending,
    label_of,
)
from clusters.drivers.kubernetes.status import JobView, Seen, groups_of, replicas_of
from clusters.drivers.kubernetes.workloads import ANCHORS, BRACKET, Workload, spec_of, workload_for
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Invalid, NotFound, ServerTrouble
from clusters.kube.manifests import ClusterFacts
from clusters.kube.manifests.names import ENGINE, NAME, PREFIX, WEIGHTS
from clusters.specs import DeploymentSpec, DeploymentStatus
from clusters.triton.errors import InvalidDeployment
from clusters.triton.runtimes import engine_of

TAIL_LINES = 20
HTTP_PORT = 8000  # where an anchor's spec can no longer be rendered


class Looking:
    """Finds deployments and says how they are. It remembers where each one was, to ask there first."""

    def __init__(self, client: KubeClient, facts: ClusterFacts, scope: Scope, nodes: Nodes) -> None:
        self._client, self._facts, self._scope, self._nodes = client, facts, scope, nodes
        self._places: dict[str, tuple[str, str, str]] = {}

    def remember(self, name: str, kind: str, namespace: str, anchor: str) -> None:
        """Note where a deployment's anchor is."""
        self._places[name] = (kind, namespace, anchor)

    def at(self, name: str) -> DeploymentStatus | None:
        """Show one deployment, None where nothing of it is there."""
        anchor = self._anchor(name)
        if anchor is None:
            brackets = self._scope.everywhere(self._client, BRACKET, self._scope.selector(deployment=name))
            return self._remnant(brackets[0]) if brackets else None
        place = anchor["metadata"]["namespace"]
        pods = self._client.list(kinds.POD, place, labels=self._scope.selector(deployment=name)).items
        return self._status(anchor, pods, None)

    def at_all(self) -> list[DeploymentStatus]:
        """Show every deployment, with one list of each kind."""
        engines = f"{self._scope.selector()},{NAME}={ENGINE}"
        anchors = [each for kind in ANCHORS for each in self._scope.everywhere(self._client, kind, engines)]
        known = {label_of(each, DEPLOYMENT) for each in anchors}
        brackets = self._scope.everywhere(self._client, BRACKET, engines)
        pods: dict[str, list[Object]] = {}
        jobs: dict[tuple[str, str], Object] = {}
        if anchors:
            self._nodes.read_all()
            for pod in self._scope.everywhere(self._client, kinds.POD, self._scope.selector()):
                pods.setdefault(label_of(pod, DEPLOYMENT) or _job_key(pod), []).append(pod)
            for job in self._scope.everywhere(self._client, kinds.JOB, self._scope.selector()):
                jobs[job["metadata"]["namespace"], job["metadata"]["name"]] = job
        found = [
            self._status(each, pods.get(label_of(each, DEPLOYMENT), []), (jobs, pods)) for each in anchors
        ]
        found += [self._remnant(each) for each in brackets if label_of(each, DEPLOYMENT) not in known]
        return found

    def pod(self, name: str, replica_id: str) -> Object | None:
        """The pod of a replica, or of a job that stands in its place."""
        selector = self._scope.selector(deployment=name)
        pods = self._scope.everywhere(self._client, kinds.POD, selector)
        weights = f"{self._scope.selector()},{NAME}={WEIGHTS}"
        found = _by_uid(pods, replica_id)
        return found or _by_uid(self._scope.everywhere(self._client, kinds.POD, weights), replica_id)

    def group(self, name: str, replica_id: str) -> list[Object]:
        """All pods of a replica; none where it is no more."""
        pods = self._scope.everywhere(self._client, kinds.POD, self._scope.selector(deployment=name))
        return next((each for each in groups_of(pods) if each[0]["metadata"]["uid"] == replica_id), [])

    def log(self, pod: Object, lines: int, *, container: str = "", previous: bool = False) -> str:
        """The end of a pod's log, empty where there is none (yet, or any more)."""
        meta = pod["metadata"]
        name = container or pod["spec"]["containers"][0]["name"]
        try:
            return self._client.log(meta["namespace"], meta["name"], name, lines=lines, previous=previous)
        except (NotFound, Invalid, ServerTrouble):
            return ""

    def last_words(self, pod: Object, lines: int) -> str:
        """The end of the engine's log, or of its run before, or of what runs before it: the first that there is."""
        spec = pod["spec"]
        engine = spec["containers"][0]["name"]
        before = [(each["name"], False) for each in spec.get("initContainers") or ()]
        for container, previous in ((engine, False), (engine, True), *before):
            text = self.log(pod, lines, container=container, previous=previous)
            if text:
                return text
        return ""

    def _anchor(self, name: str) -> Object | None:
        if name in self._places:
            kind, place, anchor_name = self._places[name]
            chosen = next(each for each in ANCHORS if each.kind == kind)
            anchor = self._client.get(chosen, anchor_name, place)
            if anchor is not None and label_of(anchor, DEPLOYMENT) == name:
                return anchor
            self._places.pop(name, None)
        for kind_ in ANCHORS:
            for each in self._scope.everywhere(self._client, kind_, self._scope.selector(deployment=name)):
                self.remember(name, kind_.kind, each["metadata"]["namespace"], each["metadata"]["name"])
                return each
        return None

    def _status(
        self,
        anchor: Object,
        pods: Sequence[Object],
        known: tuple[Mapping[tuple[str, str], Object], Mapping[str, Sequence[Object]]] | None,
    ) -> DeploymentStatus:
        name = label_of(anchor, DEPLOYMENT)
        spec = spec_of(anchor)
        if spec is None:
            spec = _blank(anchor)
        workload = self._workload(spec) if spec.replicas and not pods else None
        jobs = self._jobs(workload, known) if workload else []
        engine_model, http_port = _serving(annotation_of(anchor, SPEC))
        seen = Seen(
            spec=spec,
            workload=anchor,
            pods=pods,
            jobs=jobs,
            engine_model=engine_model,
            http_port=http_port,
            node_of=self._nodes.get,
            tail_of=lambda pod, container, previous: self.log(
                pod, TAIL_LINES, container=container, previous=previous
            ),
        )
        return DeploymentStatus(
            name=name,
            labels=spec.labels,
            spec=spec,
            replicas=tuple(replicas_of(seen)),
            deleting=is_ending(anchor),
        )

    def _workload(self, spec: DeploymentSpec) -> Workload | None:
        try:
            return workload_for(spec, self._facts, self._scope)
        except GiveUp:  # another version made it, or what it needs is no more
            return None

    def _jobs(
        self,
        workload: Workload,
        known: tuple[Mapping[tuple[str, str], Object], Mapping[str, Sequence[Object]]] | None,
    ) -> list[JobView]:
        views = []
        for rendered in workload.jobs:
            name = rendered["metadata"]["name"]
            kind, gpus = workload.kind_of_job(rendered)
            if known is not None:
                job = known[0].get((workload.place, name))
                pods: Sequence[Object] = known[1].get(f"{workload.place}/{name}", [])
            else:
                job = self._client.get(kinds.JOB, name, workload.place)
                done = job is None or JobView(kind=kind, gpus=gpus, job=job, pods=()).done
                pods = (
                    ()
                    if done
                    else self._client.list(kinds.POD, workload.place, labels=f"{JOB_NAME}={name}").items
                )
            views.append(JobView(kind=kind, gpus=gpus, job=job, pods=pods))
            if not views[-1].done:
                break
        return views

    def _remnant(self, bracket: Object) -> DeploymentStatus:
        """What is left of a deployment whose anchor is gone, or was never made."""
        spec = _blank(bracket)
        return DeploymentStatus(name=spec.name, labels=spec.labels, spec=spec, replicas=(), deleting=True)


def _blank(obj: Object) -> DeploymentSpec:
    """As much of a spec as an object's labels tell."""
    ours = f"{PREFIX}/"
    labels = {
        key.removeprefix(ours): text
        for key, text in (obj["metadata"].get("labels") or {}).items()
        if key.startswith(ours) and key not in (DEPLOYMENT, f"{ours}installation", f"{ours}project")
    }
    return DeploymentSpec(
        name=label_of(obj, DEPLOYMENT),
        labels=labels,
        runtime="",
        model="",
        replicas=0,
        gpu_type="",
        gpus_per_replica=0,
        context_tokens=0,
        max_output_tokens=0,
        max_batch_size=0,
    )


@functools.lru_cache(maxsize=4096)
def _serving(document: str) -> tuple[str, int]:
    """The model's name inside the engine and its port, by the spec as an anchor was told it."""
    try:
        container = engine_of(DeploymentSpec.from_document(msgspec.json.decode(document)))
    except (msgspec.DecodeError, InvalidDeployment):
        return "", HTTP_PORT
    return container.engine_model, container.http_port


def _by_uid(pods: Sequence[Object], uid: str) -> Object | None:
    return next((pod for pod in pods if pod["metadata"]["uid"] == uid), None)


def _job_key(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{label_of(pod, JOB_NAME)}"
