"""Wires: connections of an embedded Berth that lead through a relay, so that they can be cut or made slow.

Only where BERTH_FAULTS=allowed was in the environment that it was started from; without it nothing stands between.
A wire is a file, ``wires/NAME.json`` (port to listen on, port to lead to); its fault is ``wires/NAME.fault``. The
relay (:mod:`embedded.faults.relay`) follows both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from embedded import processes
from embedded.datadir import DataDir, read_json, write_json
from embedded.faults.errors import Refused

VARIABLE = "BERTH_FAULTS"
ALLOWED = "allowed"
FOLDER = "wires"
PROCESS = "wires"
CONTROL_PLANE = "control-plane"  # from the gateway to the web process
PORT = "CONTROL_PLANE_PORT"


@dataclasses.dataclass(frozen=True)
class Wire:
    """One wire: who connects to ``listen`` on loopback reaches ``to``."""

    name: str
    listen: int
    to: int


@dataclasses.dataclass(frozen=True)
class State:
    """What is wrong with a wire now."""

    cut: bool = False
    delay_s: float = 0.0


def allowed(environment: Mapping[str, str]) -> bool:
    """Say whether this environment allows faults."""
    return environment.get(VARIABLE, "") == ALLOWED


def prepare(
    data_dir: DataDir, commands: Mapping[str, str], environment: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Give the Procfile's commands and the environment with wires where faults are allowed, as they are elsewhere."""
    shutil.rmtree(data_dir.path / FOLDER, ignore_errors=True)
    if not allowed(environment):
        return dict(commands), {**environment, PORT: environment["WEB_PORT"]}
    data_dir.folder(FOLDER)
    port = lay(data_dir, CONTROL_PLANE, int(environment["WEB_PORT"]))
    relay = f"{sys.executable} -m embedded.faults.relay"
    return {**commands, PROCESS: relay}, {**environment, PORT: str(port)}


def lay(data_dir: DataDir, name: str, to: int) -> int:
    """Lay a wire and give the port to connect to; where no faults are allowed that is the port itself."""
    if not (data_dir.path / FOLDER).is_dir():
        return to
    wire = Wire(name, processes.free_port(), to)
    write_json(data_dir.folder(FOLDER) / f"{name}.json", dataclasses.asdict(wire))
    return wire.listen


def remove(data_dir: DataDir, name: str) -> None:
    """Take a wire away."""
    for suffix in ("json", "fault"):
        (data_dir.path / FOLDER / f"{name}.{suffix}").unlink(missing_ok=True)


def listed(data_dir: DataDir) -> list[Wire]:
    """Give every wire that is laid."""
    found = (read_json(path) for path in sorted((data_dir.path / FOLDER).glob("[!.]*.json")))
    wires = []
    for kept in found:
        with contextlib.suppress(TypeError):
            wires.append(Wire(**kept))
    return wires


def fault_path(data_dir: DataDir, name: str) -> Path:
    """Say where the fault of a wire is written.

    Raises:
        Refused: there is no such wire.
    """
    names = [wire.name for wire in listed(data_dir)]
    if name not in names:
        raise Refused(
            f"No wire {name} leads through a relay here; there are: {', '.join(names) or 'none'}. Start Berth with"
            f" {VARIABLE}={ALLOWED} in its environment, so that its connections do."
        )
    return data_dir.path / FOLDER / f"{name}.fault"


def state(data_dir: DataDir, name: str) -> State:
    """Read what is wrong with a wire."""
    kept = read_json(data_dir.path / FOLDER / f"{name}.fault")
    return State(**kept) if isinstance(kept, dict) else State()
