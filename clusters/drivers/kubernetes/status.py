"""From pods, jobs and their workload to replicas."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from clusters.drivers.kubernetes import troubles
from clusters.drivers.kubernetes.scope import MADE_FOR, Object, annotation_of, label_of
from clusters.kube.gpus import pod_gpus
from clusters.specs import DeploymentSpec, Phase, ReplicaStatus, Trouble

GROUP_INDEX: Final = "leaderworkerset.sigs.k8s.io/group-index"
GROUP_KEY: Final = "leaderworkerset.sigs.k8s.io/group-key"
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
    groups = groups_of(seen.pods)
    live = [group for group in groups if not _ended(group[0])]
    why = troubles.refused(seen.workload)
    ended = [] if why else _not_replaced(groups, live, seen.spec.replicas - len(live))
    shown = [group for group in groups if group in live or group in ended]
    found = [_replica(seen, index, group) for index, group in enumerate(shown)]
    if why and len(live) < seen.spec.replicas:
        found.append(_refused(seen, len(found), why))
    return found


def groups_of(pods: Sequence[Object]) -> list[list[Object]]:
    """The pods of each replica, the one that answers first. Where several make one, it is known by that one.

    Workers without it make no replica: what is left of a group is on its way out, or not begun.
    """
    leaders = [pod for pod in pods if label_of(pod, WORKER_INDEX) in ("", "0")]
    leaders.sort(key=lambda pod: (int(label_of(pod, GROUP_INDEX) or 0), _age(pod)))
    groups = []
    for leader in leaders:
        # A group that is made anew has the names of the one before; its workers are younger than their leader.
        workers = [
            pod
            for pod in pods
            if _group(leader) is not None
            and _group(pod) == _group(leader)
            and pod is not leader
            and label_of(pod, WORKER_INDEX) != "0"
            and _born(pod) >= _born(leader)
        ]
        groups.append([leader, *sorted(workers, key=lambda pod: int(label_of(pod, WORKER_INDEX) or 0))])
    return groups


def _group(pod: Object) -> tuple[str, str] | None:
    index = label_of(pod, GROUP_INDEX)
    return (index, label_of(pod, GROUP_KEY)) if index else None


def _not_replaced(
    groups: Sequence[list[Object]], live: Sequence[list[Object]], missing: int
) -> list[list[Object]]:
    """The replicas that ended and in whose place none has been made: those younger than whatever there is."""
    newest = max((_born(group[0]) for group in live), default="")
    ended = [group for group in groups if _ended(group[0]) and _born(group[0]) >= newest]
    ended.sort(key=lambda group: _age(group[0]), reverse=True)
    return ended[: max(0, missing)]


def _size(seen: Seen) -> int:
    """How many pods make a replica."""
    template = (seen.workload.get("spec") or {}).get("leaderWorkerTemplate") or {}
    return int(template.get("size") or 1)


def _replica(seen: Seen, index: int, pods: Sequence[Object]) -> ReplicaStatus:
    leader = pods[0]
    phase, finding = _phase(seen, pods)
    conditions = troubles.conditions_of(leader)
    return ReplicaStatus(
        replica_id=leader["metadata"]["uid"],
        index=index,
        phase=phase,
        url=_url(leader, seen.http_port),
        engine_model=seen.engine_model,
        message=finding.message,
        started_at=_held_since(seen, pods),
        ready_at=_since(conditions.get("Ready")) if phase is not Phase.STARTING else None,
        restarts=max(troubles.restarts_of(pod) for pod in pods),
        trouble=finding.trouble,
        node=_node(leader),
        gpus=_gpus(pods),
    )


def _gpus(pods: Sequence[Object]) -> int | None:
    """How many GPUs the pods of a replica hold; None where claims hold them, which pods do not show."""
    holding = [pod for pod in pods if _holds_node(pod)]
    if any((pod.get("spec") or {}).get("resourceClaims") for pod in holding):
        return None
    return sum(sum(pod_gpus(pod).values()) for pod in holding)


def _held_since(seen: Seen, pods: Sequence[Object]) -> dt.datetime | None:
    """Since when all pods of a replica have their nodes."""
    if len(pods) < _size(seen) and not _is_ready(pods[0]):
        return None
    times = [_since(troubles.conditions_of(pod).get("PodScheduled")) if _node(pod) else None for pod in pods]
    known = [each for each in times if each is not None]
    return max(known) if len(known) == len(times) else None


def _phase(seen: Seen, pods: Sequence[Object]) -> tuple[Phase, troubles.Finding]:
    """GPUs are held from when all pods of a replica have nodes until the first of them, which answers, is no more.

    A node that is silent may still run what it ran.
    """
    leader = pods[0]
    if _ended(leader):
        return Phase.FAILED, troubles.failed(leader)
    if _node(leader) and seen.node_of(_node(leader)) is None:
        return Phase.FAILED, _node_finding(None)
    faulty = [seen.node_of(_node(pod)) for pod in pods if _node(pod)]
    lost = next((_node_finding(node) for node in faulty if troubles.node_fault(node)), None)
    if any(pod["metadata"].get("deletionTimestamp") for pod in pods):
        return Phase.DRAINING, lost or troubles.Finding(Trouble.NONE, "finishes its streams")
    if not all(_node(pod) for pod in pods):
        return Phase.PENDING, lost or troubles.unscheduled(next(pod for pod in pods if not _node(pod)))
    if lost is not None:
        return Phase.STARTING, lost
    ended = next((pod for pod in pods if _ended(pod)), None)
    if ended is not None:
        return Phase.STARTING, troubles.failed(ended)
    if _is_ready(leader):
        return Phase.READY, troubles.NONE
    if len(pods) < _size(seen):
        return Phase.PENDING, troubles.Finding(Trouble.NONE, "waits for the pods on its other nodes")
    findings = [_not_ready(seen, pod) for pod in pods if not _is_ready(pod)]
    return Phase.STARTING, next((each for each in findings if each.trouble), findings[0])


def _node_finding(node: Object | None) -> troubles.Finding:
    fault = troubles.node_fault(node)
    return troubles.Finding(Trouble.NODE, fault[:1].upper() + fault[1:] + ".")


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
        replica_id=pod["metadata"]["uid"] if pod else _stand_in(seen, view),
        index=0,
        phase=phase,
        url=None,
        engine_model=seen.engine_model,
        message=troubles.cut(message.strip()),
        started_at=_since(troubles.conditions_of(pod).get("PodScheduled")) if holding and pod else None,
        ready_at=None,
        trouble=trouble,
        node=_node(pod) if pod else "",
        gpus=_gpus([pod]) if holding and pod else None,
    )


def _stand_in(seen: Seen, view: JobView) -> str:
    """The id of a replica that waits for a job without pods: the job's, or the order's that makes one."""
    if view.job is not None:
        return str(view.job["metadata"]["uid"])
    meta = seen.workload["metadata"]
    return f"{meta['uid']}-{view.kind}-{meta.get('generation', 1)}"


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
    since = _since(troubles.conditions_of(seen.workload).get("ReplicaFailure"))
    return ReplicaStatus(
        replica_id=f"{seen.workload['metadata']['uid']}-refused-{int(since.timestamp()) if since else 0}",
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


def _born(pod: Object) -> str:
    return str(pod["metadata"].get("creationTimestamp") or "")


def _url(pod: Object, port: int) -> str | None:
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        return None
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _since(condition: Object | None) -> dt.datetime | None:
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return dt.datetime.fromisoformat(condition["lastTransitionTime"])
