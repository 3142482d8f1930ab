"""What is done now and has to be undone: one file for each fault, written before it is done."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from embedded.datadir import DataDir, read_json, write_json
from embedded.faults.errors import Refused

FOLDER = "faults"
#: What of a step is put back; the rest says to what.
_STATE: Final = frozenset({"spec", "soft", "hard"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault that lasts ``until`` (seconds since the epoch). ``undo`` is what takes it back, the first step first."""

    id: str
    kind: str
    target: str
    until: float
    undo: Sequence[Mapping[str, Any]]


def opened(
    data_dir: DataDir, *, kind: str, target: str, until: float, undo: Sequence[Mapping[str, Any]]
) -> Fault:
    """Write a fault down that is about to be done."""
    fault = Fault(id=secrets.token_hex(4), kind=kind, target=target, until=until, undo=list(undo))
    put(data_dir, fault)
    return fault


def put(data_dir: DataDir, fault: Fault) -> None:
    """Write a fault down as it is now."""
    write_json(data_dir.folder(FOLDER) / f"{fault.id}.json", dataclasses.asdict(fault))


def closed(data_dir: DataDir, fault: Fault) -> None:
    """Forget a fault that was undone."""
    (data_dir.folder(FOLDER) / f"{fault.id}.json").unlink(missing_ok=True)


def read(data_dir: DataDir, fault_id: str) -> Fault | None:
    """Give one fault that has not been undone yet."""
    kept = read_json(data_dir.folder(FOLDER) / f"{fault_id}.json")
    try:
        return Fault(**kept)
    except TypeError:
        return None


def listed(data_dir: DataDir) -> list[Fault]:
    """Give every fault that has not been undone yet."""
    names = (path.stem for path in sorted(data_dir.folder(FOLDER).glob("[!.]*.json")))
    return [fault for name in names if (fault := read(data_dir, name)) is not None]


def refuse_twice(data_dir: DataDir, undo: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what would note a fault that lasts as the state to put back.

    Raises:
        Refused: to one of these things a fault is done now.
    """
    things = [_thing(step) for step in undo]
    for fault in listed(data_dir):
        if any(_thing(step) in things for step in fault.undo):
            raise Refused(
                f"Fault {fault.id} ({fault.kind} {fault.target}) is done to the same now. Wait for its end, or where"
                f" nobody takes it back: manage.py fault heal {fault.id}."
            )


def _thing(step: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name not in _STATE}
