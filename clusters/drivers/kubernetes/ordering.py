"""Making a deployment: what its engine waits for first, the engine last."""

from __future__ import annotations

from collections.abc import Sequence

from clusters.drivers.base import GiveUp
from clusters.drivers.kubernetes.converge import Convergence
from clusters.drivers.kubernetes.reading import Reader
from clusters.drivers.kubernetes.scope import (
    DEPLOYMENT,
    MADE_FOR,
    OBJECTS,
    SECRETS,
    Object,
    annotation_of,
    label_of,
)
from clusters.drivers.kubernetes.troubles import job_done, job_failure
from clusters.drivers.kubernetes.workloads import (
    ANCHORS,
    AUTOSCALERS,
    BESIDE,
    BRACKET,
    Workload,
    annotated,
    stopped,
)
from clusters.kube import kinds
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
        # Engines that run already are left running while a job is done over again.
        hold = waiting and not (self._live or {}).get("spec", {}).get("replicas")
        anchor = annotated(workload.anchor, {OBJECTS: workload.digest, SECRETS: workload.secrets_digest})
        self._pass.bring(self._live, stopped(anchor) if hold else anchor)
        for obj in () if hold else workload.autoscalers:
            self._pass.settle(obj, settled_before=self._known)

    def _namespace(self) -> None:
        workload = self._workload
        live = self._reader.get(kinds.NAMESPACE, workload.place, None)
        if workload.namespace is not None:
            made_for = workload.spec.name if live is None else label_of(live, MADE_FOR)
            meta = workload.namespace["metadata"]
            labels = {**meta["labels"], **({MADE_FOR: made_for} if made_for else {})}
            self._pass.bring(live, {**workload.namespace, "metadata": {**meta, "labels": labels}})
        elif live is None:
            raise GiveUp(
                f"The namespace {workload.place} is not there. The cluster's administrator makes it with"
                f" deploy/cluster/namespaces (README.md there)."
            )

    def _jobs(self) -> bool:
        """See to the jobs; give whether the engine must wait for one."""
        waiting = False
        for job in self._workload.jobs:
            live = self._pass.read(job)
            if live is not None and job_done(live):
                continue
            if not self._workload.spec.replicas:
                if live is not None and job_failure(live):  # so that it is tried again on resuming
                    self._pass.remove(live)
                continue
            if not waiting:  # each reads what the one before it made
                self._pass.bring(live, annotated(job, {MADE_FOR: self._workload.spec.name}))
            waiting = True
        return waiting

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
                if (kind, live["metadata"]["name"]) not in rendered:
                    self._pass.remove(live)

    def _of_deployment(self, kind: kinds.Kind) -> Sequence[Object]:
        name = self._workload.spec.name
        found = self._reader.of_deployment(kind, name)
        return [each for each in found if label_of(each, DEPLOYMENT) == name]
