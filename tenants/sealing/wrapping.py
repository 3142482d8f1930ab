"""The seam to where key-encryption keys are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """A data key as it rests: which provider wrapped it, under which of its keys, for what."""

    provider: str
    key_id: str
    data: bytes
    bound_to: bytes


class Provider(Protocol):
    """Wraps data keys. Every method raises KeysAway where the keys cannot be had now."""

    name: str

    def newest(self) -> str:
        """Give the id of the key that wraps what is new."""

    def holds(self, key_id: str) -> bool:
        """Say whether what rests under a key can be opened."""

    def key_ids(self) -> list[str]:
        """Give the ids of all keys that open something, the newest last."""

    def wrap(self, data_key: bytes, *, bound_to: bytes) -> Wrapped:
        """Wrap a data key under the newest key."""

    def unwrap(self, wrapped: Wrapped) -> bytes:
        """Give the data key.

        Raises:
            KeyGone: the key it rests under is gone.
            CannotOpen: it was changed, or wrapped for something else.
        """

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | Exception]:
        """Wrap what this provider wrapped under its newest key, each for itself: an error where one does not open."""
