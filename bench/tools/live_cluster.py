"""Orders on a Kubernetes cluster and what becomes of them, with all of Berth running."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from bench.tools import berth, clusters
from bench.tools.api_server import ApiServer
from bench.tools.figures import Figures, quantiles
from bench.tools.pods import is_ready
from clusters.kube import kinds
from clusters.kube.client import KubeClient, Watch
from clusters.kube.errors import KubeError
from clusters.kube.kinds import Kind
from portal.demo import accounts
from tests.fakes.kubelet import Kubelet
from tests.scenarios.stack import Session, wait

ENDPOINTS: Final = 12
PATIENCE_S: Final = 90.0
LOOK_EVERY_S: Final = 0.03
START_S: Final = 0.6
MODEL: Final = "llama-3.1-8b-instruct"
ORDER: Final = {"model": MODEL, "context_tokens": 8192, "replicas": 1}
PROCESSES: Final = ("web", "worker", "beat", "gateway", "watch")


def measure(server: ApiServer) -> Figures:
    """Order endpoints one after another; of each kill the pod, await the next one's readiness, and delete it.

    The first, which finds all processes cold and makes the project's namespace, is told apart. Objects and pods
    are timed as a watch at the API server shows them, the portal as a client sees it that asks every 30 ms.
    """
    times: dict[str, list[float]] = {}
    with berth.running(*PROCESSES) as running, _kubelet(server), _Watcher(server) as seen:
        with clusters.steps(running) as steps:
            steps.take("prepare", gpus=1)
        operator = Session(running.portal, accounts.OPERATOR)
        operator.post("/clusters", registration("live", server))
        owner = Session(running.portal, accounts.TENANTS[0].owner)
        cold = _life(owner, seen, "bench-cold")
        for number in range(ENDPOINTS):
            for step, seconds in _life(owner, seen, f"bench-{number}").items():
                times.setdefault(step, []).append(seconds)
    figures: Figures = {
        "live_endpoints": ENDPOINTS,
        "cold_order_to_first_apply_s": cold["order_to_first_apply"],
    }
    for step, values in times.items():
        figures |= quantiles(step, values, "s")
    return figures


def registration(name: str, server: ApiServer) -> dict[str, Any]:
    """Give the body that registers an API server as a cluster of the demo's first region."""
    credentials = {name: getattr(server.admin, name) for name in ("server", "ca_data", "token")}
    return {
        "name": name,
        "region": accounts.GATEWAY_REGION,
        "runtimes": ["triton-llmapi"],
        "credentials": credentials,
    }


def _life(owner: Session, seen: _Watcher, name: str) -> dict[str, float]:
    begun = time.monotonic()
    endpoint_id = str(owner.order(name, **ORDER)["id"])
    accepted = time.monotonic()
    first = seen.first("Service", endpoint_id)
    anchor = seen.first("Deployment", endpoint_id)
    pod, ready = seen.ready_pod(endpoint_id, besides="")
    _until(owner, endpoint_id, lambda shown: _phases(shown).get(pod) == "ready")
    told = time.monotonic()
    _until(owner, endpoint_id, lambda shown: shown["state"] == "ready")
    serves = time.monotonic()

    killed = seen.kill(endpoint_id)
    _until(owner, endpoint_id, lambda shown: shown["state"] != "ready" or pod not in _phases(shown))
    missed = time.monotonic()
    another, again = seen.ready_pod(endpoint_id, besides=pod)
    _until(owner, endpoint_id, lambda shown: _phases(shown).get(another) == "ready")
    told_again = time.monotonic()

    owner.delete(f"/endpoints/{endpoint_id}")
    asked = time.monotonic()
    wait(lambda: _is_gone(owner, endpoint_id), PATIENCE_S, lambda: "it was not deleted", LOOK_EVERY_S)
    return {
        "order_to_accepted": accepted - begun,
        "order_to_first_apply": first - accepted,
        "order_to_deployment": anchor - accepted,
        "order_to_ready": serves - begun,
        "pod_ready_to_portal": told - ready,
        "pod_killed_to_portal": missed - killed,
        "next_pod_ready_to_portal": told_again - again,
        "delete_to_released": time.monotonic() - asked,
    }


def _until(owner: Session, endpoint_id: str, there: Any) -> None:
    shown: dict[str, Any] = {}

    def look() -> bool:
        shown.update(owner.endpoint(endpoint_id))
        return bool(there(shown))

    wait(look, PATIENCE_S, lambda: f"it is {shown.get('state')}: {shown.get('reason')}", LOOK_EVERY_S)


def _phases(shown: dict[str, Any]) -> dict[str, str]:
    return {replica["id"]: replica["phase"] for replica in shown["observed_replicas"]}


def _is_gone(owner: Session, endpoint_id: str) -> bool:
    answer = owner.client.get(f"/api/v1/endpoints/{endpoint_id}")
    return answer.status_code == 404 or answer.json()["state"] == "deleted"


@contextlib.contextmanager
def _kubelet(server: ApiServer) -> Iterator[Kubelet]:
    trusted = ssl.create_default_context(cadata=server.admin.ca_data)
    with Kubelet(server.admin.server, token=server.admin.token, verify=trusted) as kubelet:
        kubelet.start_s = START_S
        for number in range(2):
            kubelet.add_node(f"gpu-{number}")
        yield kubelet


class _Watcher:
    """Notes when objects of endpoints come, and when their pods become ready, for the length of a block."""

    def __init__(self, server: ApiServer) -> None:
        self._client = KubeClient(server.admin)
        self._first: dict[tuple[str, str], float] = {}
        self._ready: dict[str, dict[str, float]] = {}
        self._pods: dict[str, dict[str, tuple[str, str]]] = {}
        self._changed = threading.Condition()
        self._watches: list[Watch] = []
        self._over = False

    def __enter__(self) -> _Watcher:
        for kind in (kinds.SERVICE, kinds.DEPLOYMENT, kinds.POD):
            version = self._client.list(kind).resource_version
            threading.Thread(target=self._follow, args=(kind, version), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for watch in self._watches:
            watch.break_off()
        self._client.close()

    def first(self, kind: str, endpoint_id: str) -> float:
        """When the first object of a kind came."""
        return self._wait(lambda: self._first.get((kind, endpoint_id)), f"no {kind} came")

    def ready_pod(self, endpoint_id: str, *, besides: str) -> tuple[str, float]:
        """The pod, by its uid, that became ready, and when."""

        def found() -> tuple[str, float] | None:
            pods = self._ready.get(endpoint_id, {})
            return next(((uid, at) for uid, at in pods.items() if uid != besides), None)

        return self._wait(found, "no pod became ready")

    def kill(self, endpoint_id: str) -> float:
        """End the endpoint's pods as a lost node would; give when."""
        with self._changed:
            present = list(self._pods[endpoint_id].values())
        killed = time.monotonic()
        for namespace, name in present:
            self._client.delete(kinds.POD, name, namespace, grace_s=0)
        return killed

    def _wait(self, what: Any, otherwise: str) -> Any:
        with self._changed:
            if not self._changed.wait_for(lambda: what() is not None, PATIENCE_S):
                raise RuntimeError(otherwise)
            return what()

    def _follow(self, kind: Kind, version: str) -> None:
        while not self._over:
            watch = self._client.watch(kind, resource_version=version)
            self._watches.append(watch)
            try:
                for event in watch:
                    version = event.object["metadata"]["resourceVersion"]
                    self._note(kind, event.type, event.object)
            except KubeError:
                if not self._over:
                    raise

    def _note(self, kind: Kind, happened: str, obj: dict[str, Any]) -> None:
        now, meta = time.monotonic(), obj["metadata"]
        endpoint_id = (meta.get("labels") or {}).get("berth.dev/endpoint")
        if not endpoint_id:
            return
        with self._changed:
            self._first.setdefault((kind.kind, endpoint_id), now)
            if kind == kinds.POD and happened == "DELETED":
                self._pods.get(endpoint_id, {}).pop(meta["uid"], None)
            elif kind == kinds.POD:
                self._pods.setdefault(endpoint_id, {})[meta["uid"]] = (meta["namespace"], meta["name"])
                if is_ready(obj):
                    self._ready.setdefault(endpoint_id, {}).setdefault(meta["uid"], now)
            self._changed.notify_all()
