"""Batches at rest. All methods block, and may run in any thread.

A batch's record has one writer: whoever made it until it is there, then whoever holds its claim. Cancelling only
leaves a mark, which the holder finds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from gateway.batches.crypto import Damaged, KeyRing
from gateway.batches.files import ABANDONED_S, NotThere, age_s
from gateway.batches.layout import Layout
from gateway.batches.objects import BatchRecord, BatchSecrets, Party, is_batch_id
from gateway.files import sync_folder, write_atomically

_log = logging.getLogger(__name__)
_NO_SECRETS: Final = BatchSecrets(journal_key=b"")
_decode_secrets = msgspec.json.Decoder(BatchSecrets).decode


class _Kept(msgspec.Struct, frozen=True):
    """A batch's file: its record without secrets, and these sealed to it."""

    record: BatchRecord
    sealed: bytes


_decode = msgspec.json.Decoder(_Kept).decode


class BatchStore:
    """Batches of all tenants."""

    def __init__(self, layout: Layout, keys: KeyRing) -> None:
        self._layout = layout
        self._keys = keys
        self._ended: dict[str, BatchRecord] = {}  # never change again
        self._reported: set[Path] = set()

    def create(self, record: BatchRecord) -> None:
        """Keep a new batch."""
        folder = self.folder(record)
        folder.mkdir(mode=0o700, parents=True)
        sync_folder(folder.parent)
        self.write(record)

    def write(self, record: BatchRecord) -> None:
        """Replace a batch's record; the caller holds its claim or has just made it."""
        bare = msgspec.structs.replace(record, secrets=_NO_SECRETS)
        sealed = self._keys.seal(msgspec.json.encode(record.secrets), bound_to=_binding(bare))
        write_atomically(self.folder(record) / "batch.json", msgspec.json.encode(_Kept(bare, sealed)))

    def get(self, party: Party, batch_id: str) -> BatchRecord:
        """Find a batch of ``party``.

        Raises:
            NotThere: there is none, or it is another's.
            Damaged: its record was changed.
        """
        if not is_batch_id(batch_id):
            raise NotThere
        record = self._read(self._layout.batches(party.tenant_id) / batch_id)
        if record.party != party:
            raise NotThere
        return record

    def of_tenant(self, tenant_id: str) -> list[BatchRecord]:
        """Give all batches of a tenant, in no order; damaged ones are left out, aloud."""
        records = []
        for folder in self._layout.batches(tenant_id).glob("batch_*"):
            with contextlib.suppress(NotThere):
                try:
                    records.append(self._read(folder))
                except Damaged as error:
                    if folder not in self._reported:
                        self._reported.add(folder)
                        _log.error("%s cannot be used: %s", folder, error)
        return records

    def folder(self, record: BatchRecord) -> Path:
        """Give where a batch's files lie."""
        return self._layout.batches(record.party.tenant_id) / record.id

    def cancel(self, record: BatchRecord, now: float) -> float:
        """Ask whoever runs a batch to stop. Gives since when that is asked."""
        mark = self.folder(record) / "cancel"
        if not mark.exists():
            write_atomically(mark, str(now).encode())
        return self.cancelling_at(record) or now

    def cancelling_at(self, record: BatchRecord) -> float | None:
        """Give since when a batch is to stop, None if it is not."""
        try:
            return float((self.folder(record) / "cancel").read_text())
        except FileNotFoundError:
            return None

    def remove(self, record: BatchRecord) -> None:
        """Remove a batch with all that belongs to it."""
        folder = self.folder(record)
        # Without its record it is gone; the rest may take a second try after a crash.
        (folder / "batch.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        self._ended.pop(record.id, None)

    def tidy(self, tenant_id: str, *, keep_s: float) -> None:
        """Remove what crashes left behind of batches, and batches nobody can read that are old."""
        for folder in self._layout.batches(tenant_id).glob("batch_*"):
            try:
                self._read(folder)
            except NotThere:
                # Its making or its removal never ended.
                if age_s(folder) > ABANDONED_S:
                    shutil.rmtree(folder, ignore_errors=True)
            except Damaged:
                if age_s(folder / "batch.json") > keep_s:
                    shutil.rmtree(folder, ignore_errors=True)

    def _read(self, folder: Path) -> BatchRecord:
        path = folder / "batch.json"
        ended = self._ended.get(folder.name)
        try:
            if ended is not None and self.folder(ended) == folder:
                path.stat()
                return ended
            kept = _decode(path.read_bytes())
        except FileNotFoundError as error:
            self._ended.pop(folder.name, None)
            raise NotThere from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged("its record cannot be read") from error
        if kept.record.id != folder.name:
            raise Damaged("its record is another batch's")
        secrets = _decode_secrets(self._keys.open(kept.sealed, bound_to=_binding(kept.record)))
        record = msgspec.structs.replace(kept.record, secrets=secrets)
        if record.terminal:
            self._ended[record.id] = record
        return record


class Claim:
    """Holds a batch for one process, which may then run it, until it is released or the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> Claim | None:
        """Take the claim of the batch in ``folder``; None if another has it, or the batch is gone."""
        try:
            descriptor = os.open(folder / "claim", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        """Let another have it."""
        os.close(self._descriptor)


def _binding(bare: BatchRecord) -> bytes:
    return b"berth batch\0" + msgspec.json.encode(bare)
