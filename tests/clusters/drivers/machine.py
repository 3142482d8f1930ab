"""A data folder with a supervisor process of its own, for tests."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from clusters.drivers.local.driver import LocalDriver
from clusters.drivers.local.folder import Heartbeat
from clusters.specs import DeploymentSpec, ReplicaStatus
from embedded import processes
from embedded.datadir import DataDir
from embedded.processes import ProcessRecord

from .contract import LABELS, until


class Machine:
    """This machine as a cluster: a :class:`~tests.clusters.drivers.contract.World`."""

    patience_s = 60.0

    def __init__(self, path: Path) -> None:
        self.data_dir = DataDir(path)
        self.driver = LocalDriver(self.data_dir, "test")
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._log = path / "supervisor.log"

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "clusters.drivers.local.supervisor"],
                env=os.environ | {"BERTH_DATA_DIR": str(self.data_dir.path)},
                stdout=log,
                stderr=log,
            )
        heartbeat, began = Heartbeat(self.data_dir), time.monotonic()

        def beaten() -> bool:
            age = heartbeat.age_s()
            return age is not None and age < time.monotonic() - began

        until(beaten, patience_s=self.patience_s, what="the supervisor's first beat")

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        assert self._supervisor is not None
        self._supervisor.send_signal(signum)
        return self._supervisor.wait(30)

    def stop_for_good(self) -> None:
        self.stop()
        processes.reap_orphans(self.data_dir)

    def spec(self, name: str, *, replicas: int = 1) -> DeploymentSpec:
        return DeploymentSpec(
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
        )

    def changed(self, spec: DeploymentSpec) -> DeploymentSpec:
        return dataclasses.replace(spec, context_tokens=spec.context_tokens // 2)

    def impossible(self, name: str) -> DeploymentSpec:
        return dataclasses.replace(self.spec(name), runtime="triton-llmapi")

    def writes(self) -> int:
        """Give a number that changes with every write of a spec."""
        folder = self.data_dir.path / "clusters" / "test" / "desired"
        return hash(tuple(sorted((p.name, p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir())))

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    def server_of(self, replica: ReplicaStatus) -> ProcessRecord:
        """The running tritonserver of a replica, whose process is named by the same token."""
        token = replica.replica_id.rpartition("-")[2]
        (found,) = (record for record in self.servers() if record.name == f"engine-{token}")
        return found

    def servers(self) -> list[ProcessRecord]:
        """The running tritonservers."""
        found = processes.records(self.data_dir)
        return [r for r in found if r.name.startswith("engine-") and processes.alive(r)]

    def stubs(self) -> list[int]:
        """The process ids of Triton's python stubs that belong to this folder."""
        mark = f"BERTH_INSTANCE={self.data_dir.instance}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if b"triton_python_backend_stub" in command and mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def shared_memory(self) -> list[str]:
        """Names of this folder's regions in /dev/shm."""
        return [path.name for path in Path("/dev/shm").glob(f"berth_{self.data_dir.instance}_*")]
