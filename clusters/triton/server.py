"""The tritonserver of the nvidia-pytriton wheel: where it is, what it needs, how it is started."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

from clusters.triton.errors import EngineNotInstalled

ADMIN_HEADER: Final = "x-berth-admin"
RESTRICTED: Final = "model-repository,model-config,shared-memory,statistics,trace,logging"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_LOG_PREFIX: Final = re.compile(r"^\S+Z [EFWI] \d+ \S+\] ")
_ERROR: Final = re.compile(r"^\S+Z [EF] |^error:|^Signal \((?!15\))|error while loading")
LIBPYTHON: Final = f"libpython{PYTHON}.so.1.0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """What to execute: ``env`` is the whole environment, with nothing of the caller's own in it."""

    argv: tuple[str, ...]
    env: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Installation:
    """Where the wheel keeps its parts."""

    server: Path
    backend: Path
    stub: Path
    libraries: tuple[Path, ...]
    version: str

    @classmethod
    def find(cls) -> Installation:
        """Look the parts up.

        Raises:
            EngineNotInstalled: a part is missing; the message says which and what brings it.
        """
        package = importlib.util.find_spec("pytriton")
        if package is None or package.origin is None:
            raise EngineNotInstalled("the Python package nvidia-pytriton is not installed")
        root = Path(package.origin).parent
        server = root / "tritonserver"
        found = cls(
            server=server / "bin" / "tritonserver",
            backend=server / "backends" / "python",
            stub=server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub",
            libraries=(root.parent / "nvidia_pytriton.libs", *_libpython_folder()),
            version=importlib.metadata.version("nvidia-pytriton"),
        )
        for part in (found.server, found.backend, found.stub):
            if not part.exists():
                raise EngineNotInstalled(f"nvidia-pytriton {found.version} has no {part.relative_to(root)}")
        return found

    def prepare_backends(self, folder: Path) -> Path:
        """Lay the python backend out below ``folder`` as tritonserver wants it, once per version.

        The wheel keeps the stub apart from the backend, where the server does not look for it.
        """
        target = folder / f"backends-{self.version}-py{PYTHON}"
        if target.is_dir():
            return target
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".backends-"))
        try:
            backend = scratch / "python"
            backend.mkdir()
            for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
                shutil.copy(self.backend / name, backend / name)
            shutil.copy(self.stub, backend / self.stub.name)
            os.rename(scratch, target)
        except OSError:
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return target

    def command(
        self,
        *,
        repository: Path,
        backends: Path,
        port: int,
        metrics_port: int,
        admin_key: str,
        shm_prefix: str,
        exit_timeout_s: int,
    ) -> ServerCommand:
        """Make the command line of one server on loopback, speaking HTTP on ``port``.

        ``metrics_port`` serves Prometheus metrics, also while the server is ending.

        ``shm_prefix`` begins the name of everything it puts into /dev/shm. On SIGTERM it stops
        listening at once and ends when its requests have, at the latest after ``exit_timeout_s``.
        """
        argv = (
            str(self.server),
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--model-control-mode=none",
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            "--exit-on-error=true",
            f"--exit-timeout-secs={exit_timeout_s}",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            f"--http-restricted-api={RESTRICTED}:{ADMIN_HEADER}={admin_key}",
            "--allow-grpc=false",
            "--metrics-address=127.0.0.1",
            f"--metrics-port={metrics_port}",
            "--allow-gpu-metrics=false",
            "--allow-cpu-metrics=false",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
            "--log-format=ISO8601",
        )
        env = {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, self.libraries)),
            # The stub takes its site-packages from the first python3 on PATH.
            "PATH": os.pathsep.join((str(Path(sys.prefix) / "bin"), os.defpath)),
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return ServerCommand(argv=argv, env=env)


def failure_reason(log: str, *, lines: int = 3) -> str:
    """Pick from a server's log the last lines that say why it ended; empty when none does."""
    found = []
    for line in log.splitlines():
        if _ERROR.search(line) and "CudaDriverHelper" not in line:  # said on every machine without a GPU
            text = _LOG_PREFIX.sub("", line).partition("\\n\\nAt:")[0]
            found.append(text.strip().strip('"')[:300])
    return "\n".join(found[-lines:])


def _libpython_folder() -> tuple[Path, ...]:
    """Give where the interpreter's shared library is, nothing when the system's loader knows.

    Raises:
        EngineNotInstalled: there is none.
    """
    try:
        ctypes.CDLL(LIBPYTHON)
        return ()
    except OSError:
        folder = Path(sysconfig.get_config_var("LIBDIR") or "/nonexistent")
        if (folder / LIBPYTHON).exists():
            return (folder,)
    raise EngineNotInstalled(f"{LIBPYTHON} is missing; on Debian: apt-get install libpython{PYTHON}")
