"""What clients send to ``POST /v1/batches``, decoded and checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from gateway import errors
from gateway.batches.crypto import new_key
from gateway.batches.objects import DAY_S, BatchRecord, BatchSecrets, Party, new_batch_id

_WINDOW: Final = re.compile(r"([1-9][0-9]?)h")
_LONGEST_WINDOW_H: Final = 72
_HOUR_S: Final = 3_600
SHORTEST_KEPT_S: Final = 3_600
LONGEST_KEPT_S: Final = 2_592_000
_METADATA: Final = (16, 64, 512)  # pairs, characters of a key, of a value


class KeepFor(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """OpenAI's way to say how long a file is to be kept."""

    anchor: Literal["created_at"]
    seconds: int


class Order(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: KeepFor | None = None


_decode = msgspec.json.Decoder(Order).decode


def read(content: bytes, *, endpoints: Sequence[str]) -> Order:
    """Read a body. ``endpoints`` are the paths that lines may ask.

    Raises:
        ApiError: malformed, of the wrong type, out of range, or unknown (400).
    """
    try:
        order = _decode(content)
    except msgspec.ValidationError as error:
        _, _, path = str(error).partition(" - at `$.")
        raise errors.invalid(f"The request is wrong: {error}.", param=path.rstrip("`") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.invalid("The request body is not valid JSON.", code="malformed_json") from error
    if order.endpoint not in endpoints:
        raise errors.invalid(f"endpoint must be one of {', '.join(endpoints)}.", param="endpoint")
    _hours(order.completion_window)
    pairs, key, value = _METADATA
    metadata = order.metadata or {}
    if len(metadata) > pairs or any(len(k) > key or len(v) > value for k, v in metadata.items()):
        raise errors.invalid(
            f"metadata may hold at most {pairs} pairs, of keys of {key} and values of {value} characters.",
            param="metadata",
        )
    if order.output_expires_after is not None:
        require_kept(order.output_expires_after.seconds, param="output_expires_after")
    return order


def require_kept(seconds: int, *, param: str) -> None:
    """Check how long a client wants a file kept.

    Raises:
        ApiError: it is out of OpenAI's range (400).
    """
    if not SHORTEST_KEPT_S <= seconds <= LONGEST_KEPT_S:
        raise errors.invalid(
            f"{param}.seconds must be from {SHORTEST_KEPT_S} to {LONGEST_KEPT_S}.", param=f"{param}.seconds"
        )


def record(
    order: Order, *, party: Party, key_id: str, now: float, days: float, input_until: float
) -> BatchRecord:
    """Make the batch of an order. Its window ends at the latest when its input goes, at ``input_until``."""
    keep = order.output_expires_after
    return BatchRecord(
        id=new_batch_id(),
        party=party,
        key_id=key_id,
        endpoint=order.endpoint,
        input_file_id=order.input_file_id,
        completion_window=order.completion_window,
        created_at=now,
        deadline=min(now + _hours(order.completion_window) * _HOUR_S, input_until),
        expires_at=now + days * DAY_S,
        keep_output_s=None if keep is None else float(keep.seconds),
        secrets=BatchSecrets(journal_key=new_key(), metadata=order.metadata),
    )


def _hours(window: str) -> int:
    match = _WINDOW.fullmatch(window)
    if match is None or int(match[1]) > _LONGEST_WINDOW_H:
        raise errors.invalid(
            f"completion_window must be 24h, or another from 1h to {_LONGEST_WINDOW_H}h.",
            param="completion_window",
        )
    return int(match[1])
