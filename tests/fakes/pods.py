"""Real engines in fake pods: what a rendered container says is run by the tritonserver of this machine.

A pod's files come from its ConfigMap, its command and probes from its spec, its address is one of loopback's.
What the older tritonserver here does not know is left out: ``LEFT_OUT``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import httpx

from clusters.triton.server import Installation
from tests.fakes.kubelet_rest import Cluster, Object, meta

LEFT_OUT = ("--http-max-input-size",)


class Engines:
    """Starts the engine of each pod that is asked about; give it to a kubelet as ``engines``."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="berth-pods-"))
        self._triton = Installation.find()
        self._backends = self._triton.prepare_backends(self._folder)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def ready(self, cluster: Cluster, pod: Object, address: str) -> bool:
        """Have the pod's engine running at ``address``, and say whether its readiness probe passes."""
        uid = meta(pod)["uid"]
        if uid not in self._running:
            self._running[uid] = self._start(cluster, pod, address)
        (container,) = pod["spec"]["containers"]
        probe = container["readinessProbe"]["httpGet"]
        port = next(p["containerPort"] for p in container["ports"] if p["name"] == probe["port"])
        try:
            return httpx.get(f"http://{address}:{port}{probe['path']}", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def end(self, pod: Object) -> None:
        """Stop the pod's engine."""
        process = self._running.pop(meta(pod)["uid"], None)
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def stop(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, cluster: Cluster, pod: Object, address: str) -> subprocess.Popen[bytes]:
        uid = meta(pod)["uid"]
        root = self._folder / uid
        (container,) = pod["spec"]["containers"]
        places = {mount["name"]: root / mount["mountPath"].strip("/") for mount in container["volumeMounts"]}
        for volume in pod["spec"]["volumes"]:
            places[volume["name"]].mkdir(parents=True, exist_ok=True)
            for path, text in _files(cluster, meta(pod)["namespace"], volume):
                target = places[volume["name"]] / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
        own = self._triton.command(
            repository=root, backends=self._backends, port=0, metrics_port=0, admin_key="",
            shm_prefix=f"pod{uuid.uuid4().hex[:8]}_", exit_timeout_s=1,
        )  # fmt: skip
        here = [word for word in own.argv if word.startswith(("--backend-", "--allow-gpu"))]
        environment = {**own.env, "HOME": str(root)}
        for variable in container["env"]:
            known = meta(pod)["uid"] if "valueFrom" in variable else variable["value"]
            environment.setdefault(variable["name"], known)
        argv: list[str] = []
        for word in container["command"]:
            if word.startswith(LEFT_OUT):
                continue
            word = re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], word)
            argv.append(_inside(word, root))
            if word == "tritonserver":
                argv[-1] = own.argv[0]
                argv += [*here, f"--http-address={address}", f"--metrics-address={address}"]
        log = (root / "log").open("wb")
        with log:
            return subprocess.Popen(argv, env=environment, stdout=log, stderr=log, cwd=root)


def _files(cluster: Cluster, namespace: str, volume: Object) -> list[tuple[str, str]]:
    sources = volume.get("projected", {}).get("sources", []) or [volume]
    found = []
    for source in sources:
        if "configMap" not in source:
            continue
        data: dict[str, Any] = cluster.read("/api/v1/configmaps", namespace, source["configMap"]["name"])[
            "data"
        ]
        items = source["configMap"].get("items") or [{"key": key, "path": key} for key in data]
        found += [(item["path"], data[item["key"]]) for item in items]
    return found


def _inside(word: str, root: Path) -> str:
    """Put the container's absolute paths below ``root``."""
    head, mark, path = word.rpartition("=")
    if path.startswith(("/berth", "/tmp/")):
        return f"{head}{mark}{root}{path}"
    return word
