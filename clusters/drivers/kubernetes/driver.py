"""The driver's side of a Kubernetes cluster: wanting, looking, taking back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from clusters.drivers.base import Away, DriverError, GiveUp
from clusters.drivers.kubernetes import troubles
from clusters.drivers.kubernetes.access import Drift
from clusters.drivers.kubernetes.converge import Convergence
from clusters.drivers.kubernetes.errors import translated
from clusters.drivers.kubernetes.gateways import Gateways
from clusters.drivers.kubernetes.looking import Looking
from clusters.drivers.kubernetes.ordering import Order
from clusters.drivers.kubernetes.reading import Live, Nodes, Reader, Snapshot
from clusters.drivers.kubernetes.removal import Removal
from clusters.drivers.kubernetes.scope import Scope
from clusters.drivers.kubernetes.workloads import check_name, workload_for
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.manifests import ClusterFacts, to_texts
from clusters.specs import DeploymentSpec, DeploymentStatus, GatewaySpec, GatewayStatus


class KubernetesDriver:
    """A Kubernetes cluster; see `clusters.drivers.base.Driver`. Thread-safe; closes its client with ``close``.

    ``facts`` is what rendering knows of the cluster. ``namespaces`` are those that its administrator made for
    Berth; empty: Berth makes its own. With ``drift`` "report" what others changed is left and named.

    An engine that needs jobs first (weights, quantizing, building) is applied without replicas until they
    succeeded; so apply again until the deployment is ready.
    """

    def __init__(
        self,
        client: KubeClient,
        facts: ClusterFacts,
        *,
        namespaces: Sequence[str] = (),
        drift: Drift = "repair",
    ) -> None:
        self._client, self._facts = client, facts
        self._scope = Scope(installation=facts.installation, namespaces=tuple(namespaces))
        self._reports = drift == "report"
        self._nodes = Nodes(client, self._scope)
        self._looking = Looking(client, facts, self._scope, self._nodes)
        self._gateways = Gateways(client, facts, self._scope, self._nodes, report=self._reports)

    @property
    def client(self) -> KubeClient:
        """The connections it speaks over."""
        return self._client

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def apply(self, spec: DeploymentSpec) -> bool:
        with translated():
            return self._apply(spec, Live(self._client, self._scope))

    def resync(self, specs: Sequence[DeploymentSpec]) -> Mapping[str, bool | DriverError]:
        """Apply many at once: what is there is listed once for each kind, however many deployments there are.

        Gives for each name what :meth:`apply` would have given, or what it would have raised.

        Raises:
            TryLater: the cluster cannot be reached now.
        """
        snapshot = Snapshot(self._client, self._scope)
        results: dict[str, bool | DriverError] = {}
        for spec in specs:
            try:
                with translated():
                    results[spec.name] = self._apply(spec, snapshot)
            except Away:
                raise
            except DriverError as error:
                results[spec.name] = error
        return results

    def render(self, spec: DeploymentSpec) -> Mapping[str, str]:
        workload = workload_for(spec, self._facts, self._scope)
        namespace = [workload.namespace] if workload.namespace else []
        return to_texts(
            [
                *namespace,
                *workload.shared,
                *workload.secrets,
                *workload.jobs,
                *workload.own,
                workload.anchor,
                *workload.autoscalers,
            ]
        )

    def observe(self, name: str) -> DeploymentStatus | None:
        check_name(name)
        with translated(may_give_up=False):
            status = self._looking.at(name)
            if status is None or status.deleting or not self._reports:
                return status
            return dataclasses.replace(status, drift=self._drift(status.spec))

    def delete(self, name: str) -> bool:
        check_name(name)
        with translated(may_give_up=False):
            return Removal(self._client, self._facts, self._scope, self._nodes).pursue(name)

    def deployments(self) -> Sequence[DeploymentStatus]:
        with translated(may_give_up=False):
            return self._looking.at_all()

    def apply_gateway(self, spec: GatewaySpec) -> bool:
        with translated():
            return self._gateways.apply(spec)

    def observe_gateway(self, name: str) -> GatewayStatus | None:
        with translated(may_give_up=False):
            return self._gateways.observe(name)

    def delete_gateway(self, name: str) -> bool:
        with translated(may_give_up=False):
            return self._gateways.delete(name)

    def logs(self, name: str, replica_id: str, *, lines: int = 100) -> str:
        check_name(name)
        with translated(may_give_up=False):
            pod = self._looking.pod(name, replica_id)
            if pod is None:
                return ""
            return troubles.redacted(self._looking.last_words(pod, lines))

    def replace(self, name: str, replica_id: str) -> bool:
        check_name(name)
        with translated(may_give_up=False):
            self._nodes.forget()
            pods = self._looking.group(name, replica_id)
            for pod in pods:
                meta = pod["metadata"]
                node = str((pod.get("spec") or {}).get("nodeName") or "")
                # Nobody is left on such a node to say that the pod ended.
                lost = node != "" and bool(troubles.node_fault(self._nodes.get(node)))
                self._client.delete(
                    kinds.POD,
                    meta["name"],
                    meta["namespace"],
                    uid=meta["uid"],
                    grace_s=0 if lost else None,
                )
            return bool(pods)

    def _apply(self, spec: DeploymentSpec, reader: Reader) -> bool:
        workload = workload_for(spec, self._facts, self._scope)
        order = Convergence(self._client, reader, self._scope.installation, report=self._reports)
        Order(workload, reader, order).carry_out()
        meta = workload.anchor["metadata"]
        self._looking.remember(spec.name, workload.anchor["kind"], meta["namespace"], meta["name"])
        return order.written > 0

    def _drift(self, spec: DeploymentSpec) -> Sequence[str]:
        """What differs from what was last told; whether jobs still run makes no difference."""
        reader = Live(self._client, self._scope)
        look = Convergence(self._client, reader, self._scope.installation, report=True)
        try:
            workload = workload_for(spec, self._facts, self._scope)
        except GiveUp as error:
            return (f"It could not be ordered again as things are: {error}",)
        waiting = any(
            not troubles.job_done(live)
            for job in workload.jobs
            if (live := reader.get(kinds.JOB, job["metadata"]["name"], workload.place)) is not None
        )
        for obj in (
            *workload.shared,
            *workload.own,
            *(() if waiting else (workload.anchor, *workload.autoscalers)),
        ):
            look.look(obj)
        return tuple(look.drift)
