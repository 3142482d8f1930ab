"""The driver's side of a Kubernetes cluster: wanting, looking, taking back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from clusters.drivers.base import Away, DriverError, GiveUp
from clusters.drivers.kubernetes import troubles
from clusters.drivers.kubernetes.access import Drift
from clusters.drivers.kubernetes.converge import Convergence, Standoffs
from clusters.drivers.kubernetes.errors import translated
from clusters.drivers.kubernetes.gateways import Gateways
from clusters.drivers.kubernetes.looking import Looking
from clusters.drivers.kubernetes.ordering import Order
from clusters.drivers.kubernetes.reading import Live, Nodes, Reader, Snapshot
from clusters.drivers.kubernetes.removal import Removal
from clusters.drivers.kubernetes.scope import Scope
from clusters.drivers.kubernetes.workloads import Workload, check_name, workload_for
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
        self._standoffs = Standoffs()
        self._left: dict[str, Sequence[str]] = {}  # by deployment: what its last order could not bring about
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

    def drifted(self, specs: Sequence[DeploymentSpec]) -> Mapping[str, Sequence[str] | DriverError]:
        """Compare many at once: what is there is listed once for each kind, however many deployments there are.

        What this cluster was found to make otherwise whenever it is written is left out: :meth:`observe` names it.

        Raises:
            TryLater: the cluster cannot be reached now.
        """
        snapshot = Snapshot(self._client, self._scope)
        results: dict[str, Sequence[str] | DriverError] = {}
        for spec in specs:
            try:
                with translated():
                    workload = workload_for(spec, self._facts, self._scope)
                    results[spec.name] = self._compared(workload, snapshot, stamps=True)
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
            if status is None or status.deleting:
                return status
            drift = self._drift(status.spec) if self._reports else self._left.get(name, ())
            return dataclasses.replace(status, drift=drift)

    def delete(self, name: str) -> bool:
        check_name(name)
        with translated(may_give_up=False):
            gone = Removal(self._client, self._facts, self._scope, self._nodes).pursue(name)
        if gone:
            self._left.pop(name, None)
        return gone

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
        pass_ = self._pass(reader, report=self._reports)
        Order(workload, reader, pass_).carry_out()
        self._left[spec.name] = () if self._reports else tuple(pass_.drift)
        meta = workload.anchor["metadata"]
        self._looking.remember(spec.name, workload.anchor["kind"], meta["namespace"], meta["name"])
        return pass_.written > 0

    def _drift(self, spec: DeploymentSpec) -> Sequence[str]:
        """What differs from what was last told."""
        try:
            workload = workload_for(spec, self._facts, self._scope)
        except GiveUp as error:
            return (f"It could not be ordered again as things are: {error}",)
        return self._compared(workload, Live(self._client, self._scope), stamps=False)

    def _compared(self, workload: Workload, reader: Reader, *, stamps: bool) -> Sequence[str]:
        pass_ = self._pass(reader, report=True)
        Order(workload, reader, pass_).look(stamps=stamps)
        return tuple(pass_.drift)

    def _pass(self, reader: Reader, *, report: bool) -> Convergence:
        return Convergence(self._client, reader, self._scope.installation, self._standoffs, report=report)
