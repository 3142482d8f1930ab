"""Numbered key-encryption keys that Berth itself holds: from the environment, or from files that may change."""

from __future__ import annotations

import functools
import logging
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from tenants.sealing.errors import CannotOpen, KeyGone, KeysAway
from tenants.sealing.wrapping import Wrapped

log = logging.getLogger(__name__)

_NONCE: Final = 12
_SHORTEST_KEY: Final = 16
_MOST_BYTES: Final = 64 * 1024


class NumberedKeys:
    """Wraps data keys by AES-256-GCM, bound to what they are for and to the key's own name."""

    name: str

    def keys(self) -> Mapping[int, bytes]:
        """Give all keys by number, at least one."""
        raise NotImplementedError

    def newest(self) -> str:
        number = settings.SEALING_KEY_NUMBER or max(self.keys())
        if number not in self.keys():
            raise KeysAway(f"BERTH_SEALING_KEY is {number}, and there is no sealing key of that number.")
        return str(number)

    def key_ids(self) -> list[str]:
        newest = self.newest()
        return [str(number) for number in sorted(self.keys()) if str(number) != newest] + [newest]

    def holds(self, key_id: str) -> bool:
        return key_id.isdecimal() and int(key_id) in self.keys()

    def wrap(self, data_key: bytes, *, bound_to: bytes) -> Wrapped:
        key_id = self.newest()
        nonce = os.urandom(_NONCE)
        data = nonce + self._cipher(key_id).encrypt(nonce, data_key, self._bound(key_id, bound_to))
        return Wrapped(self.name, key_id, data, bound_to)

    def unwrap(self, wrapped: Wrapped) -> bytes:
        nonce, rest = wrapped.data[:_NONCE], wrapped.data[_NONCE:]
        try:
            return self._cipher(wrapped.key_id).decrypt(
                nonce, rest, self._bound(wrapped.key_id, wrapped.bound_to)
            )
        except (InvalidTag, ValueError) as error:
            raise CannotOpen("It was changed, or sealed for another tenant, row or field.") from error

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | Exception]:
        done: list[Wrapped | Exception] = []
        for each in wrapped:
            try:
                done.append(self.wrap(self.unwrap(each), bound_to=each.bound_to))
            except CannotOpen as error:
                done.append(error)
        return done

    def _cipher(self, key_id: str) -> AESGCM:
        if not self.holds(key_id):
            raise KeyGone(
                f"It rests under the key {self.name}:{key_id}, which is not among the sealing keys any more."
            )
        return AESGCM(_derive(self.keys()[int(key_id)]))

    def _bound(self, key_id: str, bound_to: bytes) -> bytes:
        return f"{self.name}|{key_id}|".encode() + bound_to


class EnvironmentKeys(NumberedKeys):
    """``BERTH_SEALING_KEYS``."""

    name = "environment"

    def keys(self) -> Mapping[int, bytes]:
        return settings.SEALING_KEYS


class FileKeys(NumberedKeys):
    """A file with a line ``1:<hex>`` for each key, or a folder with a file for each, named by its number.

    It is read again when it changes; while what is there cannot be used, the keys read last go on.
    """

    name = "file"

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen: object = None
        self._keys: dict[int, bytes] = {}

    def keys(self) -> Mapping[int, bytes]:
        """Give the keys as the file has them now.

        Raises:
            KeysAway: it cannot be used and never could; the message says why.
        """
        with self._lock:
            try:
                seen = _state(self._path)
                if seen != self._seen:
                    self._keys, self._seen = _read(self._path), seen
            except (OSError, ValueError) as error:
                message = f"The sealing keys in {self._path} cannot be used: {error}"
                if not self._keys:
                    raise KeysAway(message) from error
                log.error("%s; the keys read last go on", message)
            return self._keys


def _state(path: Path) -> object:
    """Give what differs once a file, or a file of a folder, was changed."""
    files = _files(path)
    return [(name, *_marks(file.stat())) for name, file in files.items()]


def _marks(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _files(path: Path) -> dict[str, Path]:
    if path.is_dir():
        return {name: path / name for name in sorted(os.listdir(path)) if name.isdecimal()}
    return {"": path}


def _read(path: Path) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for name, file in _files(path).items():
        mode = file.stat().st_mode
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise ValueError(
                f"{file.name} is open to others (mode {stat.S_IMODE(mode):o}); give it mode 400 or 440"
            )
        with file.open() as opened:
            text = opened.read(_MOST_BYTES)
        for line in text.splitlines():
            line = line.strip()
            if line and not line.startswith("#"):
                number, key = _numbered(line, name)
                if number in found:
                    raise ValueError(f"the number {number} is there twice")
                found[number] = key
    if not found:
        raise ValueError("there is no key in it; write 1:<64 hex digits>")
    return found


def _numbered(line: str, name: str) -> tuple[int, bytes]:
    head, _, tail = line.rpartition(":")
    try:
        number, key = int(head or name), bytes.fromhex(tail)
    except ValueError:
        raise ValueError("a key must look like 1:<64 hex digits>") from None
    if number < 1 or len(key) < _SHORTEST_KEY:
        raise ValueError(
            f"key {number} must have a number from 1 and at least {2 * _SHORTEST_KEY} hex digits"
        )
    return number, key


@functools.lru_cache(maxsize=16)
def _derive(key: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"berth sealing v2").derive(key)
