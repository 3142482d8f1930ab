"""What all runs of batches in one process share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from gateway.batches.batches import BatchStore
from gateway.batches.files import FileStore
from gateway.contract import Key, Verb
from gateway.directory import Directory
from gateway.metrics import Metrics
from gateway.requests import Call


class Asked(NamedTuple):
    """What the lines of a batch ask: what their key must be allowed, and how their bodies are read."""

    verb: Verb
    read: Callable[[bytes], Call]


class Complete(Protocol):
    """Answers one request through all that a client's request passes; see ``Inference.complete``."""

    def __call__(
        self,
        *,
        key: Key,
        content: bytes,
        read: Callable[[bytes], Call],
        verb: Verb,
        request_id: str,
        slo_class: str,
    ) -> Awaitable[bytes]:
        """Give the answer's body.

        Raises:
            ApiError: it was refused or failed.
        """


class Workshop(NamedTuple):
    """What all runs of a process share.

    ``directory`` gives the snapshot in use. ``slots`` are the lines that may be in flight, ``heavy`` lets one file
    be read or written whole at a time. ``most_in_flight`` is of one batch, ``line_bytes`` the longest body.
    """

    files: FileStore
    batches: BatchStore
    directory: Callable[[], Directory | None]
    complete: Complete
    asked: Mapping[str, Asked]
    metrics: Metrics
    slots: asyncio.Semaphore
    heavy: asyncio.Semaphore
    most_in_flight: int
    line_bytes: int
    clock: Callable[[], float]
    rng: random.Random
