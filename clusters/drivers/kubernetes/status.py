"""From pods, jobs and their workload to replicas."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from clusters.drivers.kubernetes import troubles
from clusters.drivers.kubernetes.scope import MADE_FOR, Object, annotation_of
from clusters.specs import DeploymentSpec, Phase, ReplicaStatus, Trouble

GROUP_INDEX: Final = "leaderworkerset.sigs.k8s.io/group-index"
WORKER_INDEX: Final = "leaderworkerset.sigs.k8s.io/worker-index"
JOB_TROUBLE: Final[Mapping[str, Trouble]] = {
    "load": Trouble.WEIGHTS,
    "quantize": Trouble.BUILD,
    "build": Trouble.BUILD,
}
JOB_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "load": ("fetching the weights", "The weights could not be fetched"),
    "quantize": ("quantizing the checkpoint", "Quantizing the checkpoint failed"),
    "build": ("building the engine", "Building the engine failed"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobView:
    """A job that must be done before the engine starts: its object (None: not made yet) and its pods."""

    kind: str
    gpus: int
    job: Object | None
    pods: Sequence[Object]

    @property
    def made_for(self) -> str:
        """The deployment that made the job necessary first."""
        return annotation_of(self.job, MADE_FOR) if self.job is not None else ""

    @property
    def done(self) -> bool:
        return self.job is not None and troubles.job_done(self.job)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """All that is known of one deployment. ``node_of`` gives a node by name, None where it is gone.

    ``tail_of`` reads the last lines of a pod's container, of its run before where ``previous``; it gives
    nothing where there is no log.
    """

    spec: DeploymentSpec
    workload: Object
    pods: Sequence[Object]
    jobs: Sequence[JobView]
    engine_model: str
    http_port: int
    node_of: Callable[[str], Object | None]
    tail_of: Callable[[Object, str, bool], str]


def replicas_of(seen: Seen) -> list[ReplicaStatus]:
    """Give a deployment's replicas, oldest first; jobs that come before them stand in their place."""
    if seen.spec.replicas and not (seen.workload.get("metadata") or {}).get("deletionTimestamp"):
        waiting = next((job for job in seen.jobs if not job.done), None)
        if waiting is not None and not seen.pods:
            return [_job_status(seen, waiting)]
    groups = _groups(seen)
    live = [group for group in groups if not _ended(group[0])]
    if len(live) >= seen.spec.replicas:  # what failed before was replaced
        groups = live
    found = [_replica(seen, index, group) for index, group in enumerate(groups)]
    why = troubles.refused(seen.workload)
    if why and len(live) < seen.spec.replicas:
        found.append(_refused(seen, len(found), why))
    return found


def _groups(seen: Seen) -> list[list[Object]]:
    """The pods of each replica, its leader first."""
    if seen.spec.nodes_per_replica == 1:
        return [[pod] for pod in sorted(seen.pods, key=_age)]
    by_index: dict[tuple[int, bool], list[Object]] = {}
    for pod in seen.pods:
        labels = pod["metadata"].get("labels") or {}
        going = bool(pod["metadata"].get("deletionTimestamp"))
        by_index.setdefault((int(labels.get(GROUP_INDEX) or 0), going), []).append(pod)
    for pods in by_index.values():
        pods.sort(key=lambda pod: int((pod["metadata"].get("labels") or {}).get(WORKER_INDEX) or 0))
    return [by_index[key] for key in sorted(by_index)]


def _replica(seen: Seen, index: int, pods: Sequence[Object]) -> ReplicaStatus:
    leader = pods[0]
    phase, finding = _phase(seen, pods)
    conditions = troubles.conditions_of(leader)
    ready = conditions.get("Ready") or {}
    return ReplicaStatus(
        replica_id=leader["metadata"]["uid"],
        index=index,
        phase=phase,
        url=_url(leader, seen.http_port),
        engine_model=seen.engine_model,
        message=finding.message,
        started_at=_since(conditions.get("PodScheduled")) if _node(leader) else None,
        ready_at=_since(ready),
        restarts=max(troubles.restarts_of(pod) for pod in pods),
        trouble=finding.trouble,
        node=_node(leader),
    )


def _phase(seen: Seen, pods: Sequence[Object]) -> tuple[Phase, troubles.Finding]:
    """The worst of a replica's pods decides; a node that is lost stops its replica whatever its pods say."""
    for pod in pods:
        if _ended(pod):
            return Phase.FAILED, troubles.failed(pod)
        fault = troubles.node_fault(seen.node_of(_node(pod))) if _node(pod) else ""
        if fault:
            return Phase.FAILED, troubles.Finding(Trouble.NODE, fault[:1].upper() + fault[1:] + ".")
    if any(pod["metadata"].get("deletionTimestamp") for pod in pods):
        return Phase.DRAINING, troubles.Finding(Trouble.NONE, "finishes its streams")
    if not _node(pods[0]):
        return Phase.PENDING, troubles.unscheduled(pods[0])
    if _is_ready(pods[0]):
        return Phase.READY, troubles.NONE
    for pod in pods:
        if not _node(pod):
            return Phase.STARTING, troubles.unscheduled(pod)
    findings = [_not_ready(seen, pod) for pod in pods if not _is_ready(pod)]
    return Phase.STARTING, next((each for each in findings if each.trouble), findings[0])


def _not_ready(seen: Seen, pod: Object) -> troubles.Finding:
    container = troubles.wants_tail(pod)
    return troubles.not_ready(pod, seen.tail_of(pod, container, True) if container else "")


def _job_status(seen: Seen, view: JobView) -> ReplicaStatus:
    """The one line that stands for a deployment whose engines wait for a job."""
    doing, failing = JOB_WORDS.get(view.kind, (f"running its {view.kind} job", f"The {view.kind} job failed"))
    pod = max(view.pods, key=_age, default=None)
    given_up = troubles.job_failure(view.job) if view.job else None
    trouble, phase, message = Trouble.NONE, Phase.PENDING, f"{doing[0].upper()}{doing[1:]}."
    # A job that several wait for holds GPUs once: for the one that it was made for.
    holding = view.made_for == seen.spec.name and view.gpus > 0 and not given_up and _holds_node(pod)
    if given_up is not None:
        phase, trouble = Phase.FAILED, JOB_TROUBLE.get(view.kind, Trouble.BUILD)
        said = _job_words(seen, pod) if pod else given_up.get("message") or ""
        message = f"{failing}: {said}"
    elif pod is not None:
        phase = Phase.STARTING if holding else Phase.PENDING
        finding = troubles.NONE if _ended(pod) else _pod_finding(pod)
        trouble = finding.trouble
        if finding.trouble:
            message = f"{message} {finding.message}"
        retries = int((view.job or {}).get("status", {}).get("failed") or 0)
        if retries:
            message += f" It failed {retries} times and is tried again: {_job_words(seen, pod)}"
    return ReplicaStatus(
        replica_id=pod["metadata"]["uid"] if pod else f"{seen.workload['metadata']['uid']}-{view.kind}",
        index=0,
        phase=phase,
        url=None,
        engine_model=seen.engine_model,
        message=troubles.cut(message.strip()),
        started_at=_since(troubles.conditions_of(pod).get("PodScheduled")) if holding and pod else None,
        ready_at=None,
        trouble=trouble,
        node=_node(pod) if pod else "",
    )


def _pod_finding(pod: Object) -> troubles.Finding:
    return troubles.not_ready(pod) if _node(pod) else troubles.unscheduled(pod)


def _job_words(seen: Seen, pod: Object) -> str:
    """What a job's pod said last: its termination message, or the end of its log."""
    for status in troubles.containers_of(pod):
        ended = (status.get("state") or {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return "it was killed for using more main memory than its limit"
        if ended.get("message"):
            return troubles.log_tail(ended["message"])
    return troubles.log_tail(seen.tail_of(pod, "", False)) or "it left no log"


def _refused(seen: Seen, index: int, why: str) -> ReplicaStatus:
    return ReplicaStatus(
        replica_id=f"{seen.workload['metadata']['uid']}-refused",
        index=index,
        phase=Phase.PENDING,
        url=None,
        engine_model=seen.engine_model,
        message=f"The cluster refuses its pods: {why}",
        started_at=None,
        ready_at=None,
        trouble=Trouble.REFUSED,
    )


def _ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def _is_ready(pod: Object) -> bool:
    return (troubles.conditions_of(pod).get("Ready") or {}).get("status") == "True"


def _node(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _holds_node(pod: Object | None) -> bool:
    return pod is not None and bool(_node(pod)) and not _ended(pod)


def _age(pod: Object) -> tuple[str, str]:
    return (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"])


def _url(pod: Object, port: int) -> str | None:
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        return None
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _since(condition: Object | None) -> dt.datetime | None:
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return dt.datetime.fromisoformat(condition["lastTransitionTime"])
