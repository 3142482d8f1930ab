"""Files at rest. All methods block, and may run in any thread."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from gateway.batches.crypto import KEY_BYTES, ChunkWriter, Damaged, KeyRing, new_key, read_chunks
from gateway.batches.layout import Layout
from gateway.batches.objects import FileRecord, Party, Purpose, content_binding, is_file_id, new_file_id
from gateway.files import sync_folder, write_atomically

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(FileRecord).decode
#: So long nobody writes on without a trace: what is older and has no record will never have one.
ABANDONED_S: Final = 3_600.0


def age_s(path: Path) -> float:
    """Give the seconds since ``path`` was written, by the clock of the disk that stamped it; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class NotThere(Exception):
    """There is no such file or batch, or it is another's."""


class FileStore:
    """Files of all tenants. A file is there once its record is, which comes after its content."""

    def __init__(self, layout: Layout, keys: KeyRing, *, clock: Callable[[], float] = time.time) -> None:
        self._layout = layout
        self._keys = keys
        self._clock = clock
        self._reported: set[Path] = set()

    def write(
        self, party: Party, purpose: Purpose, *, keep_s: float, file_id: str | None = None
    ) -> FileWriter:
        """Begin a file that is kept for ``keep_s`` seconds. Finish or abandon what is given."""
        folder = self._layout.files(party.tenant_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        now = self._clock()
        record = FileRecord(
            id=file_id or new_file_id(),
            party=party,
            purpose=purpose,
            created_at=now,
            expires_at=now + keep_s,
            size=0,
        )
        return FileWriter(folder, record, self._keys)

    def get(self, party: Party, file_id: str) -> FileRecord:
        """Find a file of ``party``.

        Raises:
            NotThere: there is none, or it is another's.
            Damaged: its record was changed.
        """
        if not is_file_id(file_id):
            raise NotThere
        record = self._read(self._layout.files(party.tenant_id) / f"{file_id}.json")
        if record.party != party:
            raise NotThere
        self._open(record)
        return record

    def of_tenant(self, tenant_id: str) -> list[FileRecord]:
        """Give all files of a tenant, in no order; damaged ones are left out, aloud."""
        records = []
        for path in self._layout.files(tenant_id).glob("file-*.json"):
            with contextlib.suppress(NotThere):
                try:
                    records.append(self._read(path))
                except Damaged as error:
                    if path not in self._reported:
                        self._reported.add(path)
                        _log.error("%s cannot be used: %s", path, error)
        return records

    def name(self, record: FileRecord) -> str:
        """Give what the client called a file.

        Raises:
            Damaged: its record was changed.
        """
        return self._open(record)[KEY_BYTES:].decode()

    def chunks(self, record: FileRecord) -> Iterator[bytes]:
        """Give the content in pieces.

        Raises:
            NotThere: it was deleted.
            Damaged: it was changed or cut off.
        """
        key = self._open(record)[:KEY_BYTES]
        try:
            file = (self._layout.files(record.party.tenant_id) / f"{record.id}.data").open("rb")
        except FileNotFoundError as error:
            raise NotThere from error
        with file:
            yield from read_chunks(file, key=key, bound_to=record.content_binding())

    def delete(self, record: FileRecord) -> None:
        """Remove a file and its bytes; one that is gone already is no error."""
        folder = self._layout.files(record.party.tenant_id)
        # The record goes first: without it nothing finds the content, which a sweep removes after a crash.
        for suffix in ("json", "data"):
            (folder / f"{record.id}.{suffix}").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            sync_folder(folder)

    def tidy(self, tenant_id: str, *, keep_s: float) -> None:
        """Remove what uploads and writes left behind that never ended, and records nobody can read that are old."""
        folder = self._layout.files(tenant_id)
        for path in (*folder.glob("*.data"), *folder.glob(".*.tmp")):
            if age_s(path) > ABANDONED_S and not path.with_suffix(".json").exists():
                path.unlink(missing_ok=True)
        for path in folder.glob("file-*.json"):
            with contextlib.suppress(NotThere):
                try:
                    self._read(path)
                except Damaged:
                    if age_s(path) > keep_s:
                        path.unlink(missing_ok=True)
                        path.with_suffix(".data").unlink(missing_ok=True)

    def _read(self, path: Path) -> FileRecord:
        try:
            record = _decode(path.read_bytes())
        except FileNotFoundError as error:
            raise NotThere from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged("its record cannot be read") from error
        if f"{record.id}.json" != path.name:
            raise Damaged("its record is another file's")
        return record

    def _open(self, record: FileRecord) -> bytes:
        return self._keys.open(record.sealed, bound_to=record.binding())


class FileWriter:
    """One file being written; use it in one thread at a time. ``size`` counts plain bytes so far."""

    def __init__(self, folder: Path, record: FileRecord, keys: KeyRing) -> None:
        self._folder = folder
        self._record = record
        self._keys = keys
        self._key = new_key()
        self._path = folder / f"{record.id}.data"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        binding = content_binding(record.party, record.id)
        self._chunks = ChunkWriter(self._file, key=self._key, bound_to=binding)

    @property
    def size(self) -> int:
        """Plain bytes so far."""
        return self._chunks.bytes_written

    def write(self, plain: bytes) -> None:
        """Take the next bytes."""
        self._chunks.write(plain)

    def finish(self, name: str, *, keep_s: float | None = None) -> FileRecord:
        """Make the file durable and visible under ``name``, kept for ``keep_s`` seconds if that is less."""
        self._chunks.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        record = msgspec.structs.replace(self._record, size=self.size)
        if keep_s is not None:
            ends = min(record.expires_at, record.created_at + keep_s)
            record = msgspec.structs.replace(record, expires_at=ends)
        sealed = self._keys.seal(self._key + name.encode(), bound_to=record.binding())
        record = msgspec.structs.replace(record, sealed=sealed)
        write_atomically(self._folder / f"{record.id}.json", msgspec.json.encode(record))
        return record

    def abandon(self) -> None:
        """Remove what was written."""
        self._file.close()
        self._path.unlink(missing_ok=True)
