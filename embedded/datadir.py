"""The data folder: everything that an embedded Berth keeps on disk lives below it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

ENVIRONMENT_NAME = "BERTH_DATA_DIR"
DEFAULT_PATH = ".berth"
SUBFOLDERS = ("run", "logs", "locks")


def write_json(path: Path, value: Any, *, mode: int = 0o600) -> None:
    """Write ``value`` to ``path`` so that a reader, or a crash, sees the old file or the new one whole."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_json(path: Path, default: Any = None) -> Any:
    """Read what `write_json` wrote; ``default`` when there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return default


class DataDir:
    """A data folder, created with its subfolders on first use; only its owner may look inside.

    ``instance`` (8 hex digits) marks the processes and shared memory that belong to this folder.
    A folder that was copied or moved gets an instance of its own, so that a copy never reaps
    the original's processes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in SUBFOLDERS:
            self.folder(name)
        self.instance = self._instance()

    @classmethod
    def from_environment(cls) -> Self:
        """Open the folder that BERTH_DATA_DIR names, else ``.berth`` in the current folder."""
        return cls(os.environ.get(ENVIRONMENT_NAME) or DEFAULT_PATH)

    def __repr__(self) -> str:
        return f"DataDir({str(self.path)!r}, instance={self.instance!r})"

    @property
    def run(self) -> Path:
        """Records of live processes, one JSON file each."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """Log files, one per process."""
        return self.path / "logs"

    def folder(self, name: str) -> Path:
        """Give the subfolder ``name``, created with mode 0700 if it is missing."""
        folder = self.path / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def file(self, name: str) -> Path:
        """Give the path of a file directly in the folder."""
        return self.path / name

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the folder's lock ``name``, waiting for other processes and threads that hold it."""
        with open(self.folder("locks") / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _instance(self) -> str:
        path = self.file("instance.json")
        here = str(self.path.resolve())
        with self.locked("instance"):
            kept = read_json(path)
            if not isinstance(kept, dict) or kept.get("path") != here:
                kept = {"instance": secrets.token_hex(4), "path": here}
                write_json(path, kept)
        return str(kept["instance"])


def open_data_dir(path: str | os.PathLike[str] | None = None) -> DataDir:
    """Open ``path``, or what the environment names when it is None."""
    return DataDir.from_environment() if path is None else DataDir(path)
