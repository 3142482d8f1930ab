"""Berth's own processes in a folder that is thrown away afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx

from bench.tools.load import ROOT
from embedded import processes, up
from embedded.datadir import DataDir
from embedded.environment import kept_secrets
from portal.demo import accounts
from tests.scenarios.stack import Stack

START_S: Final = 300.0
SETTINGS: Final = "portal.settings.embedded"
OURS: Final = ("BERTH_", "DATABASE_", "DJANGO_", "CELERY_")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give an empty folder, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="berth-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def whole() -> Iterator[Stack]:
    """Start all of Berth with the demo's estate and people."""
    with folder() as path:
        try:
            yield Stack(path)
        finally:
            up.down(DataDir(path))


@dataclasses.dataclass(frozen=True)
class Berth:
    """Some of Berth's processes, running: the web process with PostgreSQL and Redis at least."""

    portal: str
    data_dir: DataDir

    @property
    def gateway_token(self) -> str:
        return kept_secrets(self.data_dir)["BERTH_GATEWAY_TOKEN"]

    def environment(self) -> dict[str, str]:
        """Give the variables for a command that works on the same database."""
        return {
            **_clean_environment(),
            **up.environment(self.data_dir),
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "STATIC_ROOT": str(self.data_dir.folder("static")),
        }


@contextlib.contextmanager
def web() -> Iterator[Berth]:
    """Start the web process as the Procfile says, on a migrated database with the demo's people."""
    with running("web") as berth:
        yield berth


@contextlib.contextmanager
def running(*names: str, further: Mapping[str, str] | None = None) -> Iterator[Berth]:
    """Start the named processes of the Procfile, the web process among them, with the demo's estate and people.

    ``further`` gives words that are added to the lines of some.
    """
    with folder() as path:
        data_dir = DataDir(path)
        text = (
            (ROOT / "Procfile")
            .read_text()
            .replace(" manage.py ", f" {shlex.quote(str(ROOT / 'manage.py'))} ")
        )
        lines = dict(line.split(": ", 1) for line in text.splitlines())
        procfile = path / "Procfile"
        procfile.write_text(
            "".join(
                f"{name}: {lines[name]} {(further or {}).get(name, '')}".rstrip() + "\n" for name in names
            )
        )
        manage = [sys.executable, str(ROOT / "manage.py")]
        variables = {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "BERTH_GATEWAY_NAME": accounts.GATEWAY,
            "BERTH_GATEWAY_REGION": accounts.GATEWAY_REGION,
            "STATIC_ROOT": str(data_dir.folder("static")),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "embedded", "--data-dir", str(path)]
        command += ["up", "--procfile", str(procfile)]
        for words in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"], ["seed_demo", "-v0"]):
            command += ["--prepare", shlex.join([*manage, *words])]
        for name, value in variables.items():
            command += ["--env", f"{name}={value}"]
        log = path / "up.log"
        with log.open("w") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=_clean_environment(), stdout=out, stderr=out)
        try:
            yield Berth(_await(process, data_dir, log), data_dir)
        finally:
            up.down(data_dir)
            process.wait(30)


def _await(process: subprocess.Popen[bytes], data_dir: DataDir, log: Path) -> str:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        url = up.status(data_dir).urls.get("web", "")
        with contextlib.suppress(httpx.HTTPError):
            if url and httpx.get(f"{url}/healthz", timeout=2).status_code == 200:
                return url
        time.sleep(0.1)
    told = processes.log_tail(data_dir.logs / "web.log")
    raise RuntimeError(f"Berth did not start:\n{log.read_text()[-2000:]}\n{told}")


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
