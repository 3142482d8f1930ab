"""Making a deployment: what its engine waits for first, the engine last."""

from __future__ import annotations

from collections.abc import Sequence

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes.converge import Convergence, stamped
from clusters.drivers.kubernetes.reading import Reader
from clusters.drivers.kubernetes.scope import (
    DEPLOYMENT,
    MADE_FOR,
    OBJECTS,
    SECRETS,
    Object,
    annotation_of,
    is_controlled,
    label_of,
)
from clusters.drivers.kubernetes.troubles import job_done, job_failure, lacks_secret
from clusters.drivers.kubernetes.workloads import (
    ANCHORS,
    AUTOSCALERS,
    BESIDE,
    BRACKET,
    Workload,
    annotated,
    spec_of,
    stopped,
)
from clusters.kube import kinds
from clusters.kube.kinds import RESOURCE_QUOTA as QUOTA
from clusters.kube.kinds import kind_of


class Order:
    """One pass that makes the cluster want a workload."""

    def __init__(self, workload: Workload, reader: Reader, pass_: Convergence) -> None:
        self._workload, self._reader, self._pass = workload, reader, pass_
        self._live = pass_.read(workload.anchor)
        self._known = self._live is not None and annotation_of(self._live, OBJECTS) == workload.digest

    def carry_out(self) -> None:
        """Write what differs, in an order in which whatever comes first can be found if the rest never comes.

        Raises:
            TryLater: something of it is still being removed.
            GiveUp: the namespace is not there, or a name is taken.
        """
        workload = self._workload
        if self._live is not None:
            self._pass.check_ours(f"{self._live['kind']} {workload.spec.name}", self._live)
        self._namespace()
        bracket = [each for each in workload.own if kind_of(each) == BRACKET]
        beside = [each for each in workload.own if kind_of(each) != BRACKET]
        for obj in (*bracket, *workload.shared, *beside):
            self._pass.settle(obj, settled_before=self._known)
        waiting = self._jobs()
        self._secrets()
        if self._live is not None and not self._known:
            self._prune()
        hold, anchor = self._holds(waiting), self._anchor()
        self._pass.bring(self._live, stopped(anchor) if hold else anchor)
        for obj in () if hold else workload.autoscalers:
            self._pass.settle(obj, settled_before=self._known)

    def look(self, *, stamps: bool) -> None:
        """Name in the pass's drift what carrying it out would change, and write nothing.

        Without ``stamps`` only what is rendered is compared: neither digests nor secrets.

        Raises:
            TryLater: something of it is being removed.
            GiveUp: the namespace is not there, or a name is taken.
        """
        workload = self._workload
        namespace, live = self._wanted_namespace()
        if namespace is not None:
            self._pass.look(live, namespace, stamp=stamps)
        for obj in (*workload.own, *workload.shared):
            self._pass.look(self._pass.read(obj), obj, stamp=stamps)
        job, live = self._next_job() if workload.spec.replicas else (None, None)
        if job is not None and live is None:
            self._pass.look(None, job, stamp=stamps)
        hold = self._holds(job is not None)
        anchor = self._anchor() if stamps else workload.anchor
        self._pass.look(self._live, stopped(anchor) if hold else anchor, stamp=stamps)
        for obj in () if hold else workload.autoscalers:
            self._pass.look(self._pass.read(obj), obj, stamp=stamps)

    def _anchor(self) -> Object:
        workload = self._workload
        return annotated(workload.anchor, {OBJECTS: workload.digest, SECRETS: workload.secrets_digest})

    def _holds(self, waiting: bool) -> bool:
        # Engines that run already are left running while a job is done over again.
        return waiting and not (self._live or {}).get("spec", {}).get("replicas")

    def _namespace(self) -> None:
        namespace, live = self._wanted_namespace()
        if namespace is not None:
            self._pass.bring(live, namespace)

    def _wanted_namespace(self) -> tuple[Object | None, Object | None]:
        workload = self._workload
        live = self._reader.get(kinds.NAMESPACE, workload.place, None)
        if workload.namespace is not None:
            made_for = workload.spec.name if live is None else label_of(live, MADE_FOR)
            meta = workload.namespace["metadata"]
            labels = {**meta["labels"], **({MADE_FOR: made_for} if made_for else {})}
            return {**workload.namespace, "metadata": {**meta, "labels": labels}}, live
        if live is None:
            raise GiveUp(
                f"The namespace {workload.place} is not there. The cluster's administrator makes it with"
                f" deploy/cluster/namespaces (README.md there)."
            )
        return None, live

    def _next_job(self) -> tuple[Object | None, Object | None]:
        """The job that is to be done next and the live one; each reads what the one before it made."""
        for job in self._workload.jobs:
            live = self._pass.read(job)
            if live is None or not job_done(live):
                return job, live
        return None, None

    def _jobs(self) -> bool:
        """See to the jobs; give whether the engine must wait for one."""
        if not self._workload.spec.replicas:
            return False
        job, live = self._next_job()
        if job is None:
            return False
        if live is not None and job_failure(live) and self._is_anew():
            self._pass.check_ours(f"Job {job['metadata']['name']}", live)
            self._pass.remove(live, propagation="Foreground")
        else:
            self._pass.bring(live, annotated(job, {MADE_FOR: self._workload.spec.name}))
            self._job_secret(job)
        return True

    def _is_anew(self) -> bool:
        """Whether what failed may succeed now: it is ordered for the first time, or resumed, or with other secrets."""
        if self._live is None:
            return True
        told = spec_of(self._live)
        return (
            told is None
            or not told.replicas
            or annotation_of(self._live, SECRETS) != self._workload.secrets_digest
        )

    def _job_secret(self, job: Object) -> None:
        """Write a job's secret anew where its pods wait for one that somebody removed."""
        name = job["metadata"]["name"]
        mine = [each for each in self._workload.secrets if each["metadata"]["name"] == name]
        if mine and any(lacks_secret(pod, name) for pod in self._reader.of_job(name, self._workload.place)):
            for secret in mine:
                self._pass.write(secret)

    def _secrets(self) -> None:
        """Berth reads no secrets: whether they are to be written is told by a digest beside the spec."""
        digest = self._workload.secrets_digest
        if digest and (self._live is None or annotation_of(self._live, SECRETS) != digest):
            for secret in self._workload.secrets:
                self._pass.write(secret)

    def _prune(self) -> None:
        """Remove what an earlier order made and this one does not."""
        workload = self._workload
        rendered = {
            (kind_of(each), each["metadata"]["name"])
            for each in (*workload.own, *workload.autoscalers, workload.anchor)
        }
        for kind in (*AUTOSCALERS, *BESIDE, *ANCHORS):
            for live in self._of_deployment(kind):
                # KEDA makes an HPA of its own out of what we made, with our labels.
                if (kind, live["metadata"]["name"]) not in rendered and not is_controlled(live):
                    self._pass.remove(live)
        self._prune_quota()

    def _prune_quota(self) -> None:
        """Empty the bound on GPUs once there is none; those on other kinds of GPU are other deployments'."""
        workload = self._workload
        rendered = {each["metadata"]["name"] for each in workload.shared if kind_of(each) == QUOTA}
        ours = {f"requests.{workload.spec.placement.resource}"}
        for live in self._reader.of_space(QUOTA, workload.place):
            if live["metadata"]["name"] not in rendered and set(live["spec"].get("hard") or ()) == ours:
                meta = {key: live["metadata"][key] for key in ("name", "namespace", "labels")}
                empty = {key: live[key] for key in ("apiVersion", "kind")}
                self._pass.write(stamped({**empty, "metadata": meta, "spec": {"hard": {}}}))

    def _of_deployment(self, kind: kinds.Kind) -> Sequence[Object]:
        name = self._workload.spec.name
        found = self._reader.of_deployment(kind, name)
        return [each for each in found if label_of(each, DEPLOYMENT) == name]
