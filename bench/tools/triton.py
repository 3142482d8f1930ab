"""A real tritonserver with the shipped language model, without Berth around it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clusters.triton import health
from clusters.triton.language_model import CATALOG
from clusters.triton.repository import EngineSpec, write_repository
from clusters.triton.server import Installation
from embedded import processes
from embedded.datadir import DataDir

NAME: Final = "bench-engine"
START_S: Final = 60.0


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Start a server that keeps everything in ``folder`` and give its URL.

    Raises:
        RuntimeError: it did not become ready; the message is the end of its log.
    """
    data_dir = DataDir(folder / "data")
    spec = EngineSpec(
        model=CATALOG.name, context_tokens=CATALOG.context_tokens, max_output_tokens=512, max_batch_size=32
    )
    write_repository(spec, folder=folder / "repository", cache=folder / "models")
    installation = Installation.find()
    port, metrics_port = processes.free_ports(2)
    command = installation.command(
        repository=folder / "repository",
        backends=installation.prepare_backends(folder / "triton"),
        port=port,
        metrics_port=metrics_port,
        admin_key="bench",
        shm_prefix=processes.shm_prefix(data_dir, NAME),
        exit_timeout_s=2,
    )
    log = folder / "engine.log"
    process = processes.spawn(NAME, command.argv, data_dir=data_dir, env=command.env, log_path=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while not health.is_ready(url):
            if not processes.alive(process) or time.monotonic() > deadline:
                raise RuntimeError(f"tritonserver did not become ready:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield url
    finally:
        processes.stop(process, grace_s=5, first_signal=signal.SIGTERM)
        processes.reap_matching(data_dir, processes.PROCESS, NAME)
