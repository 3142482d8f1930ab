"""Files that must be whole after a crash, and the lock of the gateway's data folder."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path


class FolderInUse(Exception):
    """Another process works in this data folder; the message names both."""


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` so that a reader, or the next start after a crash, sees old or new content whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    replace_durably(temporary, path)


def replace_durably(source: Path, target: Path) -> None:
    """Rename ``source`` over ``target`` and wait until the folder itself is on disk."""
    os.replace(source, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_instance(folder: Path) -> str:
    """Give the 8 hex digits that tell this data folder from any other, made on first use."""
    path = folder / "instance"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        instance = secrets.token_hex(4)
        write_atomically(path, instance.encode("ascii"))
        return instance


class FolderLock:
    """Holds ``folder`` for this process until it ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = (folder / "lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise FolderInUse(
                f"Another gateway (process {holder}) works in {folder}. Stop it, or give this one another"
                " BERTH_GATEWAY_NAME or BERTH_DATA_DIR."
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let the next process in."""
        self._file.close()
