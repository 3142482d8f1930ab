"""The files through which the driver and the supervisor of one local cluster speak."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from clusters.drivers.base import GiveUp
from clusters.specs import DeploymentSpec, DeploymentStatus
from embedded.datadir import DataDir, write_json

HEARTBEAT_STALE_S: Final = 10.0
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_T = TypeVar("_T")


def check_name(kind: str, name: str, *, longest: int = 100) -> str:
    """Give ``name`` back if it may be part of a file's name.

    Raises:
        GiveUp: it may not.
    """
    if not _NAME.fullmatch(name) or len(name) > longest:
        raise GiveUp(
            f"{kind} name {name[:200]!r} must be 1 to {longest} lower-case letters, digits, dots and "
            "hyphens, with a letter or digit at both ends"
        )
    return name


class ClusterFolder:
    """``clusters/<cluster>/`` in the data folder: wanted specs, observed states, engines, logs."""

    def __init__(self, data_dir: DataDir, cluster: str) -> None:
        self.cluster = check_name("cluster", cluster)
        self._data_dir = data_dir
        base = f"clusters/{cluster}"
        self.desired = data_dir.folder(f"{base}/desired")
        self.status = data_dir.folder(f"{base}/status")
        self.engines = data_dir.folder(f"{base}/engines")
        self.repositories = data_dir.folder(f"{base}/repositories")
        self.logs = data_dir.folder(f"{base}/logs")
        self.marks = data_dir.folder(f"{base}/marks")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the driver from taking a spec back while the supervisor takes it up."""
        with self._data_dir.locked(f"cluster-{self.cluster}"):
            yield

    def read_desired(self, name: str) -> DeploymentSpec | None:
        return _read(self.desired / f"{name}.json", DeploymentSpec)

    def write_desired(self, spec: DeploymentSpec) -> None:
        write_json(self.desired / f"{spec.name}.json", msgspec.to_builtins(spec))

    def remove_desired(self, name: str) -> None:
        (self.desired / f"{name}.json").unlink(missing_ok=True)

    def read_status(self, name: str) -> DeploymentStatus | None:
        return _read(self.status / f"{name}.json", DeploymentStatus)

    def write_status(self, status: DeploymentStatus) -> None:
        write_json(self.status / f"{status.name}.json", msgspec.to_builtins(status))

    def has_status(self, name: str) -> bool:
        return (self.status / f"{name}.json").exists()

    def remove_status(self, name: str) -> None:
        (self.status / f"{name}.json").unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Name every deployment that is wanted or still there."""
        found = (*self.desired.glob("*.json"), *self.status.glob("*.json"))
        return sorted({path.stem for path in found if not path.name.startswith(".")})

    @property
    def lost_mark(self) -> Path:
        """Say where it is marked that this cluster is gone for now, its engines with it."""
        return self.marks / "lost"

    @property
    def lost(self) -> bool:
        return self.lost_mark.exists()

    def gpu_mark(self, name: str, index: int) -> Path:
        """Say where a fault of the GPUs that a replica runs on is marked; what is wrong is in it."""
        return self.marks / f"gpu-{check_name('deployment', name)}-{index}"

    def gpu_fault(self, name: str, index: int) -> str:
        """Say what is wrong with the GPUs of a replica, empty where nothing is."""
        try:
            return self.gpu_mark(name, index).read_text()
        except FileNotFoundError:
            return ""

    def repository(self, name: str, digest: str) -> Path:
        """Say where the model repository of a deployment's engines is."""
        return self.repositories / name / digest

    def log(self, name: str, replica_id: str) -> Path:
        """Say where an engine's log is."""
        return self.logs / name / f"{check_name('replica', replica_id, longest=120)}.log"

    def remove_files(self, name: str) -> None:
        """Remove a deployment's repositories and logs."""
        for folder in (self.repositories / name, self.logs / name):
            shutil.rmtree(folder, ignore_errors=True)


class Heartbeat:
    """The sign of life of the data folder's supervisor: a file's modification time."""

    def __init__(self, data_dir: DataDir) -> None:
        self._path = data_dir.folder("clusters") / "supervisor.heartbeat"

    def beat(self) -> None:
        self._path.touch(mode=0o600)
        os.utime(self._path)

    def stop(self) -> None:
        """Say that the supervisor ends."""
        self._path.unlink(missing_ok=True)

    def age_s(self) -> float | None:
        """Give the seconds since the last beat, None when no supervisor runs."""
        try:
            return time.time() - self._path.stat().st_mtime
        except FileNotFoundError:
            return None


def _read(path: Path, kind: type[_T]) -> _T | None:
    """Read a file that `write_json` wrote; a file that is not of this kind is as good as none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
