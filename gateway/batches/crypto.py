"""Encryption of what rests: AES-256-GCM under a key for each file, which is wrapped by a key of the environment.

A stream is cut into chunks, each sealed under a nonce of 7 random bytes of the file, the chunk's number, and a last
byte that only the last chunk sets; what the file is, and the chunk's number, are authenticated with it. So a chunk
that is changed, moved, left out or taken from another file, and a file that is cut off or longer, do not open. It is
the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár (https://eprint.iacr.org/2015/189).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK_BYTES: Final = 64 * 1024
KEY_BYTES: Final = 32
_NONCE: Final = 12
_PREFIX: Final = 7
_TAG: Final = 16
_MAGIC: Final = b"berth-1\n"


class Damaged(Exception):
    """What rests on disk is not what was written there, or its key is gone; the message says which."""


class KeyRing:
    """The keys of the environment by number: the highest wraps, all unwrap."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._newest = max(keys)
        self._ciphers = {number: AESGCM(key) for number, key in keys.items()}

    def seal(self, plain: bytes, *, bound_to: bytes) -> bytes:
        """Encrypt ``plain``; it opens again only with the same ``bound_to``."""
        nonce = secrets.token_bytes(_NONCE)
        head = self._newest.to_bytes(4, "big")
        return head + nonce + self._ciphers[self._newest].encrypt(nonce, plain, head + bound_to)

    def open(self, sealed: bytes, *, bound_to: bytes) -> bytes:
        """Decrypt what :meth:`seal` gave.

        Raises:
            Damaged: it was changed, belongs to something else, or its key is not among these.
        """
        head, nonce, rest = sealed[:4], sealed[4 : 4 + _NONCE], sealed[4 + _NONCE :]
        number = int.from_bytes(head, "big")
        cipher = self._ciphers.get(number)
        if cipher is None:
            raise Damaged(f"it is sealed under key {number}, which BERTH_GATEWAY_FILES_KEYS does not hold")
        return _decrypt(cipher, nonce, rest, head + bound_to)


def new_key() -> bytes:
    """Make a key for one file."""
    return secrets.token_bytes(KEY_BYTES)


class Cipher:
    """Seals single pieces under one file's key, each with what it is."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, *, bound_to: bytes) -> bytes:
        """Encrypt ``plain``."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, bound_to)

    def open(self, sealed: bytes, *, bound_to: bytes) -> bytes:
        """Decrypt what :meth:`seal` gave.

        Raises:
            Damaged: it was changed or is something else.
        """
        return _decrypt(self._cipher, sealed[:_NONCE], sealed[_NONCE:], bound_to)


class ChunkWriter:
    """Writes a stream, encrypted, to ``file``. ``bytes_written`` counts the plain ones. Call :meth:`finish` once."""

    def __init__(self, file: BinaryIO, *, key: bytes, bound_to: bytes) -> None:
        self._file = file
        self._cipher = AESGCM(key)
        self._bound_to = bound_to
        self._prefix = secrets.token_bytes(_PREFIX)
        self._waiting = bytearray()
        self._number = 0
        self.bytes_written = 0
        file.write(_MAGIC + self._prefix)

    def write(self, plain: bytes) -> None:
        """Take the next bytes."""
        self.bytes_written += len(plain)
        waiting = self._waiting
        waiting += plain
        # The last chunk may be a full one, so that one full chunk waits until more follows.
        while len(waiting) > CHUNK_BYTES:
            self._chunk(bytes(waiting[:CHUNK_BYTES]), last=False)
            del waiting[:CHUNK_BYTES]

    def finish(self) -> None:
        """Write the last chunk."""
        self._chunk(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _chunk(self, plain: bytes, *, last: bool) -> None:
        nonce = _chunk_nonce(self._prefix, self._number, last)
        self._file.write(self._cipher.encrypt(nonce, plain, _chunk_binding(self._bound_to, self._number)))
        self._number += 1


def read_chunks(file: BinaryIO, *, key: bytes, bound_to: bytes) -> Iterator[bytes]:
    """Give a stream's plain chunks in order.

    Raises:
        Damaged: it is not what was written, or not all of it; what was given before was authentic.
    """
    head = file.read(len(_MAGIC) + _PREFIX)
    if not head.startswith(_MAGIC) or len(head) != len(_MAGIC) + _PREFIX:
        raise Damaged("its head was changed")
    cipher, prefix = AESGCM(key), head[len(_MAGIC) :]
    number = 0
    chunk = file.read(CHUNK_BYTES + _TAG)
    while True:
        following = file.read(CHUNK_BYTES + _TAG)
        last = not following
        yield _decrypt(cipher, _chunk_nonce(prefix, number, last), chunk, _chunk_binding(bound_to, number))
        if last:
            return
        chunk = following
        number += 1


def _chunk_nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _chunk_binding(bound_to: bytes, number: int) -> bytes:
    return bound_to + b"\0" + number.to_bytes(4, "big")


def _decrypt(cipher: AESGCM, nonce: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, sealed, bound_to)
    except (InvalidTag, ValueError) as error:
        raise Damaged("it was changed, cut off, or put in another's place") from error
