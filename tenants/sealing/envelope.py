"""The form of a sealed value.

::

    0xB1 | length, provider | length, key id | length (2), wrapped data key | nonce (12) | AES-256-GCM ciphertext, tag

The data key is new for each value. The ciphertext is bound to tenant, table, row and field; the head is not, so that
the data key can be wrapped anew without the value being touched.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.sealing.errors import CannotOpen
from tenants.sealing.fields import SealedField
from tenants.sealing.providers import provider_of, sealing_provider
from tenants.sealing.wrapping import Wrapped

_VERSION: Final = b"\xb1"
_NONCE: Final = 12
_KEY: Final = 32
#: No head of a sealed value is longer than this.
LONGEST_HEAD: Final = 1 + 2 * 256
_CHANGED: Final = "It was changed, or sealed for another tenant, row or field."


@dataclasses.dataclass(frozen=True)
class Head:
    """Where the key of a value is."""

    provider: str
    key_id: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.key_id}"

    def packed(self) -> bytes:
        """Give the bytes that every value under this key begins with."""
        return _VERSION + b"".join(
            bytes([len(part)]) + part for part in (self.provider.encode(), self.key_id.encode())
        )


def seal(plain: bytes, *, field: SealedField) -> bytes:
    """Encrypt ``plain`` for one field of one row.

    Raises:
        KeysAway: the sealing keys cannot be had now.
    """
    data_key = os.urandom(_KEY)
    wrapped = sealing_provider().wrap(data_key, bound_to=field.binding)
    nonce = os.urandom(_NONCE)
    return _packed(wrapped) + nonce + AESGCM(data_key).encrypt(nonce, plain, _VERSION + field.binding)


def unseal(sealed: bytes | memoryview, *, field: SealedField) -> bytes:
    """Decrypt what :func:`seal` gave for the same field.

    Raises:
        CannotOpen: it was changed, or sealed for another tenant, row or field.
        KeyGone: the key it rests under is gone.
        KeysAway: the sealing keys cannot be had now.
    """
    wrapped, rest = _unpacked(bytes(sealed), field)
    data_key = provider_of(wrapped.provider).unwrap(wrapped)
    try:
        return AESGCM(data_key).decrypt(rest[:_NONCE], rest[_NONCE:], _VERSION + field.binding)
    except (InvalidTag, ValueError) as error:
        raise CannotOpen(_CHANGED) from error


def rewrap(values: Sequence[tuple[bytes, SealedField]]) -> list[bytes | CannotOpen]:
    """Wrap the data keys of sealed values under the newest key; a value that does not open gives its error.

    The values themselves are not decrypted, and come out as they were.

    Raises:
        KeysAway: the sealing keys cannot be had now.
    """
    to = sealing_provider()
    done: list[bytes | CannotOpen | None] = [None] * len(values)
    same: list[tuple[int, Wrapped, bytes]] = []
    for index, (sealed, field) in enumerate(values):
        try:
            wrapped, rest = _unpacked(sealed, field)
            if wrapped.provider == to.name:
                same.append((index, wrapped, rest))
                continue
            data_key = provider_of(wrapped.provider).unwrap(wrapped)
        except CannotOpen as error:
            done[index] = error
            continue
        done[index] = _packed(to.wrap(data_key, bound_to=field.binding)) + rest
    if same:
        for (index, _, rest), result in zip(same, to.rewrap([each[1] for each in same]), strict=True):
            done[index] = result if isinstance(result, CannotOpen) else _packed(result) + rest
    return [each for each in done if each is not None]


def newest_head() -> Head:
    """Give the head of what is sealed now.

    Raises:
        KeysAway: the provider cannot be asked.
    """
    to = sealing_provider()
    return Head(to.name, to.newest())


def head_of(sealed: bytes) -> Head:
    """Read the head of a sealed value, of which :data:`LONGEST_HEAD` bytes are enough.

    Raises:
        CannotOpen: it is no sealed value, or one of an older version.
    """
    return _head(sealed)[0]


def _packed(wrapped: Wrapped) -> bytes:
    return (
        Head(wrapped.provider, wrapped.key_id).packed() + len(wrapped.data).to_bytes(2, "big") + wrapped.data
    )


def _unpacked(sealed: bytes, field: SealedField) -> tuple[Wrapped, bytes]:
    head, at = _head(sealed)
    begin = at + 2
    end = begin + int.from_bytes(sealed[at:begin], "big")
    if len(sealed) < end + _NONCE:
        raise CannotOpen("It is cut off.")
    return Wrapped(head.provider, head.key_id, sealed[begin:end], field.binding), sealed[end:]


def _head(sealed: bytes) -> tuple[Head, int]:
    if sealed[:1] != _VERSION:
        raise CannotOpen("It was sealed by an older version of Berth; set it anew.")
    parts, at = [], 1
    for _ in range(2):
        length = int.from_bytes(sealed[at : at + 1], "big")
        part = sealed[at + 1 : at + 1 + length]
        if not length or len(part) != length or not part.isascii():
            raise CannotOpen(_CHANGED)
        parts.append(part.decode())
        at += 1 + length
    return Head(*parts), at
