"""What stands behind an API server, played over its REST API: scheduler, controllers, kubelets.

Deployments, LeaderWorkerSets, StatefulSets and Jobs get pods, pods get fake nodes by capacity, selector and
taints, and become ready; what is deleted goes. Faults are switched on per deployment. A real API server without
a controller manager and a stand-in are served alike.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import httpx

from tests.fakes.kubelet_logs import LogServer
from tests.fakes.kubelet_rest import Cluster, Object, condition, label_of, meta, now
from tests.fakes.kubelet_scheduler import usage
from tests.fakes.kubelet_workloads import Workloads

TICK_S = 0.05
LEFT_BEHIND = (  # what else of a namespace goes with it
    "/api/v1/configmaps",
    "/api/v1/secrets",
    "/api/v1/services",
    "/api/v1/serviceaccounts",
    "/api/v1/limitranges",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/autoscaling/v2/horizontalpodautoscalers",
    "/apis/coordination.k8s.io/v1/leases",
)


class Engines(Protocol):
    """What runs in pods."""

    def ready(self, cluster: Cluster, pod: Object, address: str) -> bool:
        """Have the pod's engine running, and say whether it answers."""

    def end(self, pod: Object) -> None:
        """Stop the pod's engine."""


@dataclasses.dataclass
class Fault:
    """What befalls the pods of a deployment. ``says`` is what the cluster would say of it."""

    kind: str  # "image", "oom", "crash", "job", "slow", "stuck"
    says: str = ""
    restarts: int = 1
    exit_code: int = 1
    job: str = ""  # only pods of jobs whose name has this; empty: the engines


class Kubelet(Workloads):
    """Everything that a bare API server lacks. ``faults`` maps a deployment's name to what befalls it.

    ``start_s`` is how long an engine takes until it is ready, ``drain_s`` how long it takes to go, ``job_s``
    how long a job's pod runs. Pods' addresses begin with ``subnet``; ``engines``, where given, runs what their
    containers say, and a pod is ready when that is.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str = "",
        verify: Any = True,
        subnet: str = "10.244",
        engines: Engines | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.cluster = Cluster(httpx.Client(base_url=server, headers=headers, verify=verify, timeout=10))
        self.faults: dict[str, Fault] = {}
        self.start_s = self.drain_s = self.job_s = 0.1
        self.logs = LogServer()
        self.errors: list[str] = []
        self.refusals: dict[str, str] = {}
        self.on_log: Callable[[str, str, str, str], None] = lambda *_: None
        self._addresses = itertools.count(10)
        self._subnet, self._engines = subnet, engines
        self._since: dict[str, float] = {}
        self._broken_nodes: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def start(self) -> Kubelet:
        self.logs.start()
        self.cluster.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self.cluster.stop()
        self.logs.stop()

    def __enter__(self) -> Kubelet:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_node(
        self,
        name: str,
        *,
        gpus: int = 8,
        product: str = "NVIDIA-H100-80GB-HBM3",
        driver: str = "590.48.01",
        resources: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        taints: list[dict[str, str]] | None = None,
    ) -> None:
        """Register a GPU node as GPU Feature Discovery would label it."""
        full = driver.split(".")
        allocatable = {"cpu": "96", "memory": "1Ti", "pods": "110", "ephemeral-storage": "1Ti"}
        allocatable |= resources or {"nvidia.com/gpu": str(gpus)}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "nvidia.com/gpu.present": "true",
                    "nvidia.com/gpu.product": product,
                    "nvidia.com/gpu.count": str(gpus),
                    "nvidia.com/gpu.memory": "81559",
                    "nvidia.com/cuda.driver-version.full": driver,
                    "nvidia.com/cuda.driver-version.major": full[0],
                    **(labels or {}),
                },
            },
            "spec": {"taints": taints or []},
        }
        self.cluster.create("/api/v1/nodes", None, node)
        status = {
            "capacity": allocatable,
            "allocatable": allocatable,
            "conditions": [condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.logs.port}},
        }
        self.cluster.patch("/api/v1/nodes", None, name, {"status": status}, "status")
        # A real API server marks new nodes as not ready; a controller takes that off again.
        self.cluster.patch("/api/v1/nodes", None, name, {"spec": {"taints": taints or None}})

    def node_not_ready(self, name: str, says: str = "Kubelet stopped posting node status.") -> None:
        """The node's kubelet falls silent: its pods stay as they are, and cannot be deleted gracefully."""
        self._broken_nodes.add(name)
        self.node_condition(name, "Ready", "Unknown", "NodeStatusUnknown", says)

    def node_gone(self, name: str) -> None:
        """The node is removed from the cluster with its pods still written down."""
        self._broken_nodes.add(name)
        self.cluster.delete("/api/v1/nodes", None, name)

    def node_back(self, name: str) -> None:
        """The node's kubelet speaks again."""
        self._broken_nodes.discard(name)
        self.node_condition(name, "Ready", "True", "KubeletReady", "kubelet is posting ready status")

    def node_condition(self, name: str, kind: str, status: str, reason: str, says: str) -> None:
        """Set one condition of a node, as the node problem detector does for GPU faults."""
        node = self.cluster.read("/api/v1/nodes", None, name)
        conditions = [c for c in node["status"]["conditions"] if c["type"] != kind]
        conditions.append(condition(kind, status, reason, says))
        self.cluster.patch("/api/v1/nodes", None, name, {"status": {"conditions": conditions}}, "status")

    def heal(self) -> None:
        """No fault any more: pods under way begin anew, nodes speak again."""
        self.faults.clear()
        for name in list(self._broken_nodes):
            if any(meta(node)["name"] == name for node in self.cluster.of("nodes")):
                self.node_back(name)
            self._broken_nodes.discard(name)

    def write_log(self, pod: Object, text: str) -> None:
        """Say what a pod's containers wrote, to the API server that asks and to ``on_log``."""
        namespace, name = meta(pod)["namespace"], meta(pod)["name"]
        self.logs.write(namespace, name, text)
        for container in pod["spec"]["containers"]:
            self.on_log(namespace, name, container["name"], text)

    def pods(self, deployment: str) -> list[Object]:
        """The pods of a deployment, as this side knows them."""
        pods = self.cluster.of("pods")
        return [pod for pod in pods if label_of(pod, "berth.dev/deployment") == deployment]

    def _run(self) -> None:
        while not self._stop.is_set():
            self.cluster.changed.wait(TICK_S)
            self.cluster.changed.clear()
            try:
                self._pass()
            except httpx.HTTPError as error:  # the server is away: tests do that
                self.errors.append(repr(error))
                self._stop.wait(TICK_S)

    def _pass(self) -> None:
        for claim in self.cluster.of("persistentvolumeclaims"):
            self._claim(claim)
        for quota in self.cluster.of("resourcequotas"):
            self._quota(quota)
        self.run_workloads()
        for pod in self.cluster.of("pods"):
            self._pod(pod)
        self.collect_orphans()
        for namespace in self.cluster.of("namespaces"):
            if meta(namespace).get("deletionTimestamp"):
                self._end_namespace(namespace)

    def _claim(self, claim: Object) -> None:
        name, namespace = meta(claim)["name"], meta(claim)["namespace"]
        path = "/api/v1/persistentvolumeclaims"
        if meta(claim).get("deletionTimestamp"):
            self.cluster.unblock(path, claim)
        elif (claim.get("status") or {}).get("phase") != "Bound":
            self.cluster.patch(path, namespace, name, {"status": {"phase": "Bound"}}, "status")

    def _quota(self, quota: Object) -> None:
        hard = quota.get("spec", {}).get("hard") or {}
        namespace = meta(quota)["namespace"]
        pods = [p for p in self.cluster.of("pods") if meta(p)["namespace"] == namespace]
        used = {key: usage(key, pods) for key in hard}
        status = quota.get("status") or {}
        if status.get("hard") != hard or status.get("used") != used:
            body = {"status": {"hard": hard, "used": used}}
            self.cluster.patch("/api/v1/resourcequotas", namespace, meta(quota)["name"], body, "status")

    def _pod(self, pod: Object) -> None:
        uid, now = meta(pod)["uid"], time.monotonic()
        node = pod["spec"].get("nodeName")
        if meta(pod).get("deletionTimestamp"):
            going = self._since.setdefault(f"going-{uid}", now)
            if now - going >= self.drain_s and node not in self._broken_nodes:
                if self._engines is not None:
                    self._engines.end(pod)
                self.cluster.delete("/api/v1/pods", meta(pod)["namespace"], meta(pod)["name"], grace_s=0)
            return
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or node in self._broken_nodes:
            return
        if not node:
            self._schedule(pod)
            return
        bound = self._since.setdefault(f"bound-{uid}", now)
        status = self._status(pod, now - bound)
        if status is not None:
            self._tell(pod, status)

    def _status(self, pod: Object, age_s: float) -> Object | None:
        """What a kubelet says of a pod ``age_s`` after it was bound, None where that stands there already."""
        fault, is_job = self.fault_of(pod), bool(label_of(pod, "batch.kubernetes.io/job-name"))
        before = pod.get("status", {})
        restarts = max((c["restartCount"] for c in before.get("containerStatuses", [])), default=0)
        name = fault.kind if fault else ""
        if name == "stuck":
            return None
        if name == "image":
            waiting = {"reason": "ImagePullBackOff", "message": fault.says}
            return _unless(before, _containers(pod, {"waiting": waiting}, ready=False))
        if is_job:
            if age_s < self.job_s:
                return _unless(before, _containers(pod, {"running": {"startedAt": now()}}, ready=False))
            failed = name == "job"
            ended = _ended(fault.exit_code if failed else 0, "Error" if failed else "Completed", fault)
            phase = "Failed" if failed else "Succeeded"
            return _containers(pod, {"terminated": ended}, ready=False) | {"phase": phase}
        if name in ("oom", "crash") and restarts < fault.restarts:
            ended = _ended(137 if name == "oom" else fault.exit_code, "OOMKilled", fault)
            if name == "crash":
                ended["reason"] = "Error"
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}
            said = _containers(pod, {"waiting": waiting}, ready=False)
            for container in said["containerStatuses"]:
                container |= {"restartCount": fault.restarts, "lastState": {"terminated": ended}}
            return said
        if name in ("oom", "crash"):
            return None
        ready = age_s >= self.start_s and name != "slow" and self._serves(pod)
        said = _containers(pod, {"running": {"startedAt": now()}}, ready=ready)
        for container in said["containerStatuses"]:
            container["restartCount"] = restarts
        return _unless(before, said)

    def _tell(self, pod: Object, status: Object) -> None:
        before = pod.get("status", {})
        ready = all(c["ready"] for c in status["containerStatuses"])
        old = {c["type"]: c for c in before.get("conditions", [])}
        conditions = [old.get("PodScheduled") or condition("PodScheduled", "True")]
        for kind in ("Initialized", "ContainersReady", "Ready"):
            said = "True" if ready or kind == "Initialized" else "False"
            kept = old.get(kind)
            conditions.append(kept if kept and kept["status"] == said else condition(kind, said))
        status |= {
            "conditions": conditions,
            "podIP": before.get("podIP") or self._address(),
            "hostIP": "127.0.0.1",
            "startTime": before.get("startTime") or now(),
        }
        status["podIPs"] = [{"ip": status["podIP"]}]
        fault = self.fault_of(pod)
        self.write_log(pod, fault.says if fault else "engine is up\n")
        self.cluster.patch(
            "/api/v1/pods", meta(pod)["namespace"], meta(pod)["name"], {"status": status}, "status"
        )

    def _serves(self, pod: Object) -> bool:
        if self._engines is None:
            return True
        address = pod.get("status", {}).get("podIP")
        return bool(address) and self._engines.ready(self.cluster, pod, address)

    def _address(self) -> str:
        n = next(self._addresses)
        return f"{self._subnet}.{n // 250 % 250}.{n % 250 + 1}"

    def fault_of(self, pod: Object) -> Fault | None:
        """The fault that a pod suffers, if any."""
        job = label_of(pod, "batch.kubernetes.io/job-name")
        name = label_of(pod, "berth.dev/deployment") or label_of(pod, "berth.dev/gateway")
        for key, fault in list(self.faults.items()):
            if job and fault.job and fault.job in job:
                return fault
            if not job and not fault.job and key == name:
                return fault
        return None

    def _schedule(self, pod: Object) -> None:
        if pod["spec"].get("schedulingGates"):
            return
        node, why = self.fitting_node(pod)
        namespace, name = meta(pod)["namespace"], meta(pod)["name"]
        if node:
            self.cluster.bind(pod, node)
            return
        old = {c["type"]: c for c in pod.get("status", {}).get("conditions", [])}
        if old.get("PodScheduled", {}).get("message") != why:
            said = condition("PodScheduled", "False", "Unschedulable", why)
            body = {"status": {"phase": "Pending", "conditions": [said]}}
            self.cluster.patch("/api/v1/pods", namespace, name, body, "status")

    def _end_namespace(self, namespace: Object) -> None:
        name = meta(namespace)["name"]
        left = [
            (kind, item)
            for kind in self.cluster.kinds()
            for item in self.cluster.of(kind)
            if kind not in ("namespaces", "nodes") and meta(item).get("namespace") == name
        ]
        for kind, item in left:
            if not meta(item).get("deletionTimestamp"):
                self.cluster.delete(self.cluster.path(kind), name, meta(item)["name"])
        if left:
            return
        for path in LEFT_BEHIND:
            for item in self.cluster.read_all(path, name):
                self.cluster.delete(path, name, meta(item)["name"])
        self.cluster.finalize(namespace)


def _ended(exit_code: int, reason: str, fault: Fault | None) -> Object:
    says = {"message": fault.says} if fault and fault.says else {}
    return {"exitCode": exit_code, "reason": reason, "startedAt": now(), "finishedAt": now(), **says}


def _containers(pod: Object, state: Object, *, ready: bool) -> Object:
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": state,
            "lastState": {},
        }
        for container in pod["spec"]["containers"]
    ]
    return {"phase": "Pending" if "waiting" in state else "Running", "containerStatuses": containers}


def _unless(before: Object, said: Object) -> Object | None:
    """``said``, unless the same stands there (times aside)."""
    old = before.get("containerStatuses") or []
    new = said["containerStatuses"]
    same = [(c["ready"], sorted(c["state"])) for c in old] == [(c["ready"], sorted(c["state"])) for c in new]
    return None if same and before.get("phase") == said["phase"] else said
