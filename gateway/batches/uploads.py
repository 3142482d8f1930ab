"""Uploads: a multipart body, encrypted to disk as it arrives."""

from __future__ import annotations

import asyncio
import errno
import warnings
from collections import defaultdict
from collections.abc import Awaitable
from typing import Final, TypeVar

from aiohttp import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    BodyPartReader,
    http_exceptions,
    web,
)

from gateway import errors
from gateway.batches import orders
from gateway.batches.files import FileStore, FileWriter
from gateway.batches.objects import DAY_S, FileRecord, Party, Purpose
from gateway.metrics import Metrics

_READ_BYTES: Final = 256 * 1024
_FIELD_BYTES: Final = 1024
#: What a multipart body may have besides the file itself.
_AROUND_BYTES: Final = 64 * 1024
_IDLE_S: Final = 60.0
_LONGEST_NAME: Final = 255
_MOST_FILES: Final = 10_000
_Read = TypeVar("_Read")
# These warnings quote the header, and with it the file's name.
for _category in (BadContentDispositionHeader, BadContentDispositionParam):
    warnings.filterwarnings("ignore", category=_category)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Uploads:
    """Takes files in. Limits are bytes of one file, and of all files of one tenant."""

    def __init__(
        self, files: FileStore, *, metrics: Metrics, file_limit_bytes: int, tenant_limit_bytes: int
    ) -> None:
        self._files = files
        self._metrics = metrics
        self._file_limit = file_limit_bytes
        self._tenant_limit = tenant_limit_bytes
        self._arriving: dict[str, int] = defaultdict(int)  # bytes by tenant

    def deleted(self, record: FileRecord) -> None:
        """Count a file that a client deleted."""
        self._metrics.files.dec()
        self._metrics.files_bytes.dec(record.size)

    async def receive(self, request: web.Request, party: Party, *, days: float) -> FileRecord:
        """Take one file in.

        Raises:
            ApiError: the body is wrong, too large, too slow, or there is no room for it (4xx, 503).
        """
        if request.content_type != "multipart/form-data":
            raise errors.invalid("Send the file as multipart/form-data, with the fields purpose and file.")
        if (request.content_length or 0) > self._file_limit + _AROUND_BYTES:
            raise self._too_large()
        upload = _Upload(self, party, kept=await self.kept(party), days=days)
        try:
            record = await upload.run(request)
        except OSError as error:
            if error.errno in _FULL:
                raise errors.not_ready(
                    "The gateway has no room for files now.", code="storage_full", retry_after_s=60
                ) from error
            raise
        finally:
            await upload.close()
        self._metrics.files.inc()
        self._metrics.files_bytes.inc(record.size)
        return record

    async def kept(self, party: Party) -> int:
        """Count the bytes that the tenant keeps.

        Raises:
            ApiError: it may have no more files, however small (413).
        """
        files = await asyncio.to_thread(self._files.of_tenant, party.tenant_id)
        if len(files) >= _MOST_FILES:
            raise self._no_room(f"{len(files)} files of the {_MOST_FILES} it may have")
        return sum(file.size for file in files)

    def begin(self, party: Party, *, days: float) -> FileWriter:
        """Begin a file. Blocks."""
        return self._files.write(party, Purpose.BATCH, keep_s=days * DAY_S)

    def admit(self, party: Party, count: int, *, size: int, kept: int) -> None:
        """Count ``count`` more bytes that arrive of a file that has ``size`` then.

        Raises:
            ApiError: too many (413).
        """
        if size > self._file_limit:
            raise self._too_large()
        tenant_id = party.tenant_id
        self._arriving[tenant_id] += count
        if kept + self._arriving[tenant_id] > self._tenant_limit:
            raise self._no_room(f"{kept} bytes of the {self._tenant_limit} it may have")

    def release(self, party: Party, count: int) -> None:
        """Count bytes that arrived, and are kept or gone."""
        self._arriving[party.tenant_id] -= count
        if not self._arriving[party.tenant_id]:
            del self._arriving[party.tenant_id]

    def _too_large(self) -> errors.ApiError:
        return errors.ApiError(
            status=413,
            message=f"The file is larger than the {self._file_limit} bytes a file may have here.",
            type="invalid_request_error",
            param="file",
            code="file_too_large",
            close=True,
        )

    def _no_room(self, what: str) -> errors.ApiError:
        return errors.ApiError(
            status=413,
            message=f"Your organisation keeps {what}; this upload would be more. Delete files you do not need.",
            type="invalid_request_error",
            code="files_limit_exceeded",
            close=True,
        )


class _Upload:
    """One body on its way to disk."""

    def __init__(self, uploads: Uploads, party: Party, *, kept: int, days: float) -> None:
        self._uploads = uploads
        self._party = party
        self._kept = kept
        self._days = days
        self._writer: FileWriter | None = None
        self._name = ""
        self._admitted = 0
        self._fields: dict[str, str] = {}

    async def run(self, request: web.Request) -> FileRecord:
        try:
            reader = await request.multipart()
            while (part := await self._within(reader.next())) is not None:
                if not isinstance(part, BodyPartReader):
                    raise errors.invalid("The body nests one multipart body in another.")
                if part.name == "file":
                    await self._file(part)
                else:
                    await self._field(part)
        except (ValueError, http_exceptions.HttpProcessingError, web.HTTPException) as error:
            raise errors.invalid(
                "The body is not well-formed multipart/form-data.", code="malformed_multipart"
            ) from error
        keep_s = self._checked()
        assert self._writer is not None
        writer = self._writer
        # Other files of the tenant may have come meanwhile.
        self._uploads.admit(self._party, 0, size=writer.size, kept=await self._uploads.kept(self._party))
        record = await asyncio.to_thread(writer.finish, self._name, keep_s=keep_s)
        self._writer = None
        return record

    async def close(self) -> None:
        """Let go, and remove what was written of a file that did not come whole."""
        if self._admitted:
            self._uploads.release(self._party, self._admitted)
        if self._writer is not None:
            self._writer.abandon()

    async def _file(self, part: BodyPartReader) -> None:
        if self._writer is not None:
            raise errors.invalid("Send one file at a time.", param="file")
        if part.headers.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
            raise errors.invalid("Send the file as it is, without a transfer encoding.", param="file")
        self._name = _text(part.filename or "upload.jsonl")[:_LONGEST_NAME]
        writer = self._writer = await asyncio.to_thread(self._uploads.begin, self._party, days=self._days)
        block = bytearray()
        while chunk := await self._within(part.read_chunk(_READ_BYTES)):
            size = writer.size + len(block) + len(chunk)
            self._admitted += len(chunk)
            self._uploads.admit(self._party, len(chunk), size=size, kept=self._kept)
            block += chunk
            if len(block) >= _READ_BYTES:
                await asyncio.to_thread(writer.write, bytes(block))
                block.clear()
        await asyncio.to_thread(writer.write, bytes(block))

    async def _field(self, part: BodyPartReader) -> None:
        content = bytearray()
        while chunk := await self._within(part.read_chunk(_FIELD_BYTES)):
            content += chunk
            if len(content) > _FIELD_BYTES:
                name = _text(part.name or "")[:64]
                raise errors.invalid(f"The field {name!r} is too long.", param=name)
        self._fields[_text(part.name or "")] = content.decode(errors="replace")

    def _checked(self) -> float | None:
        """Check what came besides the file; give how many seconds the client wants it kept."""
        fields = dict(self._fields)
        purpose = fields.pop("purpose", None)
        anchor, seconds = (
            fields.pop("expires_after[anchor]", None),
            fields.pop("expires_after[seconds]", None),
        )
        if fields:
            name = min(fields)[:64]
            raise errors.invalid(f"Unknown field: {name}.", param=name, code="unknown_parameter")
        if purpose != Purpose.BATCH:
            raise errors.invalid("purpose must be batch: files are for batches here.", param="purpose")
        if self._writer is None:
            raise errors.invalid("Missing field: file.", param="file", code="missing_required_parameter")
        if anchor is None and seconds is None:
            return None
        if anchor != "created_at" or not (seconds or "").isdigit():
            raise errors.invalid(
                "expires_after must be the anchor created_at and a number of seconds.", param="expires_after"
            )
        orders.require_kept(int(seconds or 0), param="expires_after")
        return float(seconds or 0)

    async def _within(self, reading: Awaitable[_Read]) -> _Read:
        try:
            async with asyncio.timeout(_IDLE_S):
                return await reading
        except TimeoutError as error:
            raise errors.body_too_slow(_IDLE_S) from error


def _text(header: str) -> str:
    """Give what a part's header says in characters that may be written again."""
    return header.encode(errors="replace").decode()
