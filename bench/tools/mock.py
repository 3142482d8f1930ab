"""The mock upstream as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from bench.tools.load import ROOT

START_S: Final = 15.0


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[str]:
    """Start ``bench.tools.engine`` and give its URL.

    Raises:
        RuntimeError: it did not start.
    """
    port_file = folder / "engine.port"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.tools.engine", str(port_file), cwd=ROOT
    )
    try:
        deadline = time.monotonic() + START_S
        while not port_file.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the mock upstream did not start")
            await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text()}"
    finally:
        process.terminate()
        await process.wait()
