"""An API server in processes of its own: the real one where its programs are found, else the stand-in.

``python -m bench.tools.api_server`` runs the stand-in until its standard input ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from bench.tools.load import ROOT
from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.kube.kinds import Kind
from tests.fakes.kube_api import FakeKube
from tests.kube import apiserver

OURS: Final = "app.kubernetes.io/managed-by=berth"
MADE: Final = (
    kinds.NAMESPACE,
    kinds.SERVICE_ACCOUNT,
    kinds.CONFIG_MAP,
    kinds.SECRET,
    kinds.PVC,
    kinds.RESOURCE_QUOTA,
    kinds.LIMIT_RANGE,
    kinds.NETWORK_POLICY,
    kinds.SERVICE,
    kinds.PDB,
    kinds.JOB,
    kinds.DEPLOYMENT,
)


@dataclasses.dataclass(frozen=True)
class ApiServer:
    """A running API server: which one it is, and how its administrator is let in."""

    kind: str
    admin: Credentials

    def versions(self) -> dict[str, str]:
        """Give the version of every object that Berth made, by its uid: what is written gets another."""
        with contextlib.closing(KubeClient(self.admin)) as client:
            return {
                each["metadata"]["uid"]: each["metadata"]["resourceVersion"]
                for kind in MADE
                for each in client.list(kind, labels=OURS).items
            }

    def count(self, kind: Kind) -> int:
        """Count Berth's objects of a kind."""
        with contextlib.closing(KubeClient(self.admin)) as client:
            return len(client.list(kind, labels=OURS).items)


@contextlib.contextmanager
def running() -> Iterator[ApiServer]:
    """Start one, empty; it ends with the block."""
    if apiserver.programs() is not None:
        with apiserver.running() as real:
            yield ApiServer("kube-apiserver", real.admin)
        return
    command = [sys.executable, "-m", "bench.tools.api_server"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        if process.stdout is None or process.stdin is None or not (told := process.stdout.readline()):
            raise RuntimeError("the stand-in for an API server did not start")
        yield ApiServer("stand-in", Credentials(**json.loads(told)))
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(30)


def main() -> None:
    """Run the stand-in; its first line of output lets its administrator in."""
    with FakeKube() as fake:
        admin = fake.admin
        print(
            json.dumps({"server": admin.server, "ca_data": admin.ca_data, "token": admin.token}), flush=True
        )
        sys.stdin.read()


if __name__ == "__main__":
    main()
