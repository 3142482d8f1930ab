"""Everything behind the doors of files and batches, put together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gateway import requests
from gateway.batches.batches import BatchStore
from gateway.batches.crypto import KeyRing
from gateway.batches.files import FileStore
from gateway.batches.layout import Layout
from gateway.batches.runner import BatchRunner
from gateway.batches.uploads import Uploads
from gateway.batches.workshop import Asked, Complete, Workshop
from gateway.config import FilesConfig
from gateway.contract import Verb
from gateway.directory import Directory
from gateway.metrics import Metrics

#: What the lines of a batch may ask, by path.
ASKED: Final[Mapping[str, Asked]] = {
    "/v1/chat/completions": Asked(Verb.CHAT, requests.read_chat),
    "/v1/completions": Asked(Verb.COMPLETIONS, requests.read_completion),
    "/v1/embeddings": Asked(Verb.EMBEDDINGS, requests.read_embedding),
}


class Room(NamedTuple):
    """What the doors work with. ``open_batches`` is how many a tenant may have that have not ended."""

    files: FileStore
    batches: BatchStore
    uploads: Uploads
    runner: BatchRunner
    open_batches: int
    clock: Callable[[], float]


def make_room(
    config: FilesConfig,
    *,
    directory: Callable[[], Directory | None],
    complete: Complete,
    metrics: Metrics,
    line_bytes: int,
    clock: Callable[[], float],
) -> Room | None:
    """Open the files folder; None where there are no keys, so that nothing may rest."""
    if not config.keys:
        return None
    layout, keys = Layout(config.folder), KeyRing(config.keys)
    files, batches = FileStore(layout, keys, clock=clock), BatchStore(layout, keys)
    shop = Workshop(
        files=files,
        batches=batches,
        directory=directory,
        complete=complete,
        asked=ASKED,
        metrics=metrics,
        slots=asyncio.Semaphore(config.lines_in_flight),
        heavy=asyncio.Semaphore(1),
        most_in_flight=config.lines_in_flight,
        line_bytes=line_bytes,
        clock=clock,
        rng=random.Random(),  # noqa: S311
    )
    uploads = Uploads(
        files,
        metrics=metrics,
        file_limit_bytes=config.file_limit_bytes,
        tenant_limit_bytes=config.tenant_limit_bytes,
    )
    runner = BatchRunner(shop, layout)
    return Room(files, batches, uploads, runner, config.open_batches, clock)
