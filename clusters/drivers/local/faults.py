"""Faults of a Berth whose processes run on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import psutil

from clusters.drivers.base import GiveUp
from clusters.drivers.faults import Kind, Plan, Refused, Wish
from clusters.drivers.local.engine import EngineRecord
from clusters.drivers.local.folder import ClusterFolder
from embedded import keep, processes, proctable
from embedded.datadir import DataDir, write_json
from embedded.faults import doing, parts, wires
from embedded.faults.journal import Fault

_REGION: Final = "BERTH_GATEWAY_REGION"


class LocalFaults:
    """See :class:`clusters.drivers.faults.FaultDriver`. ``clusters_of`` names the local clusters of a region."""

    def __init__(self, data_dir: DataDir, *, clusters_of: Callable[[str], Iterable[str]]) -> None:
        self._data_dir = data_dir
        self._clusters_of = clusters_of

    def plan(self, wish: Wish) -> Plan:
        match wish.kind:
            case Kind.KILL:
                victims = self._victims(wish)
                return Plan(told=f"kill -9 {_listed(victims)}", do=lambda: _drop(parts.kill(victims)))
            case Kind.PAUSE:
                victims = [each for one in self._victims(wish) for each in proctable.tree(one.pid)]
                return Plan(
                    told=f"stop {_listed(victims)}",
                    do=lambda: doing.pause(victims),
                    undo=doing.pausing(victims),
                )
            case Kind.CUT | Kind.SLOW:
                return self._wire(wish)
            case Kind.FILL:
                return self._fill(wish)
            case Kind.GPU:
                return self._gpu(wish)
            case Kind.REGION:
                return self._region(wish)

    def undo(self, fault: Fault) -> None:
        doing.undo(dataclasses.replace(fault, undo=[step for step in fault.undo if "cluster" not in step]))

    def _victims(self, wish: Wish) -> list[psutil.Process]:
        if wish.word != parts.ENGINE:
            return parts.find(self._data_dir, wish.target)
        found = [
            psutil.Process(record.pid)
            for name in self._engines(wish.name)
            if (record := processes.find(self._data_dir, name))
        ]
        if not found:
            raise Refused(f"No engine of {wish.name or 'any endpoint'} runs on {self._data_dir.path}.")
        return wish.among(found)

    def _engines(self, name: str) -> list[str]:
        """Give the processes' names of engines whose deployment has ``name`` in its own."""
        return [each.process for _, each in self._placed() if name in each.deployment]

    def _wire(self, wish: Wish) -> Plan:
        names = [wish.target] if wish.word != parts.ENGINE else self._engines(wish.name)
        if not names:
            raise Refused(f"No engine of {wish.name or 'any endpoint'} runs on {self._data_dir.path}.")
        if wish.word == parts.ENGINE:
            names = wish.among(names)
        paths = [wires.fault_path(self._data_dir, name) for name in names]
        state: Mapping[str, Any] = {"cut": True} if wish.kind is Kind.CUT else {"delay_s": wish.delay_s}

        def do() -> None:
            for path in paths:
                write_json(path, state)

        what = "cut" if wish.kind is Kind.CUT else f"{wish.delay_s * 1000:.0f} ms slower each way"
        return Plan(
            told=f"wires {', '.join(names)}: {what}",
            do=do,
            undo=[step for path in paths for step in doing.marking(path)],
        )

    def _fill(self, wish: Wish) -> Plan:
        if wish.target != "gateway":
            raise Refused(
                "Only a gateway's disk is filled (target: gateway). PostgreSQL and Redis write their own logs: to"
                " practise their loss, kill or pause them."
            )
        victims = parts.find(self._data_dir, "gateway")
        return Plan(
            told=f"no file of {_listed(victims)} grows any more",
            do=lambda: doing.fill(victims),
            undo=doing.filling(victims),
        )

    def _gpu(self, wish: Wish) -> Plan:
        """Break the GPUs of one replica, of an endpoint that is named by its deployment."""
        found = [(cluster, each) for cluster, each in self._placed() if wish.name in each.deployment]
        if wish.word != parts.ENGINE or not found:
            raise Refused(
                f"No engine of {wish.name or 'any endpoint'} runs here. On this machine GPUs are those of an engine:"
                " name it as engine:ENDPOINT."
            )
        marks = [
            _folder(self._data_dir, cluster).gpu_mark(record.deployment, record.index)
            for cluster, record in wish.among(found)
        ]

        def do() -> None:
            for mark in marks:
                mark.write_text("GPU fault (practised): XID 79, GPU has fallen off the bus.")

        return Plan(
            told=f"GPUs of {', '.join(mark.name.removeprefix('gpu-') for mark in marks)} are faulty",
            do=do,
            undo=[step for mark in marks for step in doing.marking(mark)],
        )

    def _placed(self) -> list[tuple[str, EngineRecord]]:
        return [
            (path.parent.parent.name, msgspec.json.decode(path.read_bytes(), type=EngineRecord))
            for path in sorted((self._data_dir.path / "clusters").glob("*/engines/[!.]*.json"))
        ]

    def _region(self, wish: Wish) -> Plan:
        """Lose a region's clusters with their engines, and its gateway: its keeper is stopped, so that none comes."""
        folders = [_folder(self._data_dir, name) for name in self._clusters_of(wish.target)]
        marks = [folder.lost_mark for folder in folders]
        gateways = _of_region(self._data_dir, wish.target)
        if not marks and not gateways:
            raise Refused(f"No cluster and no gateway of this machine stands in region {wish.target!r}.")
        keepers = [parent for each in gateways if (parent := _keeper_of(each))]

        def do() -> None:
            doing.pause(keepers)
            parts.kill(gateways)
            for mark in marks:
                mark.touch()

        lost = [*(f"cluster {folder.cluster}" for folder in folders), *(["its gateway"] if gateways else [])]
        return Plan(
            told=f"region {wish.target} is lost: {', '.join(lost)}",
            do=do,
            undo=[*(step for mark in marks for step in doing.marking(mark)), *doing.pausing(keepers)],
        )


def _folder(data_dir: DataDir, cluster: str) -> ClusterFolder:
    try:
        return ClusterFolder(data_dir, cluster)
    except GiveUp as error:
        raise Refused(str(error)) from error


def _of_region(data_dir: DataDir, region: str) -> list[psutil.Process]:
    try:
        found = parts.find(data_dir, "gateway")
    except Refused:
        return []
    return [each for each in found if each.environ().get(_REGION) == region]


def _keeper_of(process: psutil.Process) -> psutil.Process | None:
    return next((parent for parent in process.parents() if keep.__name__ in parent.cmdline()), None)


def _listed(victims: Sequence[psutil.Process]) -> str:
    return f"{len(victims)} process(es): {', '.join(f'{each.name()} {each.pid}' for each in victims)}"


def _drop(_: object) -> None:
    return None
