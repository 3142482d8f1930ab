"""Faults of what Berth runs in a Kubernetes cluster, done through its API server and through nothing else."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from clusters.drivers.faults import Kind, Plan, Refused, Wish
from clusters.drivers.kubernetes.scope import Scope, label_of
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Forbidden, Invalid, KubeError, NotFound
from clusters.kube.manifests.gateway import DATA_AT
from clusters.kube.manifests.names import ENGINE, GATEWAY, INSTANCE, NAME
from embedded.faults.journal import Fault

#: As the inventory reads it: a GPU fault, for which engines leave their node at once.
CONDITION: Final = "BerthPracticeGpuFault"
FILLER: Final = "berth-practice-fill"
_FULL_BYTES: Final = 2**40
_SCRIPT: Final = f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
path, seconds = sys.argv[1], float(sys.argv[2])
file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
try:
    piece, size = 2**30, 0
    while piece >= 4096 and size < {_FULL_BYTES}:
        try:
            os.posix_fallocate(file, size, piece)
            size += piece
        except OSError:
            piece //= 2
    time.sleep(seconds)
finally:
    os.unlink(path)
"""
_CANNOT: Final[Mapping[Kind, str]] = {
    Kind.PAUSE: "The API server cannot stop a container's processes, and from inside a container its first process"
    " cannot be stopped either. Cut its connections instead: fault cut {target}.",
    Kind.SLOW: "The API server cannot delay packets; that takes a tool on the nodes (tc netem) with rights that Berth's"
    " engines and gateways do not have. Cut connections instead: fault cut {target}.",
}


class KubernetesFaults:
    """See :class:`clusters.drivers.faults.FaultDriver`. ``cluster`` is its name, kept with what is to be undone."""

    def __init__(self, client: KubeClient, scope: Scope, *, cluster: str) -> None:
        self._client = client
        self._scope = scope
        self._cluster = cluster

    def plan(self, wish: Wish) -> Plan:
        if wish.kind in _CANNOT:
            raise Refused(_CANNOT[wish.kind].format(target=wish.target))
        with _rights():
            match wish.kind:
                case Kind.KILL:
                    return self._kill(wish)
                case Kind.CUT:
                    return self._cut(wish)
                case Kind.FILL:
                    return self._fill(wish)
                case Kind.GPU:
                    return self._gpu(wish)
                case _:
                    return self._region(wish)

    def undo(self, fault: Fault) -> None:
        with _rights():
            for step in fault.undo:
                if step.get("cluster") == self._cluster:
                    _UNDO[step["do"]](self._client, step)

    def _pods(self, word: str, name: str = "") -> list[dict[str, Any]]:
        """Give Berth's own pods that hold engines or gateways, by the beginning of their deployment's name."""
        if word not in (ENGINE, GATEWAY):
            raise Refused(
                f"In a cluster the targets are engine:NAME, gateway:NAME and node:NAME, not {word!r}."
            )
        pods = self._scope.everywhere(self._client, kinds.POD, self._scope.selector())
        found = [
            pod
            for pod in pods
            if label_of(pod, NAME) == word and name in str(pod["metadata"].get("name", ""))
        ]
        if not found:
            raise Refused(f"No pod of {word} {name or '(any)'} is there in cluster {self._cluster}.")
        return found

    def _kill(self, wish: Wish) -> Plan:
        pods = wish.among(self._pods(wish.word, wish.name))
        return Plan(told=f"delete without grace: {_listed(pods)}", do=lambda: self._delete(pods))

    def _delete(self, pods: list[dict[str, Any]]) -> None:
        with _rights():
            for pod in pods:
                meta = pod["metadata"]
                self._client.delete(kinds.POD, meta["name"], meta["namespace"], uid=meta["uid"], grace_s=0)

    def _cut(self, wish: Wish) -> Plan:
        """Take everything out of the policies that let others reach these pods; each deployment has one of its own."""
        owners = {(pod["metadata"]["namespace"], _policy_of(pod)) for pod in self._pods(wish.word, wish.name)}
        held = []
        for namespace, name in sorted(owners):
            policy = self._client.get(kinds.NETWORK_POLICY, name, namespace)
            if policy is None:
                raise Refused(
                    f"{namespace} has no NetworkPolicy {name}: nothing of Berth's lets traffic through to take away."
                )
            held.append((namespace, name, policy["spec"]))
        steps = [
            {"do": "policy", "cluster": self._cluster, "namespace": namespace, "name": name, "spec": spec}
            for namespace, name, spec in held
        ]

        def cut() -> None:
            with _rights():
                for namespace, name, _ in held:
                    nothing = {"spec": {"ingress": [], "egress": []}}
                    self._client.patch(kinds.NETWORK_POLICY, name, namespace, nothing)

        listed = ", ".join(f"{namespace}/{name}" for namespace, name, _ in held)
        # Berth repairs what it finds changed, so that it is taken away again and again.
        return Plan(told=f"NetworkPolicies let nothing through: {listed}", do=cut, hold=cut, undo=steps)

    def _fill(self, wish: Wish) -> Plan:
        """Fill a gateway's volume from a pod beside it, which removes its file itself when its time is over."""
        if wish.word != GATEWAY:
            raise Refused("Only a gateway's disk is filled: the target is gateway:NAME.")
        pod = wish.rng.choice(self._pods(GATEWAY, wish.name))
        filler = filling(pod, seconds=wish.seconds)
        meta = filler["metadata"]
        step = {"do": "pod", "cluster": self._cluster, "namespace": meta["namespace"], "name": meta["name"]}

        def fill() -> None:
            with _rights():
                self._client.create(kinds.POD, filler)

        return Plan(told=f"the volume of {_listed([pod])} is full", do=fill, undo=[step])

    def _gpu(self, wish: Wish) -> Plan:
        if wish.word != "node" or not wish.name:
            raise Refused("In a cluster GPUs are those of a node: the target is node:NAME.")
        if self._client.get(kinds.NODE, wish.name) is None:
            raise Refused(f"Cluster {self._cluster} has no node {wish.name}.")
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {
            "type": CONDITION,
            "status": "True",
            "reason": "Practised",
            "message": "XID 79, GPU has fallen off the bus (practised)",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }

        def mark() -> None:
            with _rights():
                operation = {"op": "add", "path": "/status/conditions/-", "value": condition}
                self._client.patch(kinds.NODE, wish.name, None, [operation], subresource="status")

        step = {"do": "node-condition", "cluster": self._cluster, "name": wish.name}
        return Plan(told=f"node {wish.name} has a GPU fault", do=mark, undo=[step])

    def _region(self, wish: Wish) -> Plan:
        """Cordon every node and end every pod of Berth's: nothing of it runs, and nothing comes back."""
        nodes = [
            node["metadata"]["name"]
            for node in self._client.list(kinds.NODE).items
            if not (node.get("spec") or {}).get("unschedulable")
        ]
        pods = [
            pod
            for pod in self._scope.everywhere(self._client, kinds.POD, self._scope.selector())
            if label_of(pod, NAME) in (ENGINE, GATEWAY)
        ]

        def lose() -> None:
            with _rights():
                for node in nodes:
                    self._client.patch(kinds.NODE, node, None, {"spec": {"unschedulable": True}})
            self._delete(pods)

        steps = [{"do": "uncordon", "cluster": self._cluster, "name": node} for node in nodes]
        return Plan(
            told=f"cluster {self._cluster} is lost: {len(nodes)} node(s) cordoned, {len(pods)} pod(s) ended",
            do=lose,
            undo=steps,
        )


def filling(pod: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """Give the pod that fills the volume of a gateway's pod for so long."""
    meta, spec = pod["metadata"], pod["spec"]
    gateway = next(each for each in spec["containers"] if each["name"] == "gateway")
    volume = next(each for each in spec["volumes"] if each["name"] == "data")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{FILLER}-{meta['name']}"[:63].rstrip("-"),
            "namespace": meta["namespace"],
            "labels": {"app.kubernetes.io/name": FILLER},
        },
        "spec": {
            "nodeName": spec.get("nodeName", ""),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 10,
            "activeDeadlineSeconds": int(seconds) + 60,
            "automountServiceAccountToken": False,
            **({"securityContext": spec["securityContext"]} if "securityContext" in spec else {}),
            "containers": [
                {
                    "name": "fill",
                    "image": gateway["image"],
                    "command": ["python", "-c", _SCRIPT, f"{DATA_AT}/{FILLER}", str(seconds)],
                    **(
                        {"securityContext": gateway["securityContext"]}
                        if "securityContext" in gateway
                        else {}
                    ),
                    "volumeMounts": [{"name": "data", "mountPath": DATA_AT}],
                }
            ],
            "volumes": [volume],
        },
    }


def _policy_of(pod: Mapping[str, Any]) -> str:
    return label_of(dict(pod), INSTANCE)


def _restore_policy(client: KubeClient, step: Mapping[str, Any]) -> None:
    with contextlib.suppress(NotFound):  # the deployment went meanwhile
        whole = {"ingress": None, "egress": None, **step["spec"]}
        client.patch(kinds.NETWORK_POLICY, step["name"], step["namespace"], {"spec": whole})


def _remove_condition(client: KubeClient, step: Mapping[str, Any]) -> None:
    node = client.get(kinds.NODE, step["name"])
    conditions = ((node or {}).get("status") or {}).get("conditions") or []
    # From the last, so that the places before stay what they are.
    for place in reversed(range(len(conditions))):
        if conditions[place].get("type") == CONDITION:
            path = f"/status/conditions/{place}"
            operations = [
                {"op": "test", "path": f"{path}/type", "value": CONDITION},
                {"op": "remove", "path": path},
            ]
            client.patch(kinds.NODE, step["name"], None, operations, subresource="status")


def _uncordon(client: KubeClient, step: Mapping[str, Any]) -> None:
    with contextlib.suppress(NotFound):
        client.patch(kinds.NODE, step["name"], None, {"spec": {"unschedulable": None}})


def _remove_pod(client: KubeClient, step: Mapping[str, Any]) -> None:
    client.delete(kinds.POD, step["name"], step["namespace"])


_UNDO: Final[Mapping[str, Callable[[KubeClient, Mapping[str, Any]], None]]] = {
    "policy": _restore_policy,
    "node-condition": _remove_condition,
    "uncordon": _uncordon,
    "pod": _remove_pod,
}


@contextlib.contextmanager
def _rights() -> Iterator[None]:
    """Say what to do where the account may not do it, or the cluster does not answer."""
    try:
        yield
    except Forbidden as error:
        raise Refused(
            f"{error.message} Berth's own account may not do this, and should not: give an administrator's with"
            " --kubeconfig FILE; it is read for this fault alone and kept nowhere."
        ) from error
    except Invalid as error:
        raise Refused(f"The cluster refuses it: {error.message}") from error
    except KubeError as error:
        raise Refused(f"The cluster cannot be asked: {error.message}") from error


def _listed(pods: list[dict[str, Any]]) -> str:
    return ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods)
