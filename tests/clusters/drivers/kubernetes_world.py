"""A Kubernetes cluster for driver tests: an API server, played kubelets, and Berth as its ServiceAccount."""

from __future__ import annotations

import contextlib
import dataclasses
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from clusters.drivers.kubernetes.driver import KubernetesDriver
from clusters.kube import kinds
from clusters.kube.client import KubeClient, Request
from clusters.kube.credentials import Credentials
from clusters.kube.kinds import Kind, kind_of
from clusters.kube.manifests import ClusterFacts, namespace_of
from clusters.kube.renewal import renew
from clusters.specs import DeploymentSpec, EngineImage, Owner
from tests.clusters.drivers.contract import LABELS, until
from tests.fakes.kube_api import FakeKube
from tests.fakes.kubelet import Kubelet

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "deploy" / "cluster"
INSTALLATION = "c0ffee"
REGISTRY = "registry.test/berth/"
IMAGE = EngineImage(reference=f"{REGISTRY}engine:1", digest=f"sha256:{'a' * 64}")
NODES = [f"gpu-{number}" for number in range(1, 9)]
LWS_CRD: Mapping[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "leaderworkersets.leaderworkerset.x-k8s.io"},
    "spec": {
        "group": "leaderworkerset.x-k8s.io",
        "scope": "Namespaced",
        "names": {
            "plural": "leaderworkersets",
            "singular": "leaderworkerset",
            "kind": "LeaderWorkerSet",
            "listKind": "LeaderWorkerSetList",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


class Server(Protocol):
    """An API server, real or a stand-in."""

    @property
    def server(self) -> str: ...

    @property
    def ca_data(self) -> str: ...

    @property
    def admin(self) -> Credentials: ...

    def credentials(self, token: str) -> Credentials: ...


class KubernetesWorld:
    """A :class:`~tests.clusters.drivers.contract.World`. ``requests`` are those of the driver's client."""

    patience_s = 30.0

    def __init__(self, server: Server) -> None:
        self.server = server
        self.admin = KubeClient(server.admin)
        self.requests: list[Request] = []
        for document in documents("cluster-wide"):
            self.admin.apply(document)
        self.allow(REGISTRY)
        if isinstance(server, FakeKube):
            server.serve(kinds.LEADER_WORKER_SET)
        else:
            self.admin.apply(LWS_CRD)
        until(
            lambda: kinds.LEADER_WORKER_SET in self.admin.features(fresh=True),
            patience_s=self.patience_s,
            what="the LeaderWorkerSet API",
        )
        host, _, port = server.server.removeprefix("https://").partition(":")
        self.line = Line(host, int(port))
        self.kubelet = Kubelet(
            server.server,
            token=server.admin.token,
            verify=ssl.create_default_context(cadata=server.ca_data),
        )
        if isinstance(server, FakeKube):  # a stand-in asks no kubelet for logs
            self.kubelet.on_log = server.set_log
        self.line.open()
        self.driver = self.driver_with()

    def start(self) -> None:
        self.kubelet.start()
        for name in NODES:
            self.kubelet.add_node(name)

    def stop(self) -> None:
        self.kubelet.stop()
        for name in NODES:
            self.admin.delete(kinds.NODE, name)
        self.driver.close()
        self.line.close()
        self.admin.close()

    def token(self) -> str:
        """A fresh token of Berth's ServiceAccount."""
        return renew(self.admin, "berth-system", "berth", 3600)[0]

    def berth(self, token: str | None = None) -> KubeClient:
        """A client that is Berth's ServiceAccount and nothing more."""
        given = self.server.credentials(token or self.token())
        client = KubeClient(
            dataclasses.replace(given, server=f"https://127.0.0.1:{self.line.port}"),
            connect_timeout_s=1.0,
            read_timeout_s=5.0,
        )
        client.on_request = self.requests.append
        return client

    def driver_with(self, **choices: Any) -> KubernetesDriver:
        """Another driver of the same cluster; ``choices`` are facts, or the driver's own."""
        own = {key: choices.pop(key) for key in ("drift", "namespaces") if key in choices}
        return KubernetesDriver(self.berth(), self.facts(**choices), **own)

    def facts(self, **choices: Any) -> ClusterFacts:
        """What rendering knows of this cluster."""
        return ClusterFacts(**{"installation": INSTALLATION, **choices})

    def allow(self, *images: str) -> None:
        """Say which images may run."""
        listed = {"data": {"images": "\n".join(images) + "\n"}}
        self.admin.patch(kinds.CONFIG_MAP, "berth-images", "berth-system", listed)

    def spec(self, name: str, *, replicas: int = 1, **changes: Any) -> DeploymentSpec:
        spec = DeploymentSpec(
            name=name,
            labels=LABELS,
            runtime="triton-python",
            model="berth-docs-ngram",
            replicas=replicas,
            gpu_type="H100",
            gpus_per_replica=1,
            context_tokens=1024,
            max_output_tokens=512,
            max_batch_size=8,
            image=IMAGE,
            owner=Owner(tenant="acme", project=name[:20], project_id=f"project-of-{name}"),
        )
        return dataclasses.replace(spec, **changes)

    def changed(self, spec: DeploymentSpec) -> DeploymentSpec:
        return dataclasses.replace(spec, context_tokens=spec.context_tokens // 2)

    def impossible(self, name: str) -> DeploymentSpec:
        return dataclasses.replace(self.spec(name), runtime="steam-engine")

    def writes(self) -> int:
        return sum(request.writes for request in self.requests)

    def reads(self) -> int:
        return sum(request.verb in ("get", "list") for request in self.requests)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.line.close()
        try:
            yield
        finally:
            self.line.open()

    def berth_may_list(self) -> bool:
        """Whether the shipped role holds now."""
        return self.driver.client.can("list", kinds.POD)

    def place(self, spec: DeploymentSpec) -> str:
        """The namespace of a spec's project."""
        return namespace_of(spec, self.facts())

    def everything(self, namespace: str) -> list[tuple[str, str]]:
        """What an administrator finds in a namespace."""
        return [
            (kind.kind, each["metadata"]["name"])
            for kind in KINDS
            if self.admin.serves(kind)
            for each in self.admin.list(kind, namespace).items
        ]


KINDS: tuple[Kind, ...] = (
    *(kinds.DEPLOYMENT, kinds.LEADER_WORKER_SET, kinds.STATEFUL_SET, kinds.POD, kinds.JOB, kinds.SERVICE),
    *(kinds.CONFIG_MAP, kinds.SECRET, kinds.SERVICE_ACCOUNT, kinds.PVC, kinds.PDB, kinds.NETWORK_POLICY),
    *(kinds.RESOURCE_QUOTA, kinds.LIMIT_RANGE, kinds.HPA),
)


def documents(folder: str) -> list[dict[str, Any]]:
    """The objects of a folder of deploy/cluster, in the order in which kubectl would apply them."""
    found = [
        document
        for path in sorted((SHIPPED / folder).glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text("utf-8"))
    ]
    for document in found:
        kind_of(document)
    return found


class Line:
    """A TCP line to a server that can be cut and mended; its port stays the same."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._pairs.append((near, far))
            threading.Thread(target=_carry, args=(near, far), daemon=True).start()


def _carry(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    with near, far:
        while True:
            try:
                for end in select.select([near, far], [], [])[0]:
                    content = end.recv(65536)
                    if not content:
                        return
                    other[end].sendall(content)
            except (OSError, ValueError):
                return
