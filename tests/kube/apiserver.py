"""A real kube-apiserver and etcd on loopback, where their programs are found: the field's envtest convention."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.kube.errors import KubeError

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
START_S = 90
WHY_NONE = (
    "no real API server; set KUBEBUILDER_ASSETS to a folder with kube-apiserver and etcd "
    "(else /usr/local/kubebuilder/bin is asked)"
)


@dataclasses.dataclass(frozen=True)
class ApiServer:
    """A running API server: its address, its authority (PEM), and a token of group ``system:masters``."""

    server: str
    ca_data: str
    token: str

    @property
    def admin(self) -> Credentials:
        return self.credentials(self.token)

    def credentials(self, token: str) -> Credentials:
        return Credentials(server=self.server, ca_data=self.ca_data, token=token)


def programs() -> tuple[Path, Path] | None:
    """Find kube-apiserver and etcd; None where one is missing."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin")
    server = folder / "kube-apiserver"
    etcd = shutil.which("etcd", path=str(folder)) or shutil.which("etcd")
    return (server, Path(etcd)) if os.access(server, os.X_OK) and etcd else None


@contextlib.contextmanager
def running() -> Iterator[ApiServer]:
    """Start both in a folder of their own, and leave nothing of them behind."""
    found = programs()
    if found is None:
        raise RuntimeError(WHY_NONE)
    folder = Path(tempfile.mkdtemp(prefix="berth-apiserver-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        yield _start(*found, folder, processes)
    finally:
        for process in reversed(processes):
            _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(program: Path, etcd: Path, folder: Path, processes: list[subprocess.Popen[bytes]]) -> ApiServer:
    client_port, peer_port, port = _free_ports(3)
    store = f"http://127.0.0.1:{client_port}"
    peer = f"http://127.0.0.1:{peer_port}"
    processes.append(
        _spawn(
            folder / "etcd.log",
            [
                str(etcd),
                *("--data-dir", str(folder / "etcd"), "--name", "test", "--unsafe-no-fsync"),
                *("--listen-client-urls", store, "--advertise-client-urls", store),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"test={peer}"),
            ],
        )
    )
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    (folder / "sa.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    processes.append(
        _spawn(
            folder / "apiserver.log",
            [
                str(program),
                f"--etcd-servers={store}",
                f"--secure-port={port}",
                "--bind-address=127.0.0.1",
                f"--cert-dir={folder / 'certs'}",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={folder / 'sa.pub'}",
                f"--service-account-signing-key-file={folder / 'sa.key'}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=Node,RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ],
        )
    )
    return _wait(ApiServer(f"https://127.0.0.1:{port}", "", token), folder, processes)


def _wait(server: ApiServer, folder: Path, processes: list[subprocess.Popen[bytes]]) -> ApiServer:
    until = time.monotonic() + START_S
    authority = folder / "certs" / "apiserver.crt"
    failure = "it made no certificate"
    while time.monotonic() < until:
        if any(process.poll() is not None for process in processes):
            break
        if authority.exists() and (text := authority.read_text()).endswith("-----END CERTIFICATE-----\n"):
            server = dataclasses.replace(server, ca_data=text)
            try:
                if _ready(server):
                    return server
                failure = "it is not ready"
            except KubeError as error:
                failure = error.message
        time.sleep(0.2)
    tail = (folder / "apiserver.log").read_text(errors="replace")[-3000:]
    raise RuntimeError(f"the API server did not come up: {failure}\n{tail}")


def _ready(server: ApiServer) -> bool:
    with contextlib.closing(KubeClient(server.admin)) as client:
        # The default namespace and RBAC's own roles come from hooks that run after start.
        return (
            client.get(kinds.NAMESPACE, "default") is not None
            and client.get(kinds.CLUSTER_ROLE, "view") is not None
        )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _spawn(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    """Have Linux end this process with the thread that started it, however that ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
