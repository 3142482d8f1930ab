"""LiteLLM's proxy, the peer that the gateway is measured beside: pinned, in an environment of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import httpx
import psutil

from bench.tools.load import ROOT

VERSION: Final = "1.106.2"
WORKERS: Final = 2
HOME: Final = ROOT / ".berth-bench" / f"litellm-{VERSION}"
MASTER_KEY: Final = "sk-bench"
HEADERS: Final = {"Authorization": f"Bearer {MASTER_KEY}"}
START_S: Final = 120.0
INSTALL_S: Final = 900.0


class NotInstalled(Exception):
    """The package cannot be had; the message is the end of what the installer said."""


class LiteLlm:
    """A running proxy."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process
        self._seen = psutil.Process(process.pid)

    def resident_mib(self) -> float:
        """Memory in use by all its processes now."""
        family = [self._seen, *self._seen.children(recursive=True)]
        return sum(process.memory_info().rss for process in family) / 2**20


def installed() -> Path:
    """Install it if it is not there yet, and give its command.

    Raises:
        NotInstalled: it cannot be installed.
    """
    command = HOME / "bin" / "litellm"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(HOME)], check=True)
        uv = Path(sys.executable).parent / "uv"
        done = subprocess.run(
            [str(uv), "pip", "install", "-q", f"litellm[proxy]=={VERSION}"],
            env=os.environ | {"VIRTUAL_ENV": str(HOME)}, capture_output=True, text=True, timeout=INSTALL_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise NotInstalled(done.stderr[-2000:])
    return command


@contextlib.asynccontextmanager
async def running(folder: Path, engine_url: str, models: Mapping[str, str]) -> AsyncIterator[LiteLlm]:
    """Start it with a master key and no database; ``models`` maps its models to those of the engine."""
    command = installed()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "litellm.yaml"
    configuration.write_text(_configuration(engine_url, models))
    port = _free_port()
    log = (folder / "litellm.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        str(command), "--config", str(configuration), "--host", "127.0.0.1", "--port", str(port),
        "--num_workers", str(WORKERS),
        cwd=folder, stdout=log, stderr=log, start_new_session=True,
        env={
            "PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(folder), "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        await _ready(process, url, folder / "litellm.log")
        yield LiteLlm(process, url)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        log.close()


def _configuration(engine_url: str, models: Mapping[str, str]) -> str:
    entries = "".join(
        f"  - model_name: {name}\n    litellm_params:\n      model: openai/{model}\n"
        f"      api_base: {engine_url}/v1\n      api_key: none\n"
        for name, model in models.items()
    )
    return (
        f"model_list:\n{entries}general_settings:\n  master_key: {MASTER_KEY}\n"
        "litellm_settings:\n  telemetry: false\n  num_retries: 0\n"
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def _ready(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    async with httpx.AsyncClient() as client:
        while time.monotonic() < deadline and process.returncode is None:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"{url}/health/liveliness")).status_code == 200:
                    return
            await asyncio.sleep(0.2)
    raise RuntimeError(f"LiteLLM did not become ready:\n{log.read_text()[-2000:]}")
