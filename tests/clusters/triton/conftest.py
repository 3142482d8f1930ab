"""A trained model and a running tritonserver, made once for all tests of this folder."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.triton import health
from clusters.triton.language_model import CATALOG
from clusters.triton.language_model.artifact import ensure_artifact
from clusters.triton.language_model.engine.generation import LanguageModel
from clusters.triton.repository import EngineSpec, write_repository
from clusters.triton.server import Installation
from embedded import processes
from embedded.datadir import DataDir

ADMIN_KEY = "admin-key-of-the-tests"


@dataclasses.dataclass(frozen=True)
class RunningEngine:
    url: str
    metrics_url: str
    log: Path

    @property
    def generate(self) -> str:
        return f"{self.url}/v2/models/ensemble/generate"

    @property
    def generate_stream(self) -> str:
        return f"{self.url}/v2/models/ensemble/generate_stream"


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def language_model(model_cache) -> LanguageModel:
    artifact = ensure_artifact(model_cache)
    return LanguageModel(artifact, context_tokens=CATALOG.context_tokens, max_output_tokens=1024)


@pytest.fixture(scope="session")
def engine(tmp_path_factory, model_cache) -> Iterator[RunningEngine]:
    """A server of the shipped model, slowed down to 3 ms a step so that a stream can be watched."""
    root = tmp_path_factory.mktemp("engine")
    data_dir = DataDir(root / "data")
    spec = EngineSpec(
        model=CATALOG.name, context_tokens=512, max_output_tokens=400, max_batch_size=12, token_delay_ms=3
    )
    write_repository(spec, folder=root / "repository", cache=model_cache)
    installation = Installation.find()
    port, metrics_port = processes.free_ports(2)
    command = installation.command(
        repository=root / "repository",
        backends=installation.prepare_backends(root / "triton"),
        port=port,
        metrics_port=metrics_port,
        admin_key=ADMIN_KEY,
        shm_prefix=processes.shm_prefix(data_dir, "tested-engine"),
        exit_timeout_s=2,
    )
    log = root / "engine.log"
    process = processes.spawn("tested-engine", command.argv, data_dir=data_dir, env=command.env, log_path=log)
    found = RunningEngine(
        url=f"http://127.0.0.1:{port}", metrics_url=f"http://127.0.0.1:{metrics_port}", log=log
    )
    try:
        deadline = time.monotonic() + 60
        while not health.is_ready(found.url):
            assert processes.alive(process), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found
    finally:
        processes.stop(process, grace_s=5, first_signal=signal.SIGTERM)
        processes.reap_matching(data_dir, processes.PROCESS, "tested-engine")
