"""The store behind the played kubelet: objects by list-then-watch, own writes read back at once."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from typing import Any

import httpx

Object = dict[str, Any]

PATHS = {
    "namespaces": "/api/v1/namespaces",
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "persistentvolumeclaims": "/api/v1/persistentvolumeclaims",
    "resourcequotas": "/api/v1/resourcequotas",
    "deployments": "/apis/apps/v1/deployments",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "jobs": "/apis/batch/v1/jobs",
    "leaderworkersets": "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets",
}
MERGE = {"Content-Type": "application/merge-patch+json"}
WATCH_S = 3


def meta(obj: Object) -> Object:
    """An object's metadata."""
    found: Object = obj["metadata"]
    return found


def label_of(obj: Object, key: str) -> str:
    """One label, empty where there is none."""
    return str((meta(obj).get("labels") or {}).get(key, ""))


class Cluster:
    """Objects of an API server, kept by watches. ``changed`` is set when something did."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._objects: dict[str, dict[str, Object]] = {kind: {} for kind in PATHS}
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.changed = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=(kind,), name=f"kubelet-{kind}", daemon=True)
            for kind in PATHS
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WATCH_S + 2)
        self._http.close()

    def kinds(self) -> list[str]:
        return list(PATHS)

    def path(self, kind: str) -> str:
        return PATHS[kind]

    def of(self, kind: str) -> list[Object]:
        """Every object of a kind, oldest first."""
        with self._lock:
            objects = list(self._objects[kind].values())
        return sorted(objects, key=lambda o: (meta(o).get("creationTimestamp") or "", meta(o)["name"]))

    def read(self, path: str, namespace: str | None, name: str) -> Object:
        return self._answer(self._http.get(_at(path, namespace, name))) or {}

    def read_all(self, path: str, namespace: str) -> list[Object]:
        found = self._answer(self._http.get(_at(path, namespace)))
        return list((found or {}).get("items") or [])

    def create(self, path: str, namespace: str | None, obj: Object) -> Object | str:
        """The object created, or why the server refused it."""
        answer = self._http.post(_at(path, namespace), json=obj)
        if answer.status_code in (403, 404, 409, 422):
            return str(answer.json().get("message", ""))
        return self._keep(path, self._answer(answer)) or {}

    def patch(
        self, path: str, namespace: str | None, name: str, body: Object, subresource: str = ""
    ) -> Object | None:
        """A merge patch; None where the object is gone."""
        url = _at(path, namespace, name) + (f"/{subresource}" if subresource else "")
        return self._keep(path, self._answer(self._http.patch(url, content=json.dumps(body), headers=MERGE)))

    def delete(self, path: str, namespace: str | None, name: str, *, grace_s: int | None = None) -> None:
        options: Object = {"propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        answer = self._answer(self._http.request("DELETE", _at(path, namespace, name), json=options))
        if answer and answer.get("kind") not in (None, "Status"):
            self._keep(path, answer)

    def bind(self, pod: Object, node: str) -> None:
        namespace, name = meta(pod)["namespace"], meta(pod)["name"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        answer = self._http.post(_at(PATHS["pods"], namespace, name) + "/binding", json=body)
        if answer.status_code == 409:
            return
        if answer.is_error:  # a stand-in without this subresource
            self.patch(PATHS["pods"], namespace, name, {"spec": {"nodeName": node}})
        self._keep(PATHS["pods"], self._answer(self._http.get(_at(PATHS["pods"], namespace, name))))

    def unblock(self, path: str, obj: Object) -> None:
        """Take the finalizers off."""
        if meta(obj).get("finalizers"):
            self.patch(
                path, meta(obj).get("namespace"), meta(obj)["name"], {"metadata": {"finalizers": None}}
            )

    def finalize(self, namespace: Object) -> None:
        """Let a namespace go that has nothing left."""
        body = {**namespace, "apiVersion": "v1", "kind": "Namespace", "spec": {"finalizers": []}}
        self._answer(
            self._http.put(_at(PATHS["namespaces"], None, meta(body)["name"]) + "/finalize", json=body)
        )

    def _answer(self, answer: httpx.Response) -> Object | None:
        if answer.status_code in (404, 409):
            return None
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text[:500], request=answer.request, response=answer)
        found: Object = answer.json()
        return found

    def _keep(self, path: str, obj: Object | None) -> Object | None:
        kind = path.rpartition("/")[2]
        if obj is not None and kind in self._objects and obj.get("metadata", {}).get("uid"):
            self._see(kind, "MODIFIED", obj)
        return obj

    def _see(self, kind: str, happened: str, obj: Object) -> None:
        uid, version = meta(obj)["uid"], int(meta(obj)["resourceVersion"])
        with self._lock:
            objects = self._objects[kind]
            if happened == "DELETED":
                objects.pop(uid, None)
                self._ended[uid] = time.monotonic()
            elif uid not in self._ended and (
                uid not in objects or int(meta(objects[uid])["resourceVersion"]) <= version
            ):
                objects[uid] = obj
        self.changed.set()

    def _follow(self, kind: str) -> None:
        version = ""
        while not self._stop.is_set():
            try:
                version = self._watch(kind, version) if version else self._list(kind)
            except (httpx.HTTPError, httpx.StreamError, ValueError):
                version = ""
                self._stop.wait(0.2)

    def _list(self, kind: str) -> str:
        answer = self._http.get(PATHS[kind])
        if answer.status_code == 404:  # an API that this server lacks
            self._stop.wait(0.5)
            return ""
        listing = self._answer(answer) or {}
        present = {meta(item)["uid"] for item in listing.get("items") or []}
        with self._lock:
            gone = [uid for uid in self._objects[kind] if uid not in present]
            for uid in gone:
                del self._objects[kind][uid]
        for item in listing.get("items") or []:
            self._see(kind, "MODIFIED", item)
        return str(listing["metadata"]["resourceVersion"])

    def _watch(self, kind: str, version: str) -> str:
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
        query["allowWatchBookmarks"] = "true"
        with self._http.stream("GET", PATHS[kind], params=query, timeout=WATCH_S + 5) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if self._stop.is_set():
                    break
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return ""
                version = str(meta(event["object"])["resourceVersion"])
                if event["type"] != "BOOKMARK":
                    self._see(kind, event["type"], event["object"])
        return version


def _at(path: str, namespace: str | None, name: str = "") -> str:
    root, _, plural = path.rpartition("/")
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{place}/{plural}" + (f"/{name}" if name else "")


def now() -> str:
    """The time as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: str = "True", reason: str = "", says: str = "") -> Object:
    """A condition that has just changed."""
    said = {"type": kind, "status": status, "lastTransitionTime": now()}
    return said | ({"reason": reason} if reason else {}) | ({"message": says} if says else {})
