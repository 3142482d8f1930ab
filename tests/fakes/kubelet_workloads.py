"""The controllers of the played kubelet: from workloads to pods."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets

from tests.fakes.kubelet_rest import PATHS, Object, condition, label_of, meta, now
from tests.fakes.kubelet_scheduler import Scheduler

HASH = "pod-template-hash"
LWS = "leaderworkerset.sigs.k8s.io"
API = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "Job": "batch/v1"}


class Workloads(Scheduler):
    """Makes and ends the pods of workloads; sees to owners that are gone."""

    refusals: dict[str, str]  # of pods that the server did not take

    def run_workloads(self) -> None:
        for kind, run in (
            ("deployments", self._deployment),
            ("statefulsets", self._stateful_set),
            ("leaderworkersets", self._leader_worker_set),
            ("jobs", self._job),
        ):
            for obj in self.cluster.of(kind):
                if meta(obj).get("deletionTimestamp"):
                    self._foreground(kind, obj)
                else:
                    run(obj)

    def collect_orphans(self) -> None:
        """Delete pods whose owner is no more."""
        owners = {meta(o)["uid"] for kind in self.cluster.kinds() for o in self.cluster.of(kind)}
        for pod in self.cluster.of("pods"):
            refs = meta(pod).get("ownerReferences") or []
            if refs and all(ref["uid"] not in owners for ref in refs):
                self._end(pod)

    def owned(self, owner: Object) -> list[Object]:
        """The pods of a workload, oldest first."""
        uid = meta(owner)["uid"]
        return [
            pod
            for pod in self.cluster.of("pods")
            if any(ref["uid"] == uid for ref in meta(pod).get("ownerReferences") or [])
        ]

    def _deployment(self, deployment: Object) -> None:
        spec = deployment["spec"]
        wanted, digest = spec.get("replicas", 1), _hash(spec["template"])
        pods = [p for p in self.owned(deployment) if not meta(p).get("deletionTimestamp")]
        pods = [p for p in pods if p.get("status", {}).get("phase") not in ("Failed", "Succeeded")]
        new = [p for p in pods if label_of(p, HASH) == digest]
        old = [p for p in pods if label_of(p, HASH) != digest]
        rolling = (spec.get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
        limits = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        surge = _share(limits.get("maxSurge", "25%"), wanted, up=True)
        missing = _share(limits.get("maxUnavailable", "25%"), wanted, up=False)
        refused = ""
        if rolling:
            missing = missing or (0 if surge else 1)
            available = [p for p in pods if _ready(p)]
            for pod in sorted(old, key=_ready):
                if not _ready(pod):
                    self._end(pod)
                elif len(available) > wanted - missing:
                    available.remove(pod)
                    self._end(pod)
        else:
            for pod in old:
                self._end(pod)
        gone = old if not rolling else []
        room = wanted + (surge if old and rolling else 0) - len(pods)
        for _ in range(min(room, wanted - len(new)) if not gone else 0):
            name = f"{meta(deployment)['name']}-{digest}-{secrets.token_hex(3)[:5]}"
            refused = self._make(deployment, name, spec["template"], {HASH: digest}) or refused
            if refused:
                break
        for pod in sorted(new, key=_worth)[: max(0, len(new) - wanted)]:
            self._end(pod)
        self._tell_deployment(deployment, refused)

    def _tell_deployment(self, deployment: Object, refused: str) -> None:
        live = [p for p in self.owned(deployment) if not meta(p).get("deletionTimestamp")]
        ready, digest = sum(map(_ready, live)), _hash(deployment["spec"]["template"])
        updated = sum(label_of(p, HASH) == digest for p in live)
        before = deployment.get("status") or {}
        said = {"replicas": len(live), "updatedReplicas": updated, "readyReplicas": ready}
        said |= {"availableReplicas": ready, "observedGeneration": meta(deployment).get("generation", 1)}
        old = {c["type"]: c for c in before.get("conditions") or []}
        conditions = [c for c in old.values() if c["type"] != "ReplicaFailure"]
        wanted = deployment["spec"].get("replicas", 1)
        if refused or (len(live) < wanted and "ReplicaFailure" in old):
            failure = old.get("ReplicaFailure", {})
            if refused and failure.get("message") != refused:
                failure = condition("ReplicaFailure", "True", "FailedCreate", refused)
            conditions.append(failure)
        if {k: before.get(k, 0) for k in said} != said or conditions != (before.get("conditions") or []):
            body = {"status": {**said, "conditions": conditions}}
            self.cluster.patch(
                PATHS["deployments"], meta(deployment)["namespace"], meta(deployment)["name"], body, "status"
            )

    def _stateful_set(self, owner: Object) -> None:
        spec, name = owner["spec"], meta(owner)["name"]
        wanted, digest = spec.get("replicas", 1), _hash(spec["template"])
        pods = {meta(p)["name"]: p for p in self.owned(owner)}
        for index in range(wanted):
            for template in spec.get("volumeClaimTemplates") or []:
                claim = {**template, "apiVersion": "v1", "kind": "PersistentVolumeClaim"}
                claim["metadata"] = {
                    "name": f"{meta(template)['name']}-{name}-{index}",
                    "labels": {
                        **(meta(template).get("labels") or {}),
                        **((spec["selector"] or {}).get("matchLabels") or {}),
                    },
                }
                place = meta(owner)["namespace"]
                claims = self.cluster.of("persistentvolumeclaims")
                known = {(meta(each)["namespace"], meta(each)["name"]) for each in claims}
                if (place, claim["metadata"]["name"]) not in known:
                    self.cluster.create(PATHS["persistentvolumeclaims"], place, claim)
            if f"{name}-{index}" not in pods:
                marks = {"controller-revision-hash": digest, "apps.kubernetes.io/pod-index": str(index)}
                self._make(owner, f"{name}-{index}", _with_claims(spec, name, index), marks)
        for pod_name, pod in pods.items():
            if int(pod_name.rpartition("-")[2]) >= wanted:
                self._end(pod)
        stale = [p for p in pods.values() if label_of(p, "controller-revision-hash") != digest]
        if stale and len(pods) >= wanted and all(_ready(p) for p in pods.values()):
            self._end(max(stale, key=lambda p: str(meta(p)["name"])))
        ready = sum(map(_ready, pods.values()))
        said = {"replicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        said |= {"observedGeneration": meta(owner).get("generation", 1)}
        said |= {"updatedReplicas": len(pods) - len(stale)}
        self._tell_set("statefulsets", owner, said)

    def _leader_worker_set(self, owner: Object) -> None:
        spec, name = owner["spec"], meta(owner)["name"]
        template, wanted = spec["leaderWorkerTemplate"], spec.get("replicas", 1)
        size, digest = template.get("size", 1), _hash(template)
        groups: dict[int, list[Object]] = {}
        for pod in self.owned(owner):
            groups.setdefault(int(label_of(pod, f"{LWS}/group-index") or 0), []).append(pod)
        for index, pods in groups.items():
            broken = any(p.get("status", {}).get("phase") == "Failed" for p in pods)
            incomplete = any(meta(p).get("deletionTimestamp") for p in pods)
            stale = any(label_of(p, f"{LWS}/template-revision-hash") != digest for p in pods)
            if index >= wanted or broken or incomplete or stale:
                for pod in pods:
                    self._end(pod)
        for index in range(wanted):
            there = {meta(p)["name"] for p in groups.get(index, [])}
            if any(meta(p).get("deletionTimestamp") for p in groups.get(index, [])):
                continue
            for worker in range(size):
                pod_name = f"{name}-{index}" + (f"-{worker}" if worker else "")
                if pod_name in there:
                    continue
                marks = {
                    f"{LWS}/name": name,
                    f"{LWS}/group-index": str(index),
                    f"{LWS}/worker-index": str(worker),
                    f"{LWS}/template-revision-hash": digest,
                    f"{LWS}/group-key": hashlib.sha256(f"{name}-{index}".encode()).hexdigest()[:40],
                }
                chosen = template.get("leaderTemplate") if not worker else None
                self._make(owner, pod_name, chosen or template["workerTemplate"], marks)
        ready = sum(len(p) == size and all(map(_ready, p)) for p in groups.values())
        self._tell_set("leaderworkersets", owner, {"replicas": len(groups), "readyReplicas": ready})

    def _tell_set(self, kind: str, owner: Object, said: Object) -> None:
        before = owner.get("status") or {}
        if {k: before.get(k, 0) for k in said} != said:
            place = (meta(owner)["namespace"], meta(owner)["name"])
            self.cluster.patch(PATHS[kind], *place, {"status": said}, "status")

    def _job(self, job: Object) -> None:
        status = job.get("status") or {}
        if any(c["type"] in ("Complete", "Failed") for c in status.get("conditions") or []):
            return
        pods = self.owned(job)
        namespace, name = meta(job)["namespace"], meta(job)["name"]
        started = status.get("startTime") or now()
        if any(p.get("status", {}).get("phase") == "Succeeded" for p in pods):
            ended = [condition("SuccessCriteriaMet"), condition("Complete")]
            said = {"succeeded": 1, "active": 0, "completionTime": now()}
        else:
            failed = [p for p in pods if p.get("status", {}).get("phase") == "Failed"]
            said = {"active": len(pods) - len(failed), "failed": len(failed)}
            ended = []
            if len(failed) > job["spec"].get("backoffLimit", 6):
                why = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
                ended = [condition("FailureTarget", "True", *why), condition("Failed", "True", *why)]
            elif len(failed) == len(pods):
                marks = {"batch.kubernetes.io/job-name": name, "job-name": name}
                self._make(job, f"{name}-{secrets.token_hex(3)[:5]}", job["spec"]["template"], marks)
        if {k: status.get(k, 0) for k in said} != said or ended:
            body = {"status": {**said, "startTime": started, "conditions": ended}}
            self.cluster.patch(PATHS["jobs"], namespace, name, body, "status")

    def _foreground(self, kind: str, obj: Object) -> None:
        """Garbage collection of an object that waits for its pods."""
        pods = self.owned(obj)
        for pod in pods:
            self._end(pod)
        if not pods:
            self.cluster.unblock(PATHS[kind], obj)

    def _make(self, owner: Object, name: str, template: Object, marks: dict[str, str]) -> str:
        """Create a pod; give why it was refused, or nothing.

        The owner is asked for anew, as Kubernetes' own controllers do: that its pods end may be seen before
        that it ends itself, and what ends is given no new ones.
        """
        kind = owner.get("kind") or _kind(owner)
        path = next(path for path in PATHS.values() if path.endswith(f"/{kind.lower()}s"))
        standing = self.cluster.read(path, meta(owner)["namespace"], meta(owner)["name"])
        if not standing or meta(standing)["uid"] != meta(owner)["uid"]:
            return ""
        if meta(standing).get("deletionTimestamp"):
            return ""
        labels = {**((template.get("metadata") or {}).get("labels") or {}), **marks}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": meta(owner)["namespace"],
                "labels": labels,
                "annotations": (template.get("metadata") or {}).get("annotations") or {},
                "ownerReferences": [
                    {
                        "apiVersion": owner.get("apiVersion") or _api(owner),
                        "kind": kind,
                        "name": meta(owner)["name"],
                        "uid": meta(owner)["uid"],
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": template["spec"],
        }
        made = self.cluster.create(PATHS["pods"], meta(owner)["namespace"], pod)
        if isinstance(made, str):
            self.refusals[name] = made
            return made
        return ""

    def _end(self, pod: Object) -> None:
        if not meta(pod).get("deletionTimestamp"):
            self.cluster.delete(PATHS["pods"], meta(pod)["namespace"], meta(pod)["name"])


def _kind(owner: Object) -> str:
    spec = owner["spec"]
    if "leaderWorkerTemplate" in spec:
        return "LeaderWorkerSet"
    if "serviceName" in spec:
        return "StatefulSet"
    return "Deployment" if "strategy" in spec else "Job"


def _api(owner: Object) -> str:
    return API.get(_kind(owner), f"{LWS.replace('sigs.k8s', 'x-k8s')}/v1")


def _with_claims(spec: Object, name: str, index: int) -> Object:
    """A StatefulSet's template with the volumes of one of its pods."""
    template = spec["template"]
    claims = [
        {
            "name": meta(each)["name"],
            "persistentVolumeClaim": {"claimName": f"{meta(each)['name']}-{name}-{index}"},
        }
        for each in spec.get("volumeClaimTemplates") or []
    ]
    volumes = [*(template["spec"].get("volumes") or []), *claims]
    return {**template, "spec": {**template["spec"], "volumes": volumes}}


def _hash(template: Object) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _worth(pod: Object) -> tuple[bool, bool, float]:
    """Pods worth least come first: unbound, not ready, youngest."""
    age = dt.datetime.fromisoformat(meta(pod)["creationTimestamp"]).timestamp()
    return (bool(pod["spec"].get("nodeName")), _ready(pod), -age)


def _share(value: int | str, of: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * of
    return -(-exact // 100) if up else exact // 100
