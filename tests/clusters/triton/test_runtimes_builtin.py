"""The shipped model as its container starts it: unpacked beside read-only files, loaded by the real tritonserver."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request

from clusters.triton import health
from clusters.triton.repository import EngineSpec, write_repository
from clusters.triton.runtimes import engine_of
from clusters.triton.server import Installation
from embedded import processes
from embedded.datadir import DataDir
from tests.clusters.triton.specs import spec_of


def test_the_container_serves_what_the_local_driver_serves(tmp_path, model_cache):
    spec = spec_of("triton-python", context_tokens=512, max_output_tokens=64, max_batch_size=4)
    container = engine_of(spec)
    files = tmp_path / "files"
    for path, text in container.files.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_text(text, "utf-8")
    unpacked = tmp_path / "unpacked"
    command = [sys.executable, str(files / "unpack.py"), str(files / "repository"), str(unpacked), "true"]
    subprocess.run(command, check=True, timeout=60)
    local = tmp_path / "local"
    engine = EngineSpec(
        model=spec.model, context_tokens=512, max_output_tokens=64, max_batch_size=4, token_delay_ms=0
    )
    write_repository(engine, folder=local, cache=model_cache)
    assert {str(p.relative_to(unpacked)): p.read_bytes() for p in unpacked.rglob("*") if p.is_file()} == {
        str(p.relative_to(local)): p.read_bytes() for p in local.rglob("*") if p.is_file()
    }

    data_dir = DataDir(tmp_path / "data")
    installation = Installation.find()
    port, metrics_port = processes.free_ports(2)
    server = installation.command(
        repository=unpacked, backends=installation.prepare_backends(tmp_path / "triton"), port=port,
        metrics_port=metrics_port, admin_key="closed", exit_timeout_s=2,
        shm_prefix=processes.shm_prefix(data_dir, "tested-builtin"),
    )  # fmt: skip
    log = tmp_path / "log"
    process = processes.spawn("tested-builtin", server.argv, data_dir=data_dir, env=server.env, log_path=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not health.is_ready(url):
            assert processes.alive(process), log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with urllib.request.urlopen(f"{url}{container.readiness_path}", timeout=5) as answer:
            assert answer.status == 200
        request = urllib.request.Request(
            f"{url}/v2/models/{container.engine_model}/generate",
            data=json.dumps({"text_input": "What is a", "max_tokens": 4}).encode(),
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.loads(answer.read())["text_output"]
    finally:
        processes.stop(process, grace_s=5, first_signal=signal.SIGTERM)
        processes.reap_matching(data_dir, processes.PROCESS, "tested-builtin")
