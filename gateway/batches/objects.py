"""Files and batches as they are kept, and as clients see them."""

from __future__ import annotations

import enum
import re
import secrets
from typing import Any, Final

import msgspec

DAY_S: Final = 86_400.0
_FILE_ID: Final = re.compile(r"file-[0-9a-f]{24}")
_BATCH_ID: Final = re.compile(r"batch_[0-9a-f]{24}")


class Purpose(enum.StrEnum):
    """What a file is for."""

    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"


class BatchStatus(enum.StrEnum):
    """OpenAI's states of a batch."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset(
    {BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


class Party(msgspec.Struct, frozen=True):
    """Whose something is: only keys of the same tenant and project see it."""

    tenant_id: str
    project_id: str


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file. It never changes; times are seconds since the epoch, UTC, ``size`` counts plain bytes.

    ``sealed`` holds the file's key and name, and authenticates everything else here.
    """

    id: str
    party: Party
    purpose: Purpose
    created_at: float
    expires_at: float
    size: int
    sealed: bytes = b""

    def binding(self) -> bytes:
        """Give what ``sealed`` is bound to: all other members."""
        return b"berth file\0" + msgspec.json.encode(msgspec.structs.replace(self, sealed=b""))

    def content_binding(self) -> bytes:
        """Give what the file's content is bound to."""
        return content_binding(self.party, self.id)


def content_binding(party: Party, file_id: str) -> bytes:
    """Give what the content of a file is bound to."""
    return b"berth content\0" + msgspec.json.encode([party.tenant_id, party.project_id, file_id])


class LineError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of a batch's ``errors``; ``line`` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def document(self) -> dict[str, Any]:
        """Give OpenAI's object."""
        return {"code": self.code, "message": self.message, "param": self.param, "line": self.line}


class Counts(msgspec.Struct, frozen=True):
    """How many of a batch's lines there are, and how many ended which way."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """What clients chose or content may show through, and the key of the batch's journal."""

    journal_key: bytes
    metadata: dict[str, str] | None = None
    errors: tuple[LineError, ...] = ()


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One batch. Whoever holds its claim replaces it whole; times are seconds since the epoch, UTC.

    ``deadline`` is the end of its window. ``ending`` is the state that finalizing leads to. ``secrets`` are kept
    sealed. ``keep_output_s`` is how long the client wants its output kept, None for the tenant's days.
    """

    id: str
    party: Party
    key_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: float
    deadline: float
    expires_at: float
    secrets: BatchSecrets
    keep_output_s: float | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    ending: BatchStatus | None = None
    model: str = ""
    counts: Counts = Counts()
    output_file_id: str | None = None
    error_file_id: str | None = None
    times: dict[str, float] = {}  # of each state that was reached, by its name

    @property
    def terminal(self) -> bool:
        """Whether nothing about it will change."""
        return self.status in TERMINAL

    def moved(self, status: BatchStatus, now: float, **changes: Any) -> BatchRecord:
        """Give the batch in another state."""
        times = {**self.times, status.value: now}
        return msgspec.structs.replace(self, status=status, times=times, **changes)

    def with_errors(self, *errors: LineError) -> BatchRecord:
        """Give the batch with these errors in the place of those it had."""
        return msgspec.structs.replace(self, secrets=msgspec.structs.replace(self.secrets, errors=errors))

    def document(self, *, cancelling_at: float | None) -> dict[str, Any]:
        """Give OpenAI's object. ``cancelling_at`` is when cancelling was asked for, None if it was not."""
        status = self.status
        if cancelling_at is not None and not self.terminal:
            status = BatchStatus.CANCELLING

        def at(state: BatchStatus) -> int | None:
            return int(self.times[state.value]) if state.value in self.times else None

        errors = [error.document() for error in self.secrets.errors]
        done = self.status in TERMINAL
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model or None,
            "errors": {"object": "list", "data": errors} if errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": status.value,
            "output_file_id": self.output_file_id if done else None,
            "error_file_id": self.error_file_id if done else None,
            "created_at": int(self.created_at),
            "in_progress_at": at(BatchStatus.IN_PROGRESS),
            "expires_at": int(self.deadline),
            "finalizing_at": at(BatchStatus.FINALIZING),
            "completed_at": at(BatchStatus.COMPLETED),
            "failed_at": at(BatchStatus.FAILED),
            "expired_at": at(BatchStatus.EXPIRED),
            "cancelling_at": None if cancelling_at is None else int(cancelling_at),
            "cancelled_at": at(BatchStatus.CANCELLED),
            "request_counts": msgspec.to_builtins(self.counts),
            "metadata": self.secrets.metadata,
        }


def new_file_id() -> str:
    """Make the id of a file."""
    return f"file-{secrets.token_hex(12)}"


def new_batch_id() -> str:
    """Make the id of a batch."""
    return f"batch_{secrets.token_hex(12)}"


def is_file_id(text: str) -> bool:
    """Say whether ``text`` has the form of a file's id."""
    return _FILE_ID.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Say whether ``text`` has the form of a batch's id."""
    return _BATCH_ID.fullmatch(text) is not None
