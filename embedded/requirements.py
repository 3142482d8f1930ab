"""What the system must bring, checked before anything starts, each lack with its remedy."""

from __future__ import annotations

import importlib.util
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path

from embedded import postgres, redis
from embedded.errors import EmbeddedError, MissingRequirements
from embedded.proctable import SHARED_MEMORY

PYTHON = (3, 11)
GLIBC = (2, 35)
WHEELS = {"pytriton": "nvidia-pytriton", "tokenizers": "tokenizers"}  # import name: distribution
# Debian's packages for libraries that Triton's python stub loads and no wheel brings.
LIBRARY_PACKAGES = {
    "libpython3.11.so.1.0": "libpython3.11",
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
}


def check() -> list[str]:
    """List what is missing, a line each with what to install; empty when all is there."""
    return [*_platform(), *_wheels(), *_programs(), *_triton_libraries(), *_root_tools(), *_shared_memory()]


def ensure() -> None:
    """Do nothing when all is there.

    Raises:
        MissingRequirements: its message lists all that is missing.
    """
    if missing := check():
        raise MissingRequirements(missing)


def _platform() -> list[str]:
    lines = []
    if sys.platform != "linux" or platform.machine() != "x86_64":
        lines.append(f"Linux on x86-64 (this is {sys.platform} on {platform.machine()})")
    if sys.version_info[:2] != PYTHON:
        wanted, running = f"{PYTHON[0]}.{PYTHON[1]}", platform.python_version()
        lines.append(f"Python {wanted} (this is {running}): apt-get install python{wanted}-venv")
    found = re.search(r"(\d+)\.(\d+)", os.confstr("CS_GNU_LIBC_VERSION") or "")
    if found is None or (int(found[1]), int(found[2])) < GLIBC:
        is_now = found[0] if found else "another C library"
        lines.append(f"glibc {GLIBC[0]}.{GLIBC[1]} or newer (this is {is_now}): Debian 12 has it")
    return lines


def _wheels() -> list[str]:
    return [
        f"the Python package {distribution}: make .venv"
        for name, distribution in WHEELS.items()
        if importlib.util.find_spec(name) is None
    ]


def _programs() -> list[str]:
    lines = []
    for find in (postgres.binary, redis.binary):
        try:
            path = find()
        except EmbeddedError as error:
            lines.append(str(error))
        else:
            lines += _missing_libraries(path)
    return lines


def _triton_libraries() -> list[str]:
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        return []  # said by _wheels
    folder = Path(package.origin).parent
    version = f"{PYTHON[0]}.{PYTHON[1]}"
    stub = folder / f"tritonserver/python_backend_stubs/{version}/triton_python_backend_stub"
    if not stub.exists():
        return [f"Triton's python stub for Python {version}: reinstall the Python package nvidia-pytriton"]
    return _missing_libraries(stub, library_path=folder.parent / "nvidia_pytriton.libs")


def _missing_libraries(program: Path, *, library_path: Path | None = None) -> list[str]:
    """Ask the loader which of the program's shared libraries it cannot find."""
    environment = dict(os.environ)
    if library_path is not None:
        environment["LD_LIBRARY_PATH"] = str(library_path)
    argv = ["ldd", str(program)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    lines = []
    for name in re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE):
        package = LIBRARY_PACKAGES.get(name)
        remedy = f": apt-get install {package}" if package else ""
        lines.append(f"the library {name}, which {program.name} loads{remedy}")
    return lines


def _root_tools() -> list[str]:
    """PostgreSQL refuses to run as root: root needs the means to run it as another user."""
    if os.geteuid() != 0:
        return []
    lines = []
    if shutil.which("setpriv") is None:
        lines.append("the program setpriv, to run PostgreSQL as another user: apt-get install util-linux")
    try:
        pwd.getpwnam(postgres.SYSTEM_USER)
    except KeyError:
        if shutil.which("useradd") is None:
            lines.append("the program useradd, to make PostgreSQL's system user: apt-get install passwd")
    return lines


def _shared_memory() -> list[str]:
    if os.access(SHARED_MEMORY, os.W_OK):
        return []
    return [f"a writable {SHARED_MEMORY}, which tritonserver needs: mount a tmpfs there"]
