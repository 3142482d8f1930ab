"""Key-encryption keys in HashiCorp Vault's transit engine (or OpenBao's): Vault wraps, its keys never leave it."""

from __future__ import annotations

import base64
import binascii
import collections
import re
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from tenants.sealing.errors import CannotOpen, KeyGone, KeysAway
from tenants.sealing.vault_client import VaultClient, VaultRefusal, VaultSettings
from tenants.sealing.wrapping import Wrapped

__all__ = ["Transit", "VaultSettings"]

#: So long, and so many, unwrapped data keys stay in memory: what is opened again and again asks Vault once.
KEPT_S: Final = 60.0
MOST_KEPT: Final = 1_000

_KEY_ID: Final = re.compile(r"([A-Za-z0-9_.-]{1,120}):v([0-9]{1,9})")
_CIPHERTEXT: Final = re.compile(r"vault:v([0-9]{1,9}):[A-Za-z0-9+/=]+")


class Transit:
    """One named key of one transit mount. Key ids are ``NAME:vVERSION``."""

    name = "vault-transit"

    def __init__(self, given: VaultSettings) -> None:
        self._given = given
        self._client = VaultClient(given)
        self._kept = _DataKeys()

    def newest(self) -> str:
        return self.key_ids()[-1]

    def key_ids(self) -> list[str]:
        try:
            oldest, newest = self._versions(self._given.key)
        except KeyGone as error:
            raise KeysAway(str(error)) from error
        return [f"{self._given.key}:v{version}" for version in range(oldest, newest + 1)]

    def holds(self, key_id: str) -> bool:
        found = _KEY_ID.fullmatch(key_id)
        if not found:
            return False
        try:
            oldest, newest = self._versions(found[1])
        except KeyGone:
            return False
        return oldest <= int(found[2]) <= newest

    def wrap(self, data_key: bytes, *, bound_to: bytes) -> Wrapped:
        answer = self._ask("encrypt", self._given.key, {"plaintext": base64.b64encode(data_key).decode()})
        wrapped = self._wrapped(answer, self._given.key, bound_to)
        self._kept.put(wrapped, data_key)
        return wrapped

    def unwrap(self, wrapped: Wrapped) -> bytes:
        name = _name_in(wrapped)
        kept = self._kept.get(wrapped)
        if kept is not None:
            return kept
        answer = self._ask("decrypt", name, {"ciphertext": wrapped.data.decode()})
        try:
            data_key = base64.b64decode(answer["plaintext"], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise CannotOpen("Vault opened it, but gave no data key.") from error
        self._kept.put(wrapped, data_key)
        return data_key

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | Exception]:
        """Have Vault wrap data keys anew; under the same named key they do not leave it."""
        done: list[Wrapped | Exception | None] = [None] * len(wrapped)
        together: list[int] = []
        for index, each in enumerate(wrapped):
            try:
                if _name_in(each) == self._given.key:
                    together.append(index)
                else:
                    done[index] = self.wrap(self.unwrap(each), bound_to=each.bound_to)
            except CannotOpen as error:
                done[index] = error
        if together:
            batch = [{"ciphertext": wrapped[index].data.decode()} for index in together]
            answers = self._batch("rewrap", self._given.key, batch)
            for index, answer in zip(together, answers, strict=True):
                if answer.get("error"):
                    done[index] = _refused(str(answer["error"]))
                else:
                    done[index] = self._wrapped(answer, self._given.key, wrapped[index].bound_to)
        return [each for each in done if each is not None]

    def _versions(self, name: str) -> tuple[int, int]:
        try:
            answer = self._client.get(f"{self._given.mount}/keys/{name}")
        except VaultRefusal as refusal:
            if refusal.status == 404:
                raise KeyGone(f"Vault has no transit key {name} in {self._given.mount}.") from refusal
            raise
        return int(answer["min_decryption_version"]), int(answer["latest_version"])

    def _ask(self, verb: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._client.post(f"{self._given.mount}/{verb}/{name}", body)
        except VaultRefusal as refusal:
            if refusal.status in (400, 404):
                raise _refused(refusal.told) from refusal
            raise

    def _batch(self, verb: str, name: str, batch: list[dict[str, str]]) -> list[dict[str, Any]]:
        try:
            answer = self._client.post(f"{self._given.mount}/{verb}/{name}", {"batch_input": batch})
        except VaultRefusal as refusal:
            # Where every item fails the whole answer is 400, with the items' errors in it.
            results = refusal.data.get("batch_results")
            if refusal.status != 400 or not isinstance(results, list) or len(results) != len(batch):
                raise
            return results
        return list(answer["batch_results"])

    def _wrapped(self, answer: dict[str, Any], name: str, bound_to: bytes) -> Wrapped:
        ciphertext = str(answer.get("ciphertext", ""))
        found = _CIPHERTEXT.fullmatch(ciphertext)
        if not found:
            raise VaultRefusal(502, "it gave no ciphertext of the transit engine")
        return Wrapped(self.name, f"{name}:v{found[1]}", ciphertext.encode(), bound_to)


class _DataKeys:
    """Unwrapped data keys, the newest ones, for a short time."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[Wrapped, tuple[float, bytes]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, wrapped: Wrapped) -> bytes | None:
        with self._lock:
            until, data_key = self._kept.get(wrapped, (0.0, b""))
            return data_key if time.monotonic() < until else None

    def put(self, wrapped: Wrapped, data_key: bytes) -> None:
        with self._lock:
            self._kept[wrapped] = (time.monotonic() + KEPT_S, data_key)
            self._kept.move_to_end(wrapped)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


def _name_in(wrapped: Wrapped) -> str:
    """Give the name of Vault's key that a value names; the database is not trusted with more than a name."""
    found = _KEY_ID.fullmatch(wrapped.key_id)
    if not found or not wrapped.data.isascii() or not _CIPHERTEXT.fullmatch(wrapped.data.decode()):
        raise CannotOpen("It was changed: it names no key of Vault's.")
    return found[1]


def _refused(told: str) -> CannotOpen:
    if "disallowed by policy" in told or "not found" in told or "no existing key" in told:
        return KeyGone(f"Vault has the key that it rests under no more: {told}.")
    return CannotOpen(f"Vault does not open it: {told}.")
