"""What the processes of one data folder find in their environment: secrets, ports, addresses."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from embedded import processes
from embedded.datadir import ENVIRONMENT_NAME, DataDir, read_json, write_json
from embedded.services import Services

PORTS_FILE = "ports.json"
PORTS = ("WEB_PORT", "GATEWAY_PORT")
SECRETS: Mapping[str, Callable[[], str]] = {
    "DJANGO_SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "BERTH_KEY_PEPPERS": lambda: f"1:{secrets.token_hex(32)}",
    "BERTH_SEALING_KEYS": lambda: f"1:{secrets.token_hex(32)}",
    "BERTH_SIGNING_KEYS": lambda: f"1:{secrets.token_hex(32)}",
    "BERTH_GATEWAY_FILES_KEYS": lambda: f"1:{secrets.token_hex(32)}",
    "BERTH_GATEWAY_TOKEN": lambda: f"berth_gateway_{secrets.token_urlsafe(32)}",
}


def process_environment(
    data_dir: DataDir, services: Services, *, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give the whole environment for Berth's processes: the caller's, ours over it, ``extra`` over both.

    Secrets and ports are made at the first call and kept; a port that another program took since
    is chosen anew.
    """
    return {
        **os.environ,
        # Triton's python stub takes its packages from the first python3 on PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        processes.INSTANCE: data_dir.instance,
        **services.environment(),
        **{name: str(port) for name, port in choose_ports(data_dir).items()},
        **folder_variables(data_dir),
        **(extra or {}),
    }


def folder_variables(data_dir: DataDir) -> dict[str, str]:
    """Give what the folder itself keeps: its place, its secrets, the ports chosen last."""
    ports = {name: str(port) for name, port in read_json(data_dir.file(PORTS_FILE), {}).items()}
    return {ENVIRONMENT_NAME: str(data_dir.path), **kept_secrets(data_dir), **ports}


def kept_secrets(data_dir: DataDir) -> dict[str, str]:
    """Give the folder's secrets (secrets.json, mode 0600), making those that are missing."""
    with data_dir.locked("environment"):
        path = data_dir.file("secrets.json")
        kept = read_json(path, {})
        complete = {name: kept.get(name) or make() for name, make in SECRETS.items()}
        if complete != kept:
            write_json(path, kept | complete)
    return complete


def choose_ports(data_dir: DataDir) -> dict[str, int]:
    """Give a free loopback port for each of PORTS, the one of the last start where it is still free."""
    with data_dir.locked("environment"):
        path = data_dir.file(PORTS_FILE)
        kept = read_json(path, {})
        chosen = {name: kept[name] for name in PORTS if name in kept and processes.port_is_free(kept[name])}
        missing = [name for name in PORTS if name not in chosen]
        chosen |= dict(zip(missing, processes.free_ports(len(missing)), strict=True))
        if chosen != kept:
            write_json(path, chosen)
    return chosen


def urls(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the addresses at which people find the processes of this environment."""
    return {
        "web": f"http://127.0.0.1:{environment['WEB_PORT']}",
        "gateway": f"http://127.0.0.1:{environment['GATEWAY_PORT']}",
    }
